"""Responses that no reward scores (None): counted, and trained on with no weight whatsoever."""

import itertools
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from pipeline.errors import PosttrainError
from pipeline.rl.best_of_n import expected_best
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.experience import experience_of
from pipeline.rl.rollout import ScoredRow
from tests.unit.rl.small_trainers import MakeTrainer, Written, are_same, lines_of, weights_of

NAN = math.nan
_WRITTEN = [[7, 5, 1], [9, 9, 9, 1], [7, 7, 6, 5], [5, 6, 1], [9, 8, 1], [6, 7, 1], [5, 5, 7, 1]]


def sevens_without_nines(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    return [None if 9 in ids else float(ids.count(7)) for ids in completion_ids]


def sevens_or_0(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [0.0 if 9 in ids else float(ids.count(7)) for ids in completion_ids]


def some_rows() -> list[ScoredRow]:
    generator = torch.Generator().manual_seed(2)
    rows: list[ScoredRow] = []
    for number, length in enumerate([3, 5, 1, 4]):
        drawn = torch.randn(3, length, generator=generator)
        ids, has_eos = [5] * length, number % 2 == 0
        rows.append(
            ScoredRow(
                **{"number": number, "prompt": 0, "prompt_ids": [3], "completion_ids": ids},
                **{"has_eos": has_eos, "logprobs": drawn[0], "reference": drawn[1]},
                **{"values": drawn[2], "value_after": 0.3, "entropy": 1.0, "sampled": None},
                own=torch.ones(length, dtype=torch.bool),
                rewards=torch.zeros(1),
            )
        )
    return rows


@pytest.mark.parametrize("whiten", [False, True])
def test_experience_is_that_of_the_rows_with_a_score(whiten: bool, tmp_path: Path) -> None:
    args = PPOConfig(output_dir=str(tmp_path), whiten_rewards=whiten, truncation="bootstrap")
    rows, scores = some_rows(), torch.tensor([1.0, NAN, 0.5, NAN])
    found, metrics = experience_of(rows, scores, 0.05, args)
    alone, expected = experience_of([rows[0], rows[2]], scores[[0, 2]], 0.05, args)
    for name in ("mask", "logprobs", "reference", "values", "advantages", "returns"):
        assert torch.equal(getattr(found, name), getattr(alone, name)), name
    assert (found.prompts, found.completions) == (alone.prompts, alone.completions)
    of_sampling = {"eos_rate": 0.5, "completions/length_mean": 13 / 4, "completions/length_max": 5}
    assert {name: metrics[name] for name in of_sampling} == pytest.approx(of_sampling)
    trained_on = ("objective/kl", "objective/rlhf_reward", "value/", "returns/", "advantage/")
    for name in metrics:
        if name.startswith(trained_on):
            assert metrics[name] == expected[name], name


def test_what_a_response_without_a_reward_says_changes_no_weight(
    make_trainer: MakeTrainer,
) -> None:
    """Nor does how often: moments, whitening and the KL controller leave it out."""
    settings: dict[str, Any] = {
        **{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        **{"num_mini_batches": 2, "total_episodes": 24, "learning_rate": 1e-2},
        **{"reward_normalisation": "running", "kl_target": 1.0, "kl_horizon": 50.0},
        "missing_eos_penalty": 0.5,
    }

    def ends(written: list[list[int]], reward: Any) -> tuple[dict[str, Any], list[Any]]:
        from tests.ppo_tasks import tiny_llama

        shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
        trainer = make_trainer(tiny_llama(0, 32, **shape), rewards=reward, **settings)
        trainer.collector.sampler = Written(written)
        trainer.train()
        return weights_of(trainer.model), lines_of(trainer)

    weights, lines = ends(_WRITTEN, sevens_without_nines)
    # Of the same lengths, so that the passes that score the others are padded alike.
    others = [[9] + [8] * (len(ids) - 1) if 9 in ids else ids for ids in _WRITTEN]
    other_weights, other_lines = ends(others, sevens_without_nines)
    assert are_same(weights, other_weights)
    assert [line["objective/kl_coef"] for line in lines] == [
        line["objective/kl_coef"] for line in other_lines
    ]
    assert [line["rewards/sevens_without_nines/none"] for line in lines] == [2, 3, 2]
    assert [line["rewards/unscored"] for line in lines] == [2, 3, 2]
    assert not are_same(weights, ends(_WRITTEN, sevens_or_0)[0]), "None counts as 0"


def test_a_step_without_a_reward_is_left_out(llama: Any, make_trainer: MakeTrainer) -> None:
    """One row of four has a reward: three of four mini-batches are empty."""
    told: dict[int, dict[str, float]] = {}
    for mini_batches in (1, 4):
        trainer = make_trainer(
            llama,
            rewards=sevens_without_nines,
            **{"per_device_train_batch_size": 4 // mini_batches, "num_mini_batches": mini_batches},
            **{"total_episodes": 4, "num_ppo_epochs": 1, "learning_rate": 0.0},
        )
        trainer.collector.sampler = Written([[9, 1], [7, 5, 1], [9, 9, 1], [9, 1]])
        trainer.train()
        told[mini_batches] = lines_of(trainer)[0]
    assert told[4]["rewards/unscored"] == 3
    for name in ("loss/policy", "loss/value", "value/grad_norm", "policy/grad_norm"):
        assert told[4][name] == pytest.approx(told[1][name], rel=1e-5, abs=1e-6), name
    assert told[1]["value/grad_norm"] > 0


def test_a_rollout_without_any_reward_stops_the_training(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(llama, rewards=sevens_without_nines)
    trainer.collector.sampler = Written([[9, 1]])
    with pytest.raises(PosttrainError, match="no response of this rollout got a reward"):
        trainer.train()


@pytest.mark.parametrize("n", [1, 2, 4])
def test_best_of_n_never_chooses_a_response_without_a_score(n: int) -> None:
    scores, values = [2.0, NAN, 1.0, NAN, 3.0, 0.5], [20.0, NAN, 10.0, -1.0, 30.0, 5.0]
    best: list[float] = []
    for subset in itertools.combinations(range(6), n):
        scored = [i for i in subset if not math.isnan(scores[i])]
        if scored:
            best.append(values[max(scored, key=scores.__getitem__)])
    assert expected_best(scores, values, n) == pytest.approx(fmean(best))
