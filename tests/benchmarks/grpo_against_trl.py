"""Our GRPO against the GRPOTrainer of the TRL that is installed: processor seconds of an iteration.

An iteration is a rollout of 64 responses, 8 to each prompt, their scores, and 4 optimizer steps, on
the same 4-layer Llama, in float32, with a KL to the reference. `grpo_full_length`: no response ends
before its 64 tokens. `grpo_spread_lengths`: each token is the last with the same probability, so
that responses have 32 in the mean, and some have 64.

Both sides are processes of their own and take turns, as in ppo_against_trl.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tests.benchmarks.command import run
from tests.benchmarks.grpo_side import OURS, STEPS, THEIRS
from tests.benchmarks.result import Result
from tests.benchmarks.rollout_inputs import BATCH_SIZE, MAX_NEW_TOKENS, PARTS

_FULL_GOAL = 1.5
_SPREAD_GOAL = 2.5
_TURNS = 2
_ITERATIONS = 3
_LENGTH_TOLERANCE = 0.15  # of the mean length

Measured = dict[str, dict[str, list[Any]]]


def grpo_full_length() -> Result:
    """Compare iterations in which every response has all its tokens."""
    measured = _measure("full")
    is_full = all(
        number == BATCH_SIZE * MAX_NEW_TOKENS
        for side in measured.values()
        for number in side["num_tokens"]
    )
    return _result("grpo_full_length", _FULL_GOAL, measured, is_valid=is_full)


def grpo_spread_lengths() -> Result:
    """Compare iterations in which responses have from 1 to all tokens."""
    measured = _measure("spread")
    means = [fmean(side["num_tokens"]) for side in measured.values()]
    are_alike = max(means) <= (1 + _LENGTH_TOLERANCE) * min(means)
    return _result("grpo_spread_lengths", _SPREAD_GOAL, measured, is_valid=are_alike)


def _measure(lengths: str) -> Measured:
    """Let both sides take turns; return what was measured of all iterations of each."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    measured: Measured = {THEIRS: {}, OURS: {}}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(_TURNS):
            for side in (THEIRS, OURS):
                out = Path(folder) / "measured.json"
                command = (sys.executable, "-m", "tests.benchmarks.grpo_side", side)
                options = ("--lengths", lengths, "--iterations", str(_ITERATIONS))
                run(*command, *options, "--out", str(out), environment=environment)
                turn = json.loads(out.read_text(encoding="utf-8"))
                for key, values in turn.items():
                    measured[side].setdefault(key, []).extend(values)
    return measured


def _result(name: str, goal: float, measured: Measured, *, is_valid: bool) -> Result:
    ours, theirs = measured[OURS], measured[THEIRS]
    made = {number for side in measured.values() for number in side["num_steps"]}
    parts = {part: round(median(one[part] for one in ours["parts"]), 2) for part in PARTS}
    return Result(
        name,
        median(theirs["cpu_s"]) / median(ours["cpu_s"]),
        goal,
        {
            "wall_ratio": round(median(theirs["wall_s"]) / median(ours["wall_s"]), 3),
            "cpu_seconds": {
                side: [round(seconds, 2) for seconds in of["cpu_s"]]
                for side, of in measured.items()
            },
            "mean_length": {
                side: round(fmean(of["num_tokens"]) / BATCH_SIZE, 1)
                for side, of in measured.items()
            },
            "optimizer_steps": sorted(made),
            "our_seconds": parts,
            "iterations": len(ours["cpu_s"]),
            "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
        },
        is_valid=is_valid and made == {STEPS},
    )
