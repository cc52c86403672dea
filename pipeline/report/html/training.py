"""What a training stage left beside its weights: curves, held-out ranking, before and after.

Not of stages on rollouts, which have a section of their own (rollouts/).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eval.statistics.estimate import Estimate
from pipeline.data.encoding.lengths import describe_rows, is_worth_a_warning
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import HELD_OUT, SAMPLES
from pipeline.report.html.curves import Panel, panels
from pipeline.report.html.samples import cut
from pipeline.report.html.swept import pick_best
from pipeline.report.point_rows import grids, one_a_sweep
from pipeline.report.rollouts import KINDS
from pipeline.report.screening import describe_screening

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.report.html.run_source import ReportedRun, ReportedStage

# What is said of a stage in a line, by metric: label and how it is formatted.
FACTS: tuple[tuple[str, str, str], ...] = (
    ("steps", "steps", "count"),
    ("rows", "rows", "count"),
    ("tokens", "tokens", "count"),
    ("trained_tokens", "trained tokens", "count"),
    ("parameters", "parameters", "count"),
    ("trained_parameters", "trained parameters", "count"),
)


_MOST_SHOWN = 12  # stages of a sweep


@dataclass(frozen=True)
class HeldOut:
    """How well rows that were kept back are told apart.

    noun: pairs, or answers that were judged one by one. right: what the accuracy is a share of, in
    words. bins: (confidence, accuracy, n); none of answers. parts: the same accuracy by `part`,
    what is wrong with a rejected response or an answer's label: (part, n, accuracy).
    """

    n: int
    accuracy: Estimate
    calibration_error: float | None
    bins: tuple[tuple[float, float, int], ...]
    parts: tuple[tuple[str, int, Estimate], ...]
    noun: str = "pairs"
    right: str = "are ranked as preferred"
    part: str = "what is wrong with the rejected response"


@dataclass(frozen=True)
class Change:
    """A response before and after training."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class StageTraining:
    """A training stage as the report shows it.

    facts: (label, value, format). packing: how rows were laid out; "" where they always are so.
    account: what became of its rows; is_warning: whether more than a few of them were lost.
    """

    stage: str
    kind: str
    facts: tuple[tuple[str, float, str], ...]
    measured: tuple[tuple[str, Estimate, int], ...]
    sources: tuple[str, ...]
    packing: str
    account: str
    is_warning: bool
    panels: tuple[Panel, ...]
    held_out: HeldOut | None
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class TrainingGroup:
    """A stage, or those of a sweep. left_out: how many are not shown; None of a single stage."""

    name: str
    trainings: tuple[StageTraining, ...]
    left_out: int | None = None


def training_groups(run: ReportedRun) -> tuple[TrainingGroup, ...]:
    """Return the stages that left curves or a held-out ranking, those of a sweep together.

    Of a large sweep the best ones: a figure takes a tenth of a second.
    """
    stages = {stage.name: stage for stage in run.begun if stage.kind not in KINDS}
    by_name = {name: grid for grid in grids(stages) for name in grid.points}
    groups: list[TrainingGroup] = []
    for name in one_a_sweep(list(stages)):
        grid = by_name.get(name)
        own = [stages[name]] if grid is None else [stages[point] for point in grid.points]
        shown = own if len(own) <= _MOST_SHOWN else pick_best(own, _MOST_SHOWN)
        found = tuple(each for each in map(_training, shown) if each.panels or each.held_out)
        if found and grid is None:
            groups.append(TrainingGroup(name, found))
        elif found and grid is not None:
            groups.append(TrainingGroup(grid.title, found, len(own) - len(shown)))
    return tuple(groups)


def _training(stage: ReportedStage) -> StageTraining:
    assert stage.folder is not None
    folder, metrics = stage.folder, stage.metrics
    return StageTraining(
        stage=stage.name,
        kind=stage.kind,
        facts=facts(metrics),
        measured=measured(metrics),
        sources=(*map(str, metrics.get("sources", ())), *describe_screening(metrics)),
        packing=packing(metrics),
        account=describe_rows(metrics),
        is_warning=is_worth_a_warning(metrics),
        panels=panels(folder, is_finished=stage.is_finished),
        held_out=_held_out(folder / HELD_OUT) if stage.is_finished else None,
        changes=read_changes(folder) if stage.is_finished else (),
    )


def facts(metrics: Mapping[str, Any]) -> tuple[tuple[str, float, str], ...]:
    """Return what is said of a stage in a line: label, value, format."""
    return tuple(
        (label, metrics[key], how) for key, label, how in FACTS if metrics.get(key) is not None
    )


def packing(metrics: Mapping[str, Any]) -> str:
    """Return how rows were laid out, and how much of that is padding; "" where nobody chose."""
    share = metrics.get("padding_share")
    said = str(metrics.get("packing", ""))
    return said if share is None or not said else f"{said}; at most {share:.0%} of it is padding"


def measured(metrics: Mapping[str, Any]) -> tuple[tuple[str, Estimate, int], ...]:
    """Return what was measured at the end: label, figure, digits."""
    found: list[tuple[str, Estimate, int]] = []
    if metrics.get("kl") is not None:
        kl = Estimate(metrics["kl"], metrics.get("kl_low"), metrics.get("kl_high"))
        found.append(("KL to the reference, nats a response", kl, 2))
    found += [
        (f"bits per byte of held-out text: {key.partition(' ')[2]}", Estimate(value), 3)
        for key, value in metrics.items()
        if key.startswith("bits_per_byte ") and value is not None
    ]
    return tuple(found)


def _held_out(path: Path) -> HeldOut | None:
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        labels = raw.get("by_label")
        found = HeldOut(
            n=raw["n"],
            accuracy=Estimate(raw["accuracy"], raw["low"], raw["high"]),
            calibration_error=raw.get("calibration_error"),
            bins=tuple(
                (b["confidence"], b["accuracy"], b["n"]) for b in raw.get("calibration", ())
            ),
            parts=tuple(
                (str(part), f["n"], Estimate(f["accuracy"], f["low"], f["high"]))
                for part, f in (labels or raw.get("by_flaw", {})).items()
            ),
        )
        if not labels:
            return found
        right = "have an implied reward of their label's sign"
        return replace(found, noun="answers", right=right, part="label")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error


def read_changes(folder: Path) -> tuple[Change, ...]:
    """Return the responses before and after training that a finished stage kept, if it did."""
    path = folder / SAMPLES
    if not path.is_file():
        return ()
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return tuple(
            Change(*(cut(str(line[key])) for key in ("prompt", "before", "after")))
            for line in found
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error
