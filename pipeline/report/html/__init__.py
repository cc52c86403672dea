"""`report.html`: one self-contained page about a run, for people. Not the terminal's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.files.whole_files import write_whole
from pipeline.report.html.run_source import (
    ReportedRun,
    first_seed,
    recorded_recipe,
    run_of_folder,
    run_of_plan,
    runs_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.plan.plan import Plan
    from pipeline.store.store import Store

__all__ = [
    "ReportedRun",
    "first_seed",
    "recorded_recipe",
    "run_of_folder",
    "run_of_plan",
    "runs_of",
    "write",
    "write_report",
]


def write_report(plan: Plan, store: Store, target: Path) -> Path:
    """Write the report of a recipe's run; `target` appears whole or not at all.

    Raises PosttrainError when nothing of the recipe has run, CorruptArtifactError for a result
    that is not whole.
    """
    return write(run_of_plan(plan, store), target)


def write(run: ReportedRun, target: Path) -> Path:
    """Write the report of a run, of a plan or of a folder's record; raises as `write_report`."""
    from pipeline.report.html.page import gather, render
    from pipeline.store.store import verify

    for stage in run.present:
        if stage.artifact is not None:
            verify(stage.artifact, leaves_out=".safetensors")  # no page shows weights
    page = render(gather(run))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page)
    return target
