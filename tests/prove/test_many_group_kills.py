"""SIGKILLs at random moments of methods without a critic: none may end in other weights.

Beside them TRL's own GRPOTrainer, killed at random steps and resumed by its own means.
"""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.small_trl_grpo import kill_upstream, random_steps
from tests.stages.test_group_kills import STAGES, prepare

pytestmark = pytest.mark.slow
_KILLS = {"grpo": 14, "gspo": 13, "rloo": 13, "tools": 5, "distill": 5}
_OF_UPSTREAM = 40


@pytest.mark.parametrize("stage", STAGES)
def test_kills_end_in_the_same_weights(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(tmp_path)
    with capsys.disabled():
        print()
        tally = prepared.kill(stage, tmp_path, kills=_KILLS[stage], seed=11)
        print(f"{stage}: {tally.kills} kills, {tally.resumed} resumed, {tally.differ} differ")


def test_upstream_on_the_same_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a promise of ours: that the figure beside ours is still what upstream does."""
    warm()
    tally = kill_upstream(tmp_path, random_steps(_OF_UPSTREAM, seed=11))
    between = kill_upstream(tmp_path / "between", [25])  # the one checkpoint between two rollouts
    with capsys.disabled():
        print("", *tally.said, *between.said, sep="\n")
        print(
            f"TRL's GRPOTrainer: {tally.kills} kills, {tally.in_rollout} resumed within a rollout, "
            f"{tally.differ} differ, {tally.failed} could not be resumed"
        )
    assert tally.differ > 0
