"""PPO learns seven small tasks with every one of three seeds, and four mistakes do not.

Each mistake is made by hand in our own functions: without it the task is learnt, with it it is not,
so that the bounds tell the one from the other.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.rl import core
from pipeline.rl.losses import Losses
from pipeline.rl.sequences import Sequences
from tests.ppo_tasks import (
    BANDIT,
    COPY,
    CRITIC_ALONE,
    DELAYED_CREDIT,
    EARLY_END,
    KNOWN_OPTIMUM,
    SHARED_BANDIT,
    Outcome,
    Task,
    distance_to_optimum,
    learn,
    summed_send_back,
)

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)
TASKS = {
    "bandit": BANDIT,
    "copy": COPY,
    "delayed credit": DELAYED_CREDIT,
    "early end": EARLY_END,
    "critic alone": CRITIC_ALONE,
    "bandit with shared adapters": SHARED_BANDIT,
}
Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Say:
    """Print a figure of a test, whatever is captured."""

    def said(figure: str) -> None:
        with capsys.disabled():
            print(
                f"\n{request.node.callspec.id if 'callspec' in vars(request.node) else ''}", figure
            )

    return said


def first_ratios(outcome: Outcome) -> float:
    """Return how far from 1 the first ratios of any rollout were."""
    return max(line["policy/ratio_first"] for line in outcome.lines) - 1


def shown(outcome: Outcome) -> str:
    last = outcome.lines[-1]
    names = ("objective/scores_after", "value/explained_var", "eos_rate", "objective/kl")
    figures = ", ".join(f"{name} {last[name]:.3f}" for name in names)
    after = outcome.learnt_after or f"not in {len(outcome.lines)}"
    return f"learnt after {after}: {figures}, first ratio 1 + {first_ratios(outcome):.0e}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_learnt(task: Task, seed: int, tmp_path: Path, say: Say) -> None:
    outcome = learn(task, seed, tmp_path)
    say(shown(outcome))
    assert outcome.learnt_after is not None
    assert first_ratios(outcome) <= 1e-5


@pytest.mark.parametrize("name", ["bandit", "copy", "bandit with shared adapters"])
def test_a_task_is_learnt_in_bf16(name: str, tmp_path: Path, say: Say) -> None:
    """The first ratio is 1 within a few times 2^-8 of the largest logit, which is below 16 here."""
    outcome = learn(TASKS[name], 0, tmp_path, bf16=True)
    say(shown(outcome))
    assert outcome.learnt_after is not None
    assert first_ratios(outcome) <= 4 * 16 * 2**-8


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_adapters_begin_at_the_network_and_leave_it_as_it_is(
    seed: int, tmp_path: Path
) -> None:
    """B24, B25, B29: with activations computed again."""
    outcome = learn(replace(SHARED_BANDIT, within=10), seed, tmp_path)
    assert outcome.lines[0]["objective/kl"] == 0
    assert outcome.lines[-1]["objective/kl_k3"] > 0
    (prompt,) = SHARED_BANDIT.prompts
    fresh = learn(replace(SHARED_BANDIT, within=1), seed, tmp_path, learning_rate=0.0)
    found = []
    for each in (outcome, fresh):
        with each.trainer.model.reference() as reference, torch.no_grad():
            found.append(reference(input_ids=torch.tensor([prompt])).logits)
    assert torch.equal(*found)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_kl_penalty_leads_to_the_optimum_that_can_be_written_down(
    seed: int, tmp_path: Path, say: Say
) -> None:
    """B09: the reference times e^(reward / coefficient), in total variation and in nats."""
    outcome = learn(KNOWN_OPTIMUM, seed, tmp_path)
    found = distance_to_optimum(outcome)
    say(f"{found}, first ratio 1 + {first_ratios(outcome):.0e}")
    assert found.total_variation < 0.05
    assert abs(found.kl - found.optimal_kl) < 0.2
    assert first_ratios(outcome) <= 1e-5


def test_without_its_kl_penalty_the_optimum_is_missed(tmp_path: Path, say: Say) -> None:
    """B09, a control."""
    found = distance_to_optimum(learn(KNOWN_OPTIMUM, 0, tmp_path, kl_coef=0.0))
    say(str(found))
    assert found.total_variation > 0.1


def test_with_the_wrong_sign_of_the_kl_the_optimum_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """B09, a control."""
    right = core.token_rewards

    def wrong(*args: Any, kl_coef: float) -> torch.Tensor:
        return right(*args, kl_coef=-kl_coef)

    monkeypatch.setattr(core, "token_rewards", wrong)
    found = distance_to_optimum(learn(KNOWN_OPTIMUM, 0, tmp_path))
    say(str(found))
    assert found.total_variation > 0.1


def test_log_probabilities_one_place_too_late_copy_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """B01, a control: `logits[:, P:]`, the output at the very token that it is to predict."""
    right = Sequences.of

    def late(*args: Any, **kwargs: Any) -> Sequences:
        found = right(*args, **kwargs)
        return replace(found, predicts=found.predicts.roll(1, dims=1))

    monkeypatch.setattr(Sequences, "of", staticmethod(late))
    outcome = learn(replace(COPY, within=60), 0, tmp_path)
    say(shown(outcome))
    assert outcome.learnt_after is None
    assert outcome.lines[-1]["objective/scores"] < 0.3


def test_one_backward_pass_of_both_losses_teaches_a_shared_policy_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """B24, B25, a control: after the switch to the critic's adapter, with activations kept."""
    monkeypatch.setattr(Losses, "send_back", summed_send_back)
    outcome = learn(SHARED_BANDIT, 0, tmp_path, activation_checkpointing=False)
    say(shown(outcome))
    assert outcome.learnt_after is None
    assert outcome.lines[-1]["objective/scores"] < 0.3
