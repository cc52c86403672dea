"""The quick ones of the tasks that PPO must learn, one seed each.

All of them with three, and what must not pass: tests/prove/test_ppo_learns.py.
"""

from pathlib import Path

import pytest

from tests.ppo_tasks import BANDIT, COPY, CRITIC_ALONE, Task, learn
from tests.unit.rl.small_trainers import are_same, weights_of


@pytest.mark.parametrize(
    "task",
    [pytest.param(BANDIT, id="bandit"), pytest.param(COPY, id="copy", marks=pytest.mark.slow)],
)
def test_a_policy_learns_what_is_rewarded(task: Task, tmp_path: Path) -> None:
    """B01, B03, B09, B14: the score is above 0.9 in as many rollouts as it may take."""
    outcome = learn(task, 0, tmp_path)
    assert outcome.learnt_after is not None
    assert outcome.lines[0]["objective/scores"] < 0.2
    assert outcome.lines[-1]["objective/scores"] > 0.9
    assert all(line["policy/ratio_first"] <= 1 + 1e-5 for line in outcome.lines)


def test_a_critic_alone_learns_what_its_prompt_will_earn(tmp_path: Path) -> None:
    """B02, B46, B54: nine tenths of the variance of returns that are out of a clip's reach."""
    outcome = learn(CRITIC_ALONE, 0, tmp_path)
    assert outcome.learnt_after is not None
    assert outcome.lines[0]["value/explained_var"] < 0.1
    assert outcome.lines[0]["returns/std"] > 5 * 0.2
    assert all(abs(line["objective/kl"]) <= 1e-6 for line in outcome.lines)
    actor = outcome.trainer.model
    with actor.reference() as reference:
        assert are_same(weights_of(actor.causal), weights_of(reference))
