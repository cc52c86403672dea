"""SIGKILLs at random moments of what `make prove` does not train: none may end in other weights.

With adapters and on adapters, with accumulation, with a precomputed reference over two epochs.
"""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import kill_and_compare
from tests.trained import Trained

pytestmark = pytest.mark.slow
# stage, kills
STAGES = (
    ("more_lora", 3),
    ("sft_lora", 3),
    ("rm_lora", 3),
    ("dpo", 3),
    ("dpo_lora", 3),
    ("dpo_again", 3),
    ("kto", 4),
    ("kto_lora", 4),
)


@pytest.mark.parametrize(("stage", "kills"), STAGES)
def test_kills_end_in_the_same_weights(
    stage: str,
    kills: int,
    trained: Trained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warm()
    overrides = [f"stages.{stage}.training_args.save_steps=2"]
    tally = kill_and_compare(trained, tmp_path, stage, kills=kills, seed=11, overrides=overrides)
    with capsys.disabled():
        print("", *tally.said, sep="\n")
        print(f"{stage}: {tally.kills} kills, {tally.resumed} resumed, {tally.differ} differ")
    assert tally.differ == 0
    assert tally.resumed >= kills // 3, "too few kills came after the first checkpoint"
