"""How long `posttrain run` takes when every stage of the quickstart is there already.

The stages are made small (a dozen training steps, one question) in a folder of their own: what a
cached run reads of them is the same as of large ones, and the user's own runs stay untouched.
"""

import tempfile

from tests.benchmarks.command import INTERPRETER, POSTTRAIN, QUICKSTART, best_seconds, run
from tests.benchmarks.result import Result, within

_REPEATS = 3
_SMALL = (
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


def quickstart_cached_seconds() -> Result:
    """Time the second run of a recipe."""
    with tempfile.TemporaryDirectory() as runs:
        overrides = [word for override in _SMALL for word in ("--set", override)]
        command = (POSTTRAIN, "run", QUICKSTART, "--runs", runs, *overrides)
        run(*command)
        seconds, interpreter_s = best_seconds(command, INTERPRETER, repeats=_REPEATS)
    details = {"interpreter_seconds": round(interpreter_s, 3), "best_of": _REPEATS}
    return within("quickstart_cached_seconds", seconds, goal_s=2.0, details=details)
