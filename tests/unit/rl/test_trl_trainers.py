"""Our GRPOTrainer and RLOOTrainer beside the installed TRL's: by the same settings, the same steps.

Both are given the completions of tests/oracle/live.py instead of their own, and each then does all
of the rest: encoding, log-probabilities, advantages, losses, the way back through the network, two
optimizer steps with weights moved in between. Here every row has a score: test_trl_oracle.py says
how rows without one count.
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trl
from torch import Tensor

from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.logprobs import head_of
from pipeline.rl.rloo import RLOOTrainer
from pipeline.rl.sampler import Completion
from tests.oracle import live
from tests.oracle.live import Row
from tests.ppo_tasks import plain

TWICE = {"num_iterations": 2, "max_steps": 2}
IN_TWO = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 6}
SEQUENCES = {"importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04}

GRPO: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "grpo, scale of the batch": {"loss_type": "grpo", "scale_rewards": "batch"},
    "grpo, no scale": {"loss_type": "grpo", "scale_rewards": False},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "bnpo": {"loss_type": "bnpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "as it comes": {},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.2},
    "gspo": {"loss_type": "grpo", **SEQUENCES},
    "luspo": {"loss_type": "luspo", **SEQUENCES},
    "sapo": {"loss_type": "sapo"},
    "vespo": {"loss_type": "vespo"},
    "vespo, other kernel, beta": {
        **{"loss_type": "vespo", "vespo_k_pos": 1.5, "vespo_lambda_pos": 0.5, "beta": 0.1},
        **{"vespo_k_neg": 0.4, "vespo_lambda_neg": 0.9},
    },
    "two bounds": {"loss_type": "grpo", "delta": 1.25},
    "beta": {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
    "beta as it comes": {"loss_type": "dapo", "beta": 0.1},
    "gspo, beta": {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False, **SEQUENCES},
    "gspo, beta as it comes": {"loss_type": "grpo", "beta": 0.1, **SEQUENCES},
    "cut rows masked": {"loss_type": "grpo", "mask_truncated_completions": True},
    "dapo, cut rows masked": {"loss_type": "dapo", "mask_truncated_completions": True},
    "entropy": {"loss_type": "dapo", "entropy_coef": 0.02},
    "grpo in two passes": {"loss_type": "grpo", **IN_TWO},
    "dapo in two passes": {"loss_type": "dapo", **IN_TWO},
    "gspo in two passes": {"loss_type": "grpo", **SEQUENCES, **IN_TWO},
}
RLOO: dict[str, dict[str, Any]] = {
    "rloo": {"beta": 0.0},
    "rloo as it comes": {},
    "rloo, normalised": {"beta": 0.2, "normalize_advantages": True},
    "rloo, scores clipped": {"beta": 0.2, "reward_clip_range": (-0.5, 0.9)},
    "rloo, cut rows masked": {"beta": 0.0, "mask_truncated_completions": True},
    "rloo in two passes": {"beta": 0.2, **IN_TWO},
}


class Given:
    """A sampler that writes given rows: each prompt's, one after the other."""

    def __init__(self, rows: Sequence[Row], *, is_other_engine: bool) -> None:
        self._rows, self._is_other_engine = rows, is_other_engine

    def __call__(self, module: Any, prompts: Any, *, keys: Any, **_: Any) -> list[Completion]:
        found = []
        for prompt, key in zip(prompts, keys, strict=True):
            of_prompt = [row for row in self._rows if row.prompt == list(prompt)]
            row = of_prompt[key % live.GENERATIONS]
            sampled = row.sampled if self._is_other_engine else None
            own = None if all(row.own) else row.own
            found.append(Completion(row.completion, not row.is_cut, sampled, own))
        return found


def scored(rows: list[Row]) -> list[Row]:
    return [row if row.score is not None else replace(row, score=-0.4) for row in rows]


def train_ours(
    method: str,
    given: Sequence[Row],
    folder: Path,
    *,
    is_other_engine: bool = False,
    **settings: Any,
) -> list[dict[str, Tensor]]:
    """Train with our trainer on the rows, and return the gradients of each step."""
    by_ids = {tuple(row.completion): row.score for row in given}

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        return [by_ids[tuple(ids)] for ids in completion_ids]

    config, trainer_class = {
        "grpo": (GRPOConfig, GRPOTrainer),
        "rloo": (RLOOConfig, RLOOTrainer),
    }[method]
    usual = {
        **plain(folder),
        **live.TRAINING,
        "num_generations": live.GENERATIONS,
        "max_completion_length": live.LONGEST,
        "per_device_train_batch_size": len(given),
    }
    gradients: list[dict[str, Tensor]] = []
    policy = live.policy()
    sampler = Given(given, is_other_engine=is_other_engine)
    with patch("pipeline.rl.trainer.make_sampler", lambda *_: sampler):
        trainer: Any = trainer_class(
            policy,
            [reward],
            config(**{**usual, **settings}),
            [{"input_ids": row.prompt} for row in given[:: live.GENERATIONS]],
            processing_class=live.tokenizer(),
            ref_model=live.reference(folder),
            callbacks=[live.StepWatch(gradients, policy)],
        )
    trainer.train()
    return gradients


