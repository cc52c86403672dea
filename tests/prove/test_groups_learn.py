"""Methods without a critic learn PPO's small tasks with every one of three seeds; mistakes do not.

GRPO and RLOO all of them, their kin two. Each mistake is made by hand in our own functions: without
it the task is learnt, with it it is not, so that the bounds tell the one from the other.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.rl import core
from pipeline.rl.batch import Batch
from tests.group_tasks import CALL, GROUP, METHODS, Calling, learn_in_groups
from tests.ppo_tasks import (
    BANDIT,
    BETA,
    COPY,
    DELAYED_CREDIT,
    EARLY_END,
    KNOWN_OPTIMUM,
    SHARED_BANDIT,
    Outcome,
    distance_to_optimum,
)

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)
TASKS = {
    "bandit": BANDIT,
    "copy": COPY,
    "delayed credit": DELAYED_CREDIT,
    "early end": EARLY_END,
    "bandit with an adapter": replace(
        SHARED_BANDIT, settings={**SHARED_BANDIT.settings, "activation_checkpointing": False}
    ),
}
KIN = tuple(name for name in METHODS if name not in ("grpo", "rloo"))
OPTIMUM = replace(KNOWN_OPTIMUM, within=100)
Say = Callable[..., None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Say:
    """Print what came of a test, whatever is captured."""

    def said(outcome: Outcome, more: str = "") -> None:
        last = outcome.lines[-1]
        names = ("objective/scores_after", "eos_rate", "objective/kl", "groups/without_spread")
        figures = ", ".join(f"{name} {last[name]:.3f}" for name in names)
        after = outcome.learnt_after or f"not in {len(outcome.lines)}"
        with capsys.disabled():
            print(f"\n{request.node.name}: learnt after {after}: {figures} {more}")

    return said


def _ratios_begin_at_1(outcome: Outcome) -> bool:
    return max(line["policy/ratio_first"] for line in outcome.lines) - 1 <= 1e-4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_learnt(name: str, method: str, seed: int, tmp_path: Path, say: Say) -> None:
    outcome = learn_in_groups(TASKS[name], METHODS[method], seed, tmp_path)
    say(outcome)
    assert outcome.learnt_after is not None
    assert _ratios_begin_at_1(outcome)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", KIN)
@pytest.mark.parametrize("name", ["bandit", "copy"])
def test_its_kin_learn_two(name: str, method: str, seed: int, tmp_path: Path, say: Say) -> None:
    outcome = learn_in_groups(TASKS[name], METHODS[method], seed, tmp_path)
    say(outcome)
    assert outcome.learnt_after is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_tool_is_called_and_not_imitated(
    method: str, seed: int, tmp_path: Path, say: Say
) -> None:
    outcome = learn_in_groups(CALL, METHODS[method], seed, tmp_path, sampler=Calling)
    say(outcome)
    assert outcome.learnt_after is not None
    assert _ratios_begin_at_1(outcome)


# Of a group's mean each response is a part itself, which makes rewards smaller by one of the group.
# In a loss the KL has no baseline: its noise ends with the learning rate only.
_OF_GROUP = BETA * GROUP / (GROUP - 1)
_IN_LOSS = {"lr_scheduler_type": "linear"}
_UNCORRECTED = {**_IN_LOSS, "use_bias_correction_kl": False}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("method", "changes", "optimum"),
    [
        pytest.param("rloo", {}, {}, id="in the reward"),
        pytest.param("dr_grpo", _IN_LOSS, {"coefficient": _OF_GROUP}, id="in the loss"),
        pytest.param(
            *("dr_grpo", _UNCORRECTED, {"coefficient": _OF_GROUP, "of": "reference"}),
            id="in the loss, k3 alone",
        ),
    ],
)
def test_a_kl_penalty_leads_to_the_optimum_that_can_be_written_down(
    method: str,
    changes: dict[str, Any],
    optimum: dict[str, Any],
    seed: int,
    tmp_path: Path,
    say: Say,
) -> None:
    """B09: undivided, or rewards had no scale. Without the ratio k3 has the other KL's gradient."""
    outcome = learn_in_groups(OPTIMUM, METHODS[method], seed, tmp_path, **changes)
    found = distance_to_optimum(outcome, **optimum)
    say(outcome, f"{found}")
    assert found.total_variation < 0.05
    assert abs(found.kl - found.optimal_kl) < 0.2
    if changes:
        assert distance_to_optimum(outcome).total_variation > 0.05


def test_without_its_kl_penalty_the_optimum_is_missed(tmp_path: Path, say: Say) -> None:
    """B09, a control."""
    outcome = learn_in_groups(OPTIMUM, METHODS["rloo"], 0, tmp_path, beta=0.0)
    say(outcome)
    assert distance_to_optimum(outcome).total_variation > 0.1


def _fails(outcome: Outcome, say: Say, *, below: float) -> None:
    say(outcome)
    assert outcome.learnt_after is None
    assert outcome.lines[-1]["objective/scores"] < below


def _changed(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    """Have both estimates of groups changed: change(right, scores, groups)."""
    for name in ("group_advantages", "leave_one_out_advantages"):
        right = getattr(core, name)

        def wrong(scores: Any, groups: Any, *, right: Any = right, **how: Any) -> torch.Tensor:
            return change(partial(right, **how), scores, groups)

        monkeypatch.setattr(core, name, wrong)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_advantages_of_the_wrong_sign_teach_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """A control."""
    _changed(monkeypatch, lambda right, scores, groups: -right(scores, groups))
    outcome = learn_in_groups(replace(BANDIT, within=40), METHODS[method], 0, tmp_path)
    _fails(outcome, say, below=0.1)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_scores_of_another_prompts_responses_teach_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """A control: each group is given the next one's scores."""
    _changed(monkeypatch, lambda right, scores, groups: right(scores.roll(GROUP), groups))
    outcome = learn_in_groups(replace(COPY, within=60), METHODS[method], 0, tmp_path)
    _fails(outcome, say, below=0.3)


def test_ratios_that_are_clipped_around_the_reference_hold_the_policy_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """A control: of the policy to its reference, and not to the one that sampled.

    Of tokens: whole responses (GSPO) are still learnt from where they are worse than others.
    """
    right = Batch.of

    def wrong(*args: Any, **kwargs: Any) -> Batch:
        found = right(*args, **kwargs)
        return replace(found, logprobs=found.reference)

    monkeypatch.setattr(Batch, "of", staticmethod(wrong))
    outcome = learn_in_groups(replace(BANDIT, within=40), METHODS["grpo"], 0, tmp_path)
    _fails(outcome, say, below=0.3)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_tool_whose_tokens_are_learnt_from_is_imitated(
    method: str, tmp_path: Path, say: Say
) -> None:
    """A control: the tool's tokens are not told from the policy's."""
    shown = partial(Calling, shows=False)
    outcome = learn_in_groups(CALL, METHODS[method], 0, tmp_path, sampler=shown)
    _fails(outcome, say, below=0.7)
