"""What the page that follows a run shows: every stage, one stage's curves, samples. Plain JSON.

Reads the store only, so it can look at a run of another process, and of one that is over. A stage's
fingerprint is known before it runs: the plan is made once, and what is there is looked up again.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import METRICS
from pipeline.report.headline import headline
from pipeline.report.html import run_of_plan
from pipeline.report.html.curves import panels
from pipeline.report.html.palette import palette_of_run
from pipeline.report.html.rollouts.samples import read_samples
from pipeline.report.html.training import read_changes
from pipeline.report.point_rows import list_stages
from pipeline.report.rollouts import KINDS
from pipeline.run.course import likely_seconds
from pipeline.run.schedule import Graph, seconds_left
from pipeline.store.run_record import last_run
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.plan.plan import Plan
    from pipeline.report.html.curves import Panel
    from pipeline.report.html.palette import Palette
    from pipeline.report.html.run_source import ReportedRun, ReportedStage
    from pipeline.report.point_rows import ListedStage
    from pipeline.store.store import Store

_SAMPLES = 6
_OVER = ("ran", "resumed", "cached")


class Follower:
    """Looks at a run, again and again. plan: of the recipe as it was when following began."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store

    def look(self, chosen: str = "") -> dict[str, Any]:
        """Return the state of the run; chosen: the stage whose curves are asked for, if any."""
        run = run_of_plan(self._newest(), self._store, may_be_empty=True)
        last = last_run(self._store, self._plan.recipe.run_name)
        shown = _stage_to_show(run, chosen)
        colours = palette_of_run(run.stages)
        stages = [
            _stage(run.stages[listed.place], last, colours) | _in_sweep(listed)
            for listed in list_stages([stage.name for stage in run.stages])
        ]
        return {
            "name": visible(run.name),
            "time_s": time.time(),
            "state": _state_of(run),
            "stages": stages,
            "left_s": _left_s(stages, self._plan),
            "shown": "" if shown is None else shown.name,
            "panels": [] if shown is None else [_panel(panel) for panel in _panels(shown)],
            "samples": [] if shown is None else _samples(shown),
        }

    def _newest(self) -> Plan:
        """Return the plan with the results that have come since."""
        stages = [
            planned
            if planned.artifact is not None
            else replace(
                planned, artifact=self._store.read_manifest(planned.kind, planned.fingerprint)
            )
            for planned in self._plan.stages
        ]
        self._plan = replace(self._plan, stages=tuple(stages))
        return self._plan


def _in_sweep(listed: ListedStage) -> dict[str, Any]:
    """Return what a row is called, and the sweep that is named above it."""
    grid = listed.begins
    begins = "" if grid is None else f"{grid.title}: {len(grid.points)} stages"
    return {"label": visible(listed.label.strip()), "begins": visible(begins)}


def _stage(
    stage: ReportedStage, last: Mapping[str, Mapping[str, Any]], colours: Palette
) -> dict[str, Any]:
    attempt = None if stage.attempt is None else asdict(stage.attempt)
    seconds = None if stage.artifact is None else stage.artifact.provenance.get("seconds")
    return {
        "name": visible(stage.name),
        "kind": stage.kind,
        "colour": colours(stage.name),
        "status": stage.status,
        "seconds": seconds,
        "likely_s": likely_seconds(stage.name, stage.kind, last),
        "left_s": None if stage.attempt is None else stage.attempt.left_s,
        "result": "" if stage.artifact is None else visible(headline(stage.artifact)),
        "attempt": attempt and {key: _plain(value) for key, value in attempt.items()},
        "has_curves": _has_curves(stage),
    }


def _has_curves(stage: ReportedStage) -> bool:
    return stage.folder is not None and (stage.folder / METRICS).is_file()


def _plain(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value


def _state_of(run: ReportedRun) -> str:
    states = {stage.status for stage in run.stages}
    for state in ("running", "failed", "stopped"):
        if state in states:
            return state
    if states <= set(_OVER):
        return "finished"
    return "waiting"


def _left_s(stages: Sequence[Mapping[str, Any]], plan: Plan) -> float | None:
    """Return seconds until all is done; None where a stage has not been timed, or nothing runs.

    As many are taken to run side by side as do now.
    """
    running = [stage["name"] for stage in stages if stage["status"] == "running"]
    left_s = {
        stage["name"]: stage["left_s" if stage["status"] == "running" else "likely_s"]
        for stage in stages
        if stage["status"] not in _OVER
    }
    order = [planned for planned in plan.stages if planned.name in left_s]
    needs = {planned.name: [name for name in planned.inputs if name in left_s] for planned in order}
    graph = Graph([planned.name for planned in order], needs, left_s)
    return seconds_left(graph, len(running), running) if running else None


def _stage_to_show(run: ReportedRun, chosen: str) -> ReportedStage | None:
    """Return the chosen stage, else what runs, else what has curves and was begun last."""
    for stage in run.begun:
        if stage.name == chosen:
            return stage
    running = [stage for stage in run.begun if stage.status == "running"]
    with_curves = [stage for stage in run.begun if _has_curves(stage)]
    candidates = [stage for stage in running if stage in with_curves] or with_curves[-1:]
    return candidates[0] if candidates else None


def _panels(stage: ReportedStage) -> tuple[Panel, ...]:
    assert stage.folder is not None
    try:
        return panels(stage.folder, is_finished=False)
    except CorruptArtifactError:
        return ()


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "note": panel.note,
        "series": [
            {"label": series.label, "x": series.steps, "y": series.values}
            for series in panel.series
        ],
    }


def _samples(stage: ReportedStage) -> list[dict[str, Any]]:
    """Return a few prompts with what was answered: of rollouts first and last, else both ends.

    An answer that is a picture has it beside its text.
    """
    assert stage.folder is not None
    if stage.kind in KINDS:
        return [
            {
                "prompt": visible(sample.prompt),
                "answers": [
                    {
                        "label": f"rollout {completion.rollout}",
                        "text": visible(completion.text),
                        "picture": completion.picture and asdict(completion.picture),
                        "score": completion.score,
                    }
                    for completion in dict.fromkeys((sample.completions[0], sample.completions[-1]))
                ],
            }
            for sample in _latest(read_samples(stage.folder, is_finished=False))
        ]
    if not stage.is_finished:
        return []
    return [
        {
            "prompt": visible(change.prompt),
            "answers": [
                {"label": label, "text": visible(text), "picture": None, "score": None}
                for label, text in (("before", change.before), ("after", change.after))
            ],
        }
        for change in read_changes(stage.folder)[:_SAMPLES]
    ]


def _latest(prompts: Sequence[Any]) -> list[Any]:
    """Return the prompts with the newest answers, those that were answered more than once first."""
    newest = sorted(
        prompts,
        key=lambda sample: (len(sample.completions) > 1, sample.completions[-1].rollout),
        reverse=True,
    )
    return newest[:_SAMPLES]
