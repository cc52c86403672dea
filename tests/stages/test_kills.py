"""One SIGKILL a stage; `make prove` does many, of every kind of stage."""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import kill_and_compare
from tests.trained import Trained

_SLOW = [pytest.param(stage, marks=pytest.mark.slow) for stage in ("rm_lora", "kto_lora")]


@pytest.mark.parametrize("stage", ["sft", "dpo_lora", *_SLOW])
def test_a_killed_stage_ends_in_the_same_weights_and_metrics(
    stage: str, trained: Trained, tmp_path: Path
) -> None:
    warm()
    tally = kill_and_compare(
        trained,
        tmp_path,
        stage,
        kills=1,
        seed=5,
        overrides=[f"stages.{stage}.training_args.save_steps=3"],
    )
    assert tally.differ == 0, tally.said
