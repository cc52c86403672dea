"""Submits a job for each stage of a run that is not there, with the order that the plan asks for.

A job waits for those of the stages that its own is built on (`afterok`); where one of them fails,
Slurm cancels it. One that an earlier run submitted and that still waits or runs is taken over.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from pipeline.recipe.slurm import option_words
from pipeline.run.slurm.client import job_states, submit
from pipeline.run.slurm.job_folder import Job, Submitted, job_folder
from pipeline.store.locks import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.plan.plan import PlannedStage
    from pipeline.run.recipe_run import RecipeRun
    from pipeline.run.slurm.job_folder import JobFolder
    from pipeline.run.team import Key

# Seconds before the time limit at which a job is asked to stop; `signal` in `sbatch` overrides it.
_TO_STOP_S = 120


def submit_all(
    runs: Sequence[RecipeRun],
    twins: Mapping[Key, Key],
    *,
    is_stopped: Callable[[], bool],
) -> dict[Key, Submitted]:
    """Submit the jobs of all stages that are to run; return them, those taken over too.

    twins: stages that are the same as another one, whose job they wait for. Ends early when the
    user asks to stop. Raises as `client.submit` does.
    """
    for each in runs:
        each.check_inputs()
    jobs: dict[Key, Submitted] = {}
    is_taken_over: dict[Key, bool] = {}
    with hold(runs[0].store.lock_path("slurm")):
        known = job_states() or {}
        for number, each in enumerate(runs):
            for name in each.pending:
                key = (number, name)
                if key in twins or is_stopped():
                    continue
                planned = each.plan.stage(name)
                needed = [twins.get((number, other), (number, other)) for other in planned.inputs]
                above = [other for other in needed if other in jobs]
                folder = job_folder(each.store, planned)
                there = folder.submitted()
                is_forced = each.selection.forces(planned)
                is_taken_over[key] = (
                    there is not None
                    and there.is_forced == is_forced
                    and there.number in known
                    and not known[there.number].is_over
                    and all(is_taken_over[other] for other in above)
                )
                if is_taken_over[key] and there is not None:
                    jobs[key] = there
                    each.tell(name, f"is job {there.number} already")
                    continue
                after = tuple(dict.fromkeys(jobs[other].number for other in above))
                jobs[key] = _submit(each, planned, folder, after)
                waits = f", after {' and '.join(after)}" if after else ""
                each.tell(name, f"job {jobs[key].number}{waits}")
    return jobs


def _submit(
    each: RecipeRun, planned: PlannedStage, folder: JobFolder, after: tuple[str, ...]
) -> Submitted:
    recipe = each.recipe
    is_forced = each.selection.forces(planned)
    document = recipe.document.written or recipe.document
    folder.prepare(
        Job(
            recipe=str(recipe.path),
            document=document.value,
            roots={name: str(root) for name, root in recipe.places.roots.items()},
            seed=recipe.seed if recipe.is_of_several else None,
            stage=planned.name,
            fingerprint=planned.fingerprint,
            runs=str(each.store.runs.resolve()),
            is_forced=is_forced,
            resume_anyway=each.resume_anyway,
        )
    )
    program = shlex.join([sys.executable, "-P", "-m", "pipeline.cli.slurm_job", str(folder.path)])
    words = [
        f"--job-name={recipe.run_name.replace('/', '.')}.{planned.name}",
        f"--output={_literal(folder.output)}",
        f"--error={_literal(folder.errors)}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:TERM@{_TO_STOP_S}",
        *option_words(recipe, planned.name),
        "--kill-on-invalid-dep=yes",
        *([f"--dependency=afterok:{':'.join(after)}"] if after else []),
        f"--wrap=exec {program}",
    ]
    submitted = Submitted(submit(recipe, planned.name, words), after, is_forced)
    folder.note_submitted(submitted)
    return submitted


def _literal(path: object) -> str:
    """Return a path in which Slurm replaces nothing."""
    return str(path).replace("%", "%%")
