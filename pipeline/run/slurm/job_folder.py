"""What lies in the folder of a stage's job, on the disk that the cluster shares.

In runs/store/.slurm/<kind>-<fingerprint>/:

- job.json: what the job is to do, written before it is submitted
- submitted.json: its number, and the numbers of the jobs that it waits for
- output.txt: what a run says of the stage, followed by whoever submitted it
- errors.txt: progress, and what libraries print
- stops.json: at which steps it was stopped, and put back into the queue
- ended.json: how it ended
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline import errors
from pipeline.store.manifest import write_json
from pipeline.store.store import drop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.errors import PosttrainError
    from pipeline.plan.plan import PlannedStage
    from pipeline.store.store import Store

JOBS = ".slurm"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job is to do: one stage of a recipe as it was when the job was submitted.

    recipe: its file. document: what was in it, with what the command line overrode. roots: data
    folders by name. seed: of one of several seeds; None for the recipe's own. runs: the folder of
    results.
    """

    recipe: str
    document: Mapping[str, Any]
    roots: Mapping[str, str]
    seed: int | None
    stage: str
    fingerprint: str
    runs: str
    is_forced: bool
    resume_anyway: bool


@dataclass(frozen=True)
class Submitted:
    """A job's number, and those of the jobs that it waits for."""

    number: str
    after: tuple[str, ...] = ()
    is_forced: bool = False


@dataclass(frozen=True)
class Ending:
    """How a job ended. status: of its stage's result. kind: of an error's class; "" without one."""

    status: str = ""
    seconds: float = 0.0
    kind: str = ""
    where: str = ""
    message: str = ""
    hint: str = ""

    @property
    def error(self) -> PosttrainError | None:
        """What was raised."""
        if not self.kind:
            return None
        kind: type[PosttrainError] = getattr(errors, self.kind)
        return kind(self.where, self.message, self.hint)


@dataclass(frozen=True)
class JobFolder:
    """The folder of a stage's job."""

    path: Path

    @property
    def output(self) -> Path:
        """What a run says of the stage."""
        return self.path / "output.txt"

    @property
    def errors(self) -> Path:
        """What else is printed."""
        return self.path / "errors.txt"

    def prepare(self, job: Job) -> None:
        """Make the folder of a job that is to be submitted; what an earlier one left goes."""
        drop(self.path)
        self.path.mkdir(parents=True)
        write_json(self.path / "job.json", asdict(job))

    def job(self) -> Job:
        """Return what the job is to do."""
        return Job(**json.loads((self.path / "job.json").read_text(encoding="utf-8")))

    def note_submitted(self, submitted: Submitted) -> None:
        """Write down a job's number."""
        write_json(self.path / "submitted.json", asdict(submitted))

    def submitted(self) -> Submitted | None:
        """Return the job that was submitted, if one was."""
        fields = self._read("submitted.json")
        return None if fields is None else Submitted(**{**fields, "after": tuple(fields["after"])})

    def begin(self) -> None:
        """Forget how an earlier attempt ended."""
        drop(self.path / "ended.json")

    def end(self, ending: Ending) -> None:
        """Write down how the job ended."""
        write_json(self.path / "ended.json", asdict(ending))

    def ending(self) -> Ending | None:
        """Return how the job ended; None if it has not, or could not say."""
        fields = self._read("ended.json")
        return None if fields is None else Ending(**fields)

    def note_stop(self, step: int) -> list[int]:
        """Add the step at which the job was stopped, and return all of them."""
        steps = [*((self._read("stops.json") or {}).get("steps", [])), step]
        write_json(self.path / "stops.json", {"steps": steps})
        return steps

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or torn by a full disk
            return None


def job_folder(store: Store, planned: PlannedStage) -> JobFolder:
    """Return the folder of a stage's job, there or not."""
    name = store.folder(planned.kind, planned.fingerprint).name
    return JobFolder(store.root.resolve() / JOBS / name)