def compare(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> None:
    """Assert that each step's gradients are alike, to 1e-6 and to 1e-5 of the largest."""
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        largest = max(float(each.abs().max()) for each in other.values())
        assert largest > 1e-3
        for name, each in other.items():
            apart = float((mine[name] - each).abs().max())
            assert apart <= 1e-6 + 1e-5 * largest, f"{name}: {apart} of {largest}"


@pytest.mark.parametrize("name", GRPO)
def test_our_grpo_has_the_gradients_of_trls(name: str, tmp_path: Path) -> None:
    given = scored(live.rows())
    theirs = live.ask("grpo", given, tmp_path, **GRPO[name], **TWICE)
    compare(train_ours("grpo", given, tmp_path, **GRPO[name], **TWICE), theirs.gradients)


@pytest.mark.parametrize("name", RLOO)
def test_our_rloo_has_the_gradients_of_trls(name: str, tmp_path: Path) -> None:
    given = scored(live.rows())
    theirs = live.ask("rloo", given, tmp_path, **RLOO[name], **TWICE)
    compare(train_ours("rloo", given, tmp_path, **RLOO[name], **TWICE), theirs.gradients)


@pytest.mark.parametrize("name", ["gspo", "vespo", "luspo", "dapo"])
def test_a_response_may_cross_chunks_of_the_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five tokens at a time, of responses of up to six."""
    monkeypatch.setattr("pipeline.rl.logprobs._elements_at_a_time", lambda _: 5 * live.VOCABULARY)
    monkeypatch.setattr("pipeline.rl.logprobs._LEAST_TOKENS", 1)
    assert len(list(head_of(live.policy()).chunks(10))) == 2
    given = scored(live.rows())
    theirs = live.ask("grpo", given, tmp_path, **GRPO[name], **TWICE)
    compare(train_ours("grpo", given, tmp_path, **GRPO[name], **TWICE), theirs.gradients)


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo", "vespo", "beta"])
def test_tools_are_left_out_as_trl_leaves_them_out(name: str, tmp_path: Path) -> None:
    given = scored(live.rows(with_tools=True))
    theirs = live.ask("grpo", given, tmp_path, **GRPO[name], **TWICE)
    compare(train_ours("grpo", given, tmp_path, **GRPO[name], **TWICE), theirs.gradients)


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_mask"])
def test_what_another_engine_sampled_is_weighed_as_trl_weighs_it(mode: str, tmp_path: Path) -> None:
    given = scored(live.rows())
    settings = {
        "vllm_importance_sampling_mode": mode,
        "vllm_importance_sampling_clip_min": 0.01 if mode == "sequence_mask" else 0.6,
        "vllm_importance_sampling_clip_max": 9.0 if mode == "sequence_mask" else 1.5,
        **TWICE,
    }
    theirs = live.ask("grpo", given, tmp_path, is_other_engine=True, **settings)
    ours = train_ours(
        "grpo", given, tmp_path, is_other_engine=True, rollout_engine="vllm", **settings
    )
    compare(ours, theirs.gradients)


def test_the_kl_of_masked_rows_is_in_our_rewards_and_not_in_trls(tmp_path: Path) -> None:
    """TRL takes no KL off the score of a cut row, and so gives it to its group's baseline."""
    given = scored(live.rows())
    settings = {"beta": 0.2, "mask_truncated_completions": True, **TWICE}
    theirs = live.ask("rloo", given, tmp_path, **settings)
    ours = train_ours("rloo", given, tmp_path, **settings)
    assert distance(ours[0], theirs.gradients[0]) > 0.1


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    return max(float((each - ours[name]).abs().max()) for name, each in theirs.items())


def test_defaults_are_trls_unless_a_field_says_so() -> None:
    """Where `None` means TRL's default, or one by the kind of model, that is said, too."""
    apart = {
        *("learning_rate", "adam_epsilon", "logging_steps", "disable_dropout"),
        *("bf16", "gradient_checkpointing"),  # how it is computed, not what
    }
    for own, other in ((GRPOConfig, trl.GRPOConfig), (RLOOConfig, trl.RLOOConfig)):
        ours, theirs = (
            {each.name: each.default for each in fields(kind) if each.default is not MISSING}
            for kind in (own, other)
        )
        both = ours.keys() & theirs.keys()
        assert {"epsilon", "beta", "num_generations", "mask_truncated_completions"} <= both
        assert {name for name in both if ours[name] != theirs[name]} <= apart
