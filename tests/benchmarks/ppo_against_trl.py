"""Our PPO against TRL's last PPOTrainer (1.12.0): processor seconds of a whole iteration.

An iteration is a rollout of 64 responses, their scores, and 4 epochs of 4 optimizer steps, on the
same 4-layer Llama, in float32. `ppo_full_length`: no response ends before its 64 tokens.
`ppo_spread_lengths`: each token is the last with the same probability, so that responses have 32 in
the mean, and some have 64. `ppo_full_length_bf16`, `ppo_spread_lengths_bf16`: both under autocast,
without a goal where a processor has no units for it (AVX512-BF16, AMX).

Both sides are processes of their own and take turns; an iteration's processor seconds do not depend
on what else the machine does, or hardly. The first of each process is not counted; of the others
the median is. Void unless each had as many optimizer steps, and responses were as long.

TRL goes into a folder apart, since ours depends on a newer one: POSTTRAIN_TRL112 names it.
On one thread, unless OMP_NUM_THREADS says more.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from tests.benchmarks.command import run
from tests.benchmarks.ppo_side import EPOCHS, MINI_BATCHES, OURS
from tests.benchmarks.result import Result
from tests.benchmarks.rollout_inputs import BATCH_SIZE, MAX_NEW_TOKENS, PARTS

_FULL_GOAL = 1.2
_SPREAD_GOAL = 2.0
_TURNS = 2
_ITERATIONS = 3
_LENGTH_TOLERANCE = 0.15  # of the mean length


def ppo_full_length(*, is_bf16: bool = False) -> Result:
    """Compare iterations in which every response has all its tokens."""
    measured = _measured("full", is_bf16=is_bf16)
    is_full = all(
        number == BATCH_SIZE * MAX_NEW_TOKENS
        for side in measured.values()
        for number in side["num_tokens"]
    )
    name, goal = _named("ppo_full_length", _FULL_GOAL, is_bf16=is_bf16)
    return _result(name, goal, measured, is_valid=is_full)


def ppo_spread_lengths(*, is_bf16: bool = False) -> Result:
    """Compare iterations in which responses have from 1 to all tokens."""
    measured = _measured("spread", is_bf16=is_bf16)
    means = [fmean(side["num_tokens"]) for side in measured.values()]
    are_alike = max(means) <= (1 + _LENGTH_TOLERANCE) * min(means)
    name, goal = _named("ppo_spread_lengths", _SPREAD_GOAL, is_bf16=is_bf16)
    return _result(name, goal, measured, is_valid=are_alike)


def ppo_full_length_bf16() -> Result:
    """Compare the same in bf16."""
    return ppo_full_length(is_bf16=True)


def ppo_spread_lengths_bf16() -> Result:
    """Compare the same in bf16."""
    return ppo_spread_lengths(is_bf16=True)


def _named(name: str, goal: float, *, is_bf16: bool) -> tuple[str, float]:
    if not is_bf16:
        return name, goal
    has_units = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]  AMX has
    return f"{name}_bf16", goal if has_units else 0.0


def _measured(lengths: str, *, is_bf16: bool) -> dict[str, dict[str, list[Any]]]:
    """Let both sides take turns; return what was measured of all iterations of each."""
    trl = os.environ.get("POSTTRAIN_TRL112")
    if not trl:
        raise RuntimeError(
            "POSTTRAIN_TRL112 names no folder with trl 1.12.0: "
            "pip install --no-deps --target FOLDER trl==1.12.0"
        )
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": threads,
    }
    found: dict[str, dict[str, list[Any]]] = {"theirs": {}, "ours": {}}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(_TURNS):
            for name, side in (("theirs", trl), ("ours", OURS)):
                out = Path(folder) / "measured.json"
                command = (sys.executable, "-m", "tests.benchmarks.ppo_side", side)
                asked = ("--lengths", lengths, "--iterations", str(_ITERATIONS), "--out", str(out))
                precision = ("--bf16",) if is_bf16 else ()
                run(*command, *asked, *precision, environment=environment)
                turn = json.loads(out.read_text(encoding="utf-8"))
                for key, values in turn.items():
                    found[name].setdefault(key, []).extend(values)
    return found


def _result(
    name: str, goal: float, measured: dict[str, dict[str, list[Any]]], *, is_valid: bool
) -> Result:
    ours, theirs = measured["ours"], measured["theirs"]
    made = {number for side in measured.values() for number in side["num_steps"]}
    parts = {part: round(median(each[part] for each in ours["parts"]), 2) for part in PARTS}
    return Result(
        name,
        median(theirs["cpu_s"]) / median(ours["cpu_s"]),
        goal,
        {
            "wall_ratio": round(median(theirs["wall_s"]) / median(ours["wall_s"]), 3),
            "samples_per_cpu_second": {
                side: round(BATCH_SIZE / median(of["cpu_s"]), 2) for side, of in measured.items()
            },
            "cpu_seconds": {
                side: [round(each, 2) for each in of["cpu_s"]] for side, of in measured.items()
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
        is_valid=is_valid and made == {EPOCHS * MINI_BATCHES},
    )
