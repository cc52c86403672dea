"""What `-j 2` saves of a run's wall time: the quickstart, and a shorter one under three seeds.

Each stage has one thread either way, so that the results must be the same to the byte; the ratio is
the time one after another over the time side by side. On two idle cores.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from tests.benchmarks.command import POSTTRAIN, QUICKSTART, run
from tests.benchmarks.result import Result

_ENDS = (0, 1)  # SHIP, DO NOT SHIP: processors differ in the last digits, and so do models

# All stages of the quickstart, in the proportions that it has, in about a fifth of its time.
_SHORT = (
    "stages.base.tokens=360k",
    "stages.sft.training_args.max_steps=400",
    "stages.preference.training_args.max_steps=20",
    "stages.dpo.training_args.max_steps=20",
    "stages.ppo.training_args.total_episodes=768",
    *(f"stages.{model}_answers.limit=50" for model in ("base", "sft", "dpo", "ppo")),
    *(f"stages.{model}_samples.limit=60" for model in ("sft", "dpo", "ppo")),
)


def side_by_side() -> Result:
    """Time the quickstart with one stage at a time and with two."""
    return _compared("side_by_side", (), goal=1 / 0.85)


def seeds_side_by_side() -> Result:
    """Time three seeds of a shorter quickstart with one stage at a time and with two."""
    given = [word for override in _SHORT for word in ("--set", override)]
    return _compared("seeds_side_by_side", ("--seeds", "1,2,3", *given), goal=1 / 0.6)


def _compared(name: str, given: tuple[str, ...], *, goal: float) -> Result:
    seconds: list[float] = []
    results: list[dict[str, str]] = []
    for jobs in ("1", "2"):
        with tempfile.TemporaryDirectory() as folder:
            command = (POSTTRAIN, "run", QUICKSTART, "--runs", folder, "--no-report", "-j", jobs)
            one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
            taken = run(*command, *given, environment=one_thread, codes=_ENDS)
            seconds.append(taken.wall_s)
            results.append(_hashes(Path(folder) / "store"))
    details = {
        "seconds_one_by_one": round(seconds[0], 1),
        "seconds_side_by_side": round(seconds[1], 1),
        "share": round(seconds[1] / seconds[0], 3),
        "weights": len(results[0]),
        "are_same": results[0] == results[1],
    }
    is_valid = results[0] == results[1] and bool(results[0])
    return Result(name, seconds[0] / seconds[1], goal, details, is_valid=is_valid)


def _hashes(store: Path) -> dict[str, str]:
    """Return the sha256 of all weights and answers of finished stages, by their place."""
    paths = [*store.glob("*-*/**/*.safetensors"), *store.glob("*-*/**/items.jsonl")]
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }
