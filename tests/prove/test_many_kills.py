"""Ten SIGKILLs at random moments of each training stage: none may end in other weights."""

from pathlib import Path

import pytest

from tests.forked import warm
from tests.kills import kill_and_compare

pytestmark = pytest.mark.slow
KILLS = 10


@pytest.mark.parametrize(("stage", "before"), [("base", "tokenizer"), ("sft", "base")])
def test_ten_kills_end_in_the_same_weights(
    stage: str, before: str, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warm()
    overrides = [f"stages.{name}.training_args.save_steps=2" for name in ("base", "sft")]
    tally = kill_and_compare(
        tiny_recipe, tmp_path, stage, before, kills=KILLS, seed=11, overrides=overrides
    )
    with capsys.disabled():
        print("", *tally.said, sep="\n")
        print(f"{stage}: {tally.kills} kills, {tally.resumed} resumed, {tally.differ} differ")
    assert tally.differ == 0
    assert tally.resumed >= KILLS // 3, "too few kills came after the first checkpoint"
