"""SIGKILLs at random moments of PPO, in full and with adapters: none may end in other weights."""

from pathlib import Path

import pytest

from tests.stages.test_ppo_kills import STAGES, prepare

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", STAGES)
def test_kills_of_ppo_end_in_the_same_weights(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(tmp_path)
    with capsys.disabled():
        print()
        prepared.kill(stage, tmp_path, kills=10, seed=11)
