"""SIGKILLs at random moments of what `make prove` does not train: none may end in other weights.

With adapters and on adapters, with accumulation, with a precomputed reference over two epochs.
"""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import kill_and_compare

pytestmark = pytest.mark.slow
# stage, the stage before it, kills
STAGES = (
    ("more_lora", "base", 3),
    ("sft_lora", "base", 3),
    ("rm_lora", "sft_lora", 3),
    ("dpo", "sft", 3),
    ("dpo_lora", "sft_lora", 3),
    ("dpo_again", "dpo_lora", 3),
    ("kto", "sft", 4),
    ("kto_lora", "sft_lora", 4),
)


@pytest.mark.parametrize(("stage", "before", "kills"), STAGES)
def test_kills_end_in_the_same_weights(
    stage: str,
    before: str,
    kills: int,
    aligned_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warm()
    overrides = [f"stages.{stage}.training_args.save_steps=2"]
    tally = kill_and_compare(
        aligned_recipe, tmp_path, stage, before, kills=kills, seed=11, overrides=overrides
    )
    with capsys.disabled():
        print("", *tally.said, sep="\n")
        print(f"{stage}: {tally.kills} kills, {tally.resumed} resumed, {tally.differ} differ")
    assert tally.differ == 0
    assert tally.resumed >= kills // 3, "too few kills came after the first checkpoint"
