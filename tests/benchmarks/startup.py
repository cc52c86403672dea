"""How long the command takes to say something: `--help`, and the plan of the quickstart."""

import tempfile

from tests.benchmarks.command import INTERPRETER, POSTTRAIN, QUICKSTART, best_seconds
from tests.benchmarks.result import Result, within

_REPEATS = 5


def help_seconds() -> Result:
    """Time `posttrain --help`."""
    return _startup("help_seconds", (POSTTRAIN, "--help"), goal_s=0.3)


def plan_seconds() -> Result:
    """Time `posttrain plan` of a recipe of which nothing has run."""
    with tempfile.TemporaryDirectory() as runs:
        command = (POSTTRAIN, "plan", QUICKSTART, "--runs", runs)
        return _startup("plan_seconds", command, goal_s=0.6)


def _startup(name: str, command: tuple[str, ...], *, goal_s: float) -> Result:
    seconds, interpreter_s = best_seconds(command, INTERPRETER, repeats=_REPEATS)
    details = {"interpreter_seconds": round(interpreter_s, 3), "best_of": _REPEATS}
    return within(name, seconds, goal_s=goal_s, details=details)
