"""What ends a response beside the end of a text: tokens and texts of the user's."""

from typing import Any

import pytest

from tests.unit.rl.small_trainers import (
    MakeTrainer,
    lines_of,
)


@pytest.mark.parametrize("engine", ["own", "generate"])
def test_further_tokens_end_a_response_as_eos_does(
    engine: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    seen: list[Any] = []

    def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen.extend(zip(completions, completion_ids, strict=True))
        return [0.0 for _ in completions]

    stops = list(range(2, 32, 2))
    settings = {"stop_token_ids": stops, "max_completion_length": 12, "learning_rate": 0.0}
    trainer = make_trainer(llama, rewards=[reward], rollout_engine=engine, **settings)
    trainer.train()
    assert any(len(ids) > 1 for _, ids in seen)
    for text, ids in seen:
        is_ended = ids[-1] in (1, *stops)
        assert is_ended or len(ids) == 12
        assert not set(ids[:-1]) & {1, *stops}
        assert text.split() == [f"t{each}" for each in (ids[:-1] if is_ended else ids)]
    with pytest.raises(ValueError, match="`stop_token_ids` has 32, and the model writes 32 tokens"):
        make_trainer(llama, stop_token_ids=[32])


@pytest.mark.parametrize("engine", ["own", "generate"])
def test_a_text_ends_a_response_where_it_is_complete(
    engine: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    """Of two words, one of which ends within a longer one; and it is what was sampled before it."""
    seen: list[Any] = []

    def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen.extend(zip(completions, completion_ids, strict=True))
        return [0.0 for _ in completions]

    stops = ["t2", "5 t1"]  # t2 and t20 to t29; t5, t15 or t25 before t10 to t19
    settings = {"max_completion_length": 20, "learning_rate": 0.0, "num_ppo_epochs": 1}
    settings |= {"total_episodes": 64, "per_device_train_batch_size": 32}
    trainer = make_trainer(
        llama, rewards=[reward], rollout_engine=engine, stop_strings=stops, **settings
    )
    trainer.train()
    endings: list[str] = []
    for text, ids in seen:
        words = [f"t{each}" for each in ids]
        whole = " ".join(words)
        cut = min((whole.find(stop) for stop in stops if stop in whole), default=None)
        if cut is not None:
            assert not any(stop in " ".join(words[:-1]) for stop in stops)
            assert text.strip() == whole[:cut].strip()
            endings.append("text")
        elif ids[-1] == 1:
            assert text.split() == words[:-1]
            endings.append("eos")
        else:
            assert len(ids) == 20
            endings.append("cut")
    assert "text" in endings
    line = lines_of(trainer)[-1]
    assert line["eos_rate"] == 1 - endings[32:].count("cut") / 32
    assert line["rollout/logp_gap"] < 1e-5


def test_a_control_token_is_no_text(llama: Any, make_trainer: MakeTrainer) -> None:
    """It is left out of a response's text, and would never be found there."""
    with pytest.raises(ValueError, match=r"control token `t0`; write `stop_token_ids: \[0\]`"):
        make_trainer(llama, stop_strings=["t0"])
    with pytest.raises(ValueError, match="`stop_strings` is 'ab'; write a list of texts"):
        make_trainer(llama, stop_strings="ab")
