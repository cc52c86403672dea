"""Whether sbatch takes the options of stages' jobs, asked before anything is submitted.

Also how Slurm's commands are called, and what is made of what they refuse.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.recipe.slurm import option_words, sbatch_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

_TIMEOUT_S = 120.0  # sbatch itself tries for 20 s to reach the controller
# What sbatch says where it is the cluster's state that does not suit, or nobody answers.
_UNREACHABLE = re.compile(r"contact|timed out|process configuration|connection|cannot stat", re.I)
_BUSY = re.compile(r"busy|down, drained|currently|temporarily|not available \(down", re.I)
_NOISE = re.compile(r"^(sbatch: )?(error: |fatal: )?(allocation failure: )?")
_LONGEST = 200


def check_options(recipe: Recipe, names: Iterable[str]) -> str | None:
    """Have sbatch check the options of stages' jobs; return a line about it, None without stages.

    Raises PosttrainError for what sbatch refuses, InfrastructureError where it is not there or
    reaches no controller.
    """
    stages: dict[tuple[str, ...], str] = {}
    count = 0
    for name in names:
        stages.setdefault(tuple(option_words(recipe, name)), name)
        count += 1
    for words, name in stages.items():
        answer = call(["sbatch", "--test-only", *words, "--wrap", "true"])
        if answer.returncode and not _BUSY.search(answer.stderr):
            raise refusal(recipe, name, answer.stderr)
    return f"Slurm takes the options of {count} job{'s' * (count > 1)}" if count else None


def call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands in a session of its own, so that Ctrl-C is not for it."""
    try:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        hint = "run this where jobs are submitted, or here with `--set launch=in_process`"
        raise InfrastructureError(command[0], "is not installed here", hint) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(command[0], f"gives no answer ({error})") from error


def refusal(recipe: Recipe, name: str, said: str) -> PosttrainError:
    """Return the error for what sbatch says of a stage's options, at the option if it is named."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = (_NOISE.sub("", lines[0]) if lines else "it says nothing")[:_LONGEST]
    if _UNREACHABLE.search(said):
        reason = _NOISE.sub("", lines[-1])[:_LONGEST]
        return InfrastructureError("sbatch", reason, "is the cluster's controller up?")
    own = recipe.stages[name].launch
    options = sbatch_options(recipe, name)
    named = [key for key in options if re.search(rf"\b{re.escape(key)}\b", said)]
    key = named[0] if named else None
    is_own = own is not None and (key in own.sbatch if key else bool(own.sbatch))
    place: Location = ("stages", name, "launch", "sbatch") if is_own else ("launch", "sbatch")
    place = (*place, key) if key else place
    return recipe.error(place, f"sbatch refuses the job of `{name}`: {reason}")
