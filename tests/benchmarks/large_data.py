"""From `posttrain run` to the first SFT step on many chats: seconds and memory, first and again.

Chats of about 200 tokens are made, by default 10,000 of them; more with

    POSTTRAIN_CHATS=10000,100000,1000000 python -m tests.benchmarks large_data

The ratio is the time allowed over the time taken, for the largest number: 240 s a million chats,
beyond what the same run takes on ten. Memory is what all processes have for themselves, beyond that
of the run on ten; pages of files are the system's to take back. A busy machine shows in the
difference between seconds and processor seconds.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from tests.benchmarks.first_step import GOAL_CACHED_S, figures, measure, sizes_asked, words
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from pathlib import Path

_GOAL_S_PER_CHAT = 240 / 1_000_000
_GOAL_MB = 2_000
_FEW = 10
_WORDS_A_TURN = 64
_RECIPE = """\
name: large
seed: 1
stages:
  sft:
    stage: sft
    model: ./model
    data: [{file: chats.jsonl}]
    batch_size: 4
    training_args: {max_steps: 8, learning_rate: 1e-3}
"""


def large_data() -> Result:
    """Run on few and on many chats, twice each."""
    few, found = measure("sft", _write, _FEW, sizes_asked("POSTTRAIN_CHATS", "10000"))
    largest = max(found)
    beyond = found[largest].beyond(few)
    return Result(
        "large_data",
        _GOAL_S_PER_CHAT * largest / max(1e-3, beyond["first_s"]),
        1.0,
        figures("chats", few, found, {"mb": _GOAL_MB}),
        is_valid=beyond["first_mb"] <= _GOAL_MB and beyond["cached_s"] <= GOAL_CACHED_S,
    )


def _write(folder: Path, number: int) -> None:
    (folder / "recipe.yaml").write_text(_RECIPE)
    known, draw = words(), random.Random(number)
    with (folder / "chats.jsonl").open("w", encoding="utf-8") as stream:
        for _ in range(number):
            turns = [
                {"role": role, "content": f"{' '.join(draw.choices(known, k=_WORDS_A_TURN))}."}
                for role in ("user", "assistant")
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")
