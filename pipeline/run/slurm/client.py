"""Slurm's own commands: sbatch, squeue, sacct and scontrol, and what their answers mean.

How they are called is checks/slurm.py's subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.checks.slurm import call, refusal
from pipeline.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.recipe.recipe import Recipe

RUNNING = "RUNNING"
# JOB STATE CODES of squeue(1) in which a job is over.
_OVER = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
_NEVER = "DependencyNeverSatisfied"


@dataclass(frozen=True)
class JobState:
    """A job as squeue shows it. reason: why it waits, or why it ended."""

    state: str
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it will not run any more."""
        return self.state in _OVER or self.reason == _NEVER


def submit(recipe: Recipe, name: str, words: Sequence[str]) -> str:
    """Submit a stage's job; return its number."""
    answer = call(["sbatch", "--parsable", *words])
    number = answer.stdout.strip().partition(";")[0]
    if answer.returncode or not number.isdigit():
        raise refusal(recipe, name, answer.stderr or answer.stdout)
    return number


def job_states() -> dict[str, JobState] | None:
    """Return the user's jobs by number, those that ended a while ago left out; None: no answer."""
    try:
        answer = call(["squeue", "--noheader", "--me", "--states=all", "--format=%i|%T|%r"])
    except InfrastructureError:
        return None
    if answer.returncode:
        return None
    states: dict[str, JobState] = {}
    for line in answer.stdout.splitlines():
        number, *rest = line.strip().split("|")
        if len(rest) == 2:
            states[number] = JobState(*rest)
    return states


def recorded_state(number: str) -> str:
    """Return what Slurm's accounting says of a job that squeue does not show any more; or ""."""
    try:
        answer = call(["sacct", "-n", "-X", "-P", "-j", number, "-o", "State"])
    except InfrastructureError:
        return ""
    return answer.stdout.split()[0] if answer.returncode == 0 and answer.stdout.split() else ""


def state_of(number: str) -> str:
    """Return a job's state as itself sees it; "" if there is no answer."""
    try:
        answer = call(["squeue", "--noheader", f"--jobs={number}", "--format=%T"])
    except InfrastructureError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def requeue(number: str) -> bool:
    """Have a job run once more; returns whether it will."""
    try:
        return call(["scontrol", "requeue", number]).returncode == 0
    except InfrastructureError:
        return False
