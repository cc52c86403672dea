"""From `posttrain run` to the first step of pre-training on much text: first and again.

Text is made, by default 5 MB of it; more with

    POSTTRAIN_TEXT_MB=5,50,500 python -m tests.benchmarks large_text

The ratio is the memory allowed over the memory taken, for the largest size: 1 GB, measured as
large_data does it, beyond what the same run takes on 1 MB.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.large_data import run_once, save_model, words
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from tests.benchmarks.large_data import Taken

_GOAL_MB, _GOAL_CACHED_S = 1_000, 5.0
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
    sizes = [int(part) for part in os.environ.get("POSTTRAIN_TEXT_MB", "5").split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model")
        few_first, few_cached = _measure(folder, _FEW_MB)
        found = {size: _measure(folder, size) for size in sizes}
    first, cached = found[max(sizes)]
    return Result(
        "large_text",
        _GOAL_MB / max(1.0, first.peak_mb - few_first.peak_mb),
        1.0,
        {
            "libraries": {"first": vars(few_first), "cached": vars(few_cached)},
            "megabytes": {
                size: {
                    "first_s": round(each[0].seconds - few_first.seconds, 1),
                    "cached_s": round(each[1].seconds - few_cached.seconds, 1),
                    "first_cpu_s": round(each[0].cpu_s - few_first.cpu_s, 1),
                    "cached_cpu_s": round(each[1].cpu_s - few_cached.cpu_s, 1),
                    "first_mb": round(each[0].peak_mb - few_first.peak_mb),
                    "cached_mb": round(each[1].peak_mb - few_cached.peak_mb),
                }
                for size, each in found.items()
            },
            "goals": {"cached_s": _GOAL_CACHED_S, "mb": _GOAL_MB},
        },
        is_valid=cached.seconds - few_cached.seconds <= _GOAL_CACHED_S,
    )


def _measure(folder: Path, size_mb: int) -> tuple[Taken, Taken]:
    """Run on so much text for the first time, and again."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    (folder / "recipe.yaml").write_text(_RECIPE.replace("TOKENS", str(size_mb * _TOKENS_A_MB)))
    known, draw, written = words(), random.Random(size_mb), 0
    with (folder / "text.jsonl").open("w", encoding="utf-8") as stream:
        while written < size_mb * 1_000_000:
            text = f"{' '.join(draw.choices(known, k=_WORDS_A_DOCUMENT))}."
            written += stream.write(json.dumps({"text": text}) + "\n")
    time.sleep(2.5)  # a younger file is hashed again
    return run_once(folder, "base"), run_once(folder, "base")
