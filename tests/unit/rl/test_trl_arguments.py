"""A script written for TRL's GRPO or RLOO runs here, or is told what cannot be meant."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import trl

from pipeline.config.trl_arguments import ABSENT
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.config.upstream import convert_config
from pipeline.rl.grpo import GRPOTrainer
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.small_trainers import VOCABULARY

CONFIGS = [(GRPOConfig, trl.GRPOConfig), (RLOOConfig, trl.RLOOConfig)]
SMALL = {"max_completion_length": 4, "per_device_train_batch_size": 4, "num_generations": 2}
ROWS = [{"prompt": text, "answer": text[-1]} for text in ("t3 t4", "t5 t6")]
RUN = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "max_steps": 1,
    "logging_steps": 1,
}


@pytest.mark.parametrize(("ours", "theirs"), CONFIGS)
def test_every_argument_of_trls_is_one_of_ours_or_absent_with_a_reason(
    ours: type, theirs: type
) -> None:
    own = {field.name for field in dataclasses.fields(ours)}
    unknown = {f.name for f in dataclasses.fields(theirs) if f.init} - own - ABSENT.keys()
    assert not unknown
    assert not own & ABSENT.keys()


@pytest.mark.parametrize(("ours", "theirs"), CONFIGS)
def test_a_config_of_trls_serves_as_it_is(ours: Any, theirs: Any, tmp_path: Path) -> None:
    asked = theirs(str(tmp_path), **RUN, **SMALL, beta=0.3, steps_per_generation=2, epsilon=0.1)
    found = convert_config(asked, ours)
    assert type(found) is ours
    assert (found.beta, found.epsilon, found.rollout_size) == (0.3, 0.1, 8)
    assert found.steps_per_rollout == 2


@pytest.mark.parametrize(
    ("name", "value", "neutral"),
    [("top_p", 0.9, 1.0), ("sync_ref_model", True, False), ("top_k", 50, 0)],
)
def test_what_is_not_supported_is_refused_unless_it_asks_for_nothing(
    name: str, value: Any, neutral: Any, tmp_path: Path
) -> None:
    GRPOConfig(**{**plain(tmp_path), **SMALL, name: neutral})
    with pytest.raises(ValueError, match=rf"`{name}` {value} is not supported here: "):
        GRPOConfig(**{**plain(tmp_path), **SMALL, name: value})
    with pytest.raises(ValueError, match=rf"`{name}` {value} is not supported here: "):
        convert_config(trl.GRPOConfig(str(tmp_path), **RUN, **SMALL, **{name: value}), GRPOConfig)


class Recorder:
    """A reward function as TRL's documentation has them, and what it was called with."""

    __name__ = "recorder"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompts: list[str],
        completions: list[str],
        answer: list[str],
        log_extra: Any = None,
        log_metric: Any = None,
        **kwargs: Any,
    ) -> list[float | None]:
        self.calls.append({"prompts": prompts, "answer": answer, **kwargs})
        log_extra("gold", answer)
        log_metric("share", 0.5)
        lengths = [len(text) for text in completions]
        return [None, *[float(length) for length in lengths[1:]]]


@pytest.mark.parametrize("side", ["ours", "trl"])
def test_one_reward_function_serves_both(side: str, llama: Any, tmp_path: Path) -> None:
    """Same arguments of the same sorts; None and what is logged are understood by both."""
    reward, tokenizer = Recorder(), tiny_tokenizer(VOCABULARY)
    settings: dict[str, Any] = {"output_dir": str(tmp_path), "report_to": "none"}
    settings |= {**RUN, **SMALL, "save_strategy": "no"}
    llama.name_or_path = "tiny"
    if side == "ours":
        trainer: Any = GRPOTrainer(llama, reward, GRPOConfig(**settings), ROWS, None, tokenizer)
    else:
        from datasets import Dataset

        rows = Dataset.from_list(ROWS)
        args = trl.GRPOConfig(**settings)
        trainer = trl.GRPOTrainer(llama, reward, args, rows, processing_class=tokenizer)
    trainer.train()
    (call,) = reward.calls
    assert sorted(call["prompts"]) == ["t3 t4", "t3 t4", "t5 t6", "t5 t6"]
    assert [prompt[-1] for prompt in call["prompts"]] == call["answer"]
    assert set(call) == {"prompts", "answer", "completion_ids", "trainer_state"}
    assert all(isinstance(token, int) for ids in call["completion_ids"] for token in ids)
    assert call["trainer_state"].max_steps == 1
