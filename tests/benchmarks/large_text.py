"""From `posttrain run` to the first step of pre-training on much text: first and again.

Text is made, by default 5 MB of it; more with

    POSTTRAIN_TEXT_MB=5,50,500 python -m tests.benchmarks large_text

The ratio is the memory allowed over the memory taken, for the largest size: 1 GB, measured as
large_data does it, beyond what the same run takes on 1 MB.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from tests.benchmarks.first_step import GOAL_CACHED_S, figures, measure, sizes_asked, words
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from pathlib import Path

_GOAL_MB = 1_000
_FEW_MB = 1
_WORDS_A_DOCUMENT = 130
_TOKENS_A_MB = 180_000  # a little less than there are, so that no text is read twice
_RECIPE = """\
name: large
seed: 1
stages:
  base:
    stage: pretrain
    model: ./model
    data: [{file: text.jsonl}]
    tokens: TOKENS
    sequence_length: 256
    batch_size: 4
    training_args: {max_steps: 8, learning_rate: 1e-3}
"""


def large_text() -> Result:
    """Run on little and on much text, twice each."""
    few, found = measure("base", _write, _FEW_MB, sizes_asked("POSTTRAIN_TEXT_MB", "5"))
    beyond = found[max(found)].beyond(few)
    return Result(
        "large_text",
        _GOAL_MB / max(1.0, beyond["first_mb"]),
        1.0,
        figures("megabytes", few, found, {"mb": _GOAL_MB}),
        is_valid=beyond["cached_s"] <= GOAL_CACHED_S,
    )


def _write(folder: Path, size_mb: int) -> None:
    (folder / "recipe.yaml").write_text(_RECIPE.replace("TOKENS", str(size_mb * _TOKENS_A_MB)))
    known, draw, written = words(), random.Random(size_mb), 0
    with (folder / "text.jsonl").open("w", encoding="utf-8") as stream:
        while written < size_mb * 1_000_000:
            text = f"{' '.join(draw.choices(known, k=_WORDS_A_DOCUMENT))}."
            written += stream.write(json.dumps({"text": text}) + "\n")
