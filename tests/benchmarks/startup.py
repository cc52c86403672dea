"""How long commands that train nothing take: `--help`, a plan, a run of what is there already.

The ratio is the time allowed over the time taken.
"""

import tempfile

from tests.benchmarks.command import INTERPRETER, POSTTRAIN, QUICKSTART, best, run
from tests.benchmarks.result import Result

# One training step and one question: a second run reads the same of such stages as of large ones.
# In a folder of their own they leave the user's runs as they are.
_SMALL_QUICKSTART = (
    "stages.tokenizer.data=[{task: facts, rows: 200}, {task: arithmetic, rows: 200}]",
    "stages.tokenizer.vocab_size=300",
    "stages.base.tokens=4096",
    "stages.sft.training_args.max_steps=1",
    *(
        f"stages.{stage}.{asked}"
        for stage in ("base_answers", "sft_answers")
        for asked in ("tasks=facts", "styles=zero-shot", "limit=1")
    ),
)


def help_seconds() -> Result:
    """Time `posttrain --help`."""
    return _timed("help_seconds", (POSTTRAIN, "--help"), goal_s=0.3, repeats=5)


def plan_seconds() -> Result:
    """Time `posttrain plan` of a recipe of which nothing has run."""
    with tempfile.TemporaryDirectory() as runs:
        command = (POSTTRAIN, "plan", QUICKSTART, "--runs", runs)
        return _timed("plan_seconds", command, goal_s=0.6, repeats=5)


def quickstart_cached_seconds() -> Result:
    """Time the second `posttrain run` of a recipe."""
    overrides = [word for override in _SMALL_QUICKSTART for word in ("--set", override)]
    with tempfile.TemporaryDirectory() as runs:
        command = (POSTTRAIN, "run", QUICKSTART, "--runs", runs, *overrides)
        run(*command)
        return _timed("quickstart_cached_seconds", command, goal_s=2.0, repeats=3)


def _timed(name: str, command: tuple[str, ...], *, goal_s: float, repeats: int) -> Result:
    taken, interpreter = best(command, INTERPRETER, repeats=repeats)
    details = {
        "seconds": round(taken.wall_s, 3),
        "goal_seconds": goal_s,
        "cpu_seconds": round(taken.cpu_s, 3),
        "interpreter_seconds": round(interpreter.wall_s, 3),
        "best_of": repeats,
    }
    return Result(name, goal_s / taken.wall_s, 1.0, details)
