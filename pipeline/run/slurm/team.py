"""Follows the jobs of a run's stages until they end, and shows of them what a local run shows.

What became of a job lies on the shared disk: the stage's result, or why it failed. Slurm is asked
only about those that have said nothing.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import InfrastructureError, InterruptedRunError
from pipeline.run.outcomes import Outcome
from pipeline.run.progress import Board
from pipeline.run.slurm.client import JobState, job_states, recorded_state
from pipeline.run.slurm.job_folder import job_folder
from pipeline.run.slurm.submission import submit_all
from pipeline.run.team import Ended
from pipeline.store.attempt import attempt_at

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from pipeline.run.interrupt import StopRequest
    from pipeline.run.progress import Display
    from pipeline.run.recipe_run import RecipeRun
    from pipeline.run.slots import Devices
    from pipeline.run.slurm.job_folder import Ending, JobFolder, Submitted
    from pipeline.run.stage_run import StageRun
    from pipeline.run.team import Key, Seat
    from pipeline.store.store import Artifact

_LOOK_S = 0.5  # between looks at the shared disk
_ASK_S = 5.0  # between questions to Slurm's controller
_CHECKS = 3  # how often a job must have been found ended before its silence counts: disks are late
_MAX_NUMBERS = 40  # of jobs in one line


@dataclass
class _Followed:
    """A job that is followed. shown: bytes of its output that were passed on."""

    key: Key
    stage_run: StageRun
    job: Submitted
    folder: JobFolder
    display: Display
    closing: ExitStack
    shown: int = 0
    found_over: int = 0

    def artifact(self) -> Artifact | None:
        planned = self.stage_run.planned
        return self.stage_run.store.find(planned.kind, planned.fingerprint)


@dataclass
class OnSlurm:
    """Brings stages about as jobs. _say: takes each line for the user."""

    _say: Callable[[str], None]
    _board: Board = field(default_factory=Board)
    _jobs: dict[Key, Submitted] = field(default_factory=dict["Key", "Submitted"])
    _followed: list[_Followed] = field(default_factory=list[_Followed])
    _ended: list[Ended] = field(default_factory=list[Ended])
    _states: Mapping[str, JobState] = field(default_factory=dict[str, JobState])
    _asked_s: float = 0.0
    _is_silent: bool = False

    def say(self, line: str) -> None:
        """Show a line above the bars."""
        self._board.say(line, self._say)

    @contextmanager
    def at_work(self, stop: StopRequest) -> Generator[None]:
        """Show the bars, and leave the jobs alone when asked to stop."""
        self._stop = stop
        with self._board:
            yield

    def submit(self, runs: Sequence[RecipeRun], twins: Mapping[Key, Key]) -> None:
        """Submit all jobs."""
        self._jobs = submit_all(runs, twins, is_stopped=self._stop)
        self.say(
            f"{'slurm':<14} Ctrl-C leaves the jobs to run; to cancel them: {self._cancel_words()}"
        )
        self._raise_if_stopped()

    def _cancel_words(self) -> str:
        ended = {ended.key for ended in self._ended}
        numbers = [job.number for key, job in self._jobs.items() if key not in ended]
        dots = [*numbers[:_MAX_NUMBERS], "..."] if len(numbers) > _MAX_NUMBERS else numbers
        return f"scancel {' '.join(dots)}"

    def begin(
        self, key: Key, stage_run: StageRun, made: Mapping[str, Artifact | None], seat: Seat
    ) -> None:
        """Follow a stage's job, or take a result that is there."""
        if stage_run.is_there:
            self._ended.append(Ended(key, stage_run.bring_about(made)))
            return
        closing = ExitStack()
        display = closing.enter_context(self._board.show(seat.name, stage_run.course))
        folder = job_folder(stage_run.store, stage_run.planned)
        followed = _Followed(key, stage_run, self._jobs[key], folder, display, closing)
        self._followed.append(followed)

    def wait(self) -> Ended:
        """Wait for a job; InterruptedRunError when asked to stop, which leaves the jobs alone."""
        while not self._ended:
            self._raise_if_stopped()
            self._ask()
            for followed in list(self._followed):
                ended = self._look(followed)
                if ended is not None:
                    followed.closing.close()
                    self._followed.remove(followed)
                    self._jobs.pop(followed.key)
                    self._ended.append(ended)
            if not self._ended:
                time.sleep(_LOOK_S)
        return self._ended.pop(0)

    def _raise_if_stopped(self) -> None:
        if self._stop.is_requested:
            count = len(self._jobs)
            message = f"no longer followed; {count} job{'s go' if count > 1 else ' goes'} on"
            hint = f"run again to follow, or cancel with `{self._cancel_words()}`"
            raise InterruptedRunError("slurm", message, hint)

    def _ask(self) -> None:
        """Ask Slurm for the states of the jobs, from time to time."""
        now_s = time.monotonic()
        if self._asked_s and now_s - self._asked_s < _ASK_S:
            return
        self._asked_s = now_s
        states = job_states()
        if states is None and not self._is_silent:
            self.say(f"{'slurm':<14} gives no answer; its jobs are followed by what they write")
        self._is_silent = states is None
        if states is None:
            return
        self._states = states
        for followed in self._followed:
            state = states.get(followed.job.number)
            is_over = state is None or state.is_over
            followed.found_over = followed.found_over + 1 if is_over else 0

    def _look(self, followed: _Followed) -> Ended | None:
        """Pass on what a job has said; return how it ended, once it has."""
        _pass_on(followed)
        ending = followed.folder.ending()
        error = None if ending is None else ending.error
        is_final = ending is not None and not isinstance(error, InterruptedRunError)
        if error is not None and is_final:
            return Ended(followed.key, None, error)
        if is_final or followed.found_over:
            artifact = followed.artifact()
            if artifact is not None and not (followed.job.is_forced and ending is None):
                _pass_on(followed)
                return Ended(followed.key, _outcome(followed, ending, artifact))
        if followed.found_over < _CHECKS:
            self._show(followed)
            return None
        return Ended(followed.key, None, error or self._silent_end(followed))

    def _show(self, followed: _Followed) -> None:
        """Show how far a stage is, or why its job waits."""
        state = self._states.get(followed.job.number)
        if state is None or state.is_over:
            return
        planned = followed.stage_run.planned
        if state.state != "RUNNING":
            followed.display(f"job {followed.job.number} waits ({state.reason})", 0, 1)
            return
        attempt = attempt_at(followed.stage_run.store, planned.kind, planned.fingerprint)
        if attempt is not None and attempt.label:
            followed.display(attempt.label, attempt.done, attempt.total, attempt.note)

    def _silent_end(self, followed: _Followed) -> InfrastructureError | InterruptedRunError:
        """Return the error for a job that ended without a word."""
        number, name = followed.job.number, followed.stage_run.planned.name
        known = self._states.get(number)
        state = known.state if known else recorded_state(number) or "ended"
        if state.startswith("CANCELLED"):
            message = f"its job {number} was cancelled"
            return InterruptedRunError(name, message, "run again to go on")
        message = f"its job {number} left no result (Slurm says {state})"
        if not followed.folder.output.exists() and not followed.folder.errors.exists():
            hint = f"do the nodes share {followed.folder.path}? else name a folder with --runs"
        elif state == "OUT_OF_MEMORY":
            hint = "ask for more memory, as `sbatch: {mem: 32G}`"
        else:
            hint = f"see {followed.folder.errors}"
        return InfrastructureError(name, message, hint)

    def expect(self, num_left: int, devices: Devices = None) -> None:
        """Nothing can be made ready."""

    def close(self) -> None:
        """The jobs go on."""


def _pass_on(followed: _Followed) -> None:
    """Show the whole lines that a job has written since the last look."""
    try:
        with followed.folder.output.open("rb") as stream:
            stream.seek(followed.shown)
            new = stream.read()
    except OSError:
        return
    whole = new[: new.rfind(b"\n") + 1]
    followed.shown += len(whole)
    for line in whole.decode(errors="replace").splitlines():
        if line:
            followed.stage_run.say(line)


def _outcome(followed: _Followed, ending: Ending | None, artifact: Artifact) -> Outcome:
    seconds = ending.seconds if ending else float(artifact.provenance["seconds"])
    status = "resumed" if ending and ending.status == "resumed" else "ran"
    return Outcome(followed.stage_run.planned.name, status, artifact, seconds)
