"""One SIGKILL a stage; `make prove` does many."""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import kill_and_compare


@pytest.mark.parametrize(("stage", "before"), [("base", "tokenizer"), ("sft", "base")])
def test_a_killed_stage_ends_in_the_same_weights_and_metrics(
    stage: str, before: str, tiny_recipe: Path, tmp_path: Path
) -> None:
    warm()
    overrides = [f"stages.{name}.training_args.save_steps=3" for name in ("base", "sft")]
    tally = kill_and_compare(
        tiny_recipe, tmp_path, stage, before, kills=1, seed=5, overrides=overrides
    )
    assert tally.differ == 0, tally.said
