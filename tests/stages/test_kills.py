"""One SIGKILL a stage; `make prove` does many, of every kind of stage."""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import kill_and_compare

STAGES = (
    ("sft", "base"),
    ("rm_lora", "sft_lora"),
    ("dpo_lora", "sft_lora"),
    ("kto_lora", "sft_lora"),
)


@pytest.mark.parametrize(("stage", "before"), STAGES)
def test_a_killed_stage_ends_in_the_same_weights_and_metrics(
    stage: str, before: str, aligned_recipe: Path, tmp_path: Path
) -> None:
    warm()
    tally = kill_and_compare(
        aligned_recipe,
        tmp_path,
        stage,
        before,
        kills=1,
        seed=5,
        overrides=[f"stages.{stage}.training_args.save_steps=3"],
    )
    assert tally.differ == 0, tally.said
