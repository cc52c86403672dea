"""One colour per model in all of a report: in tables, figures, samples and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.point_rows import grids
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.report.html.run_source import ReportedStage

_MODELS = ("policy", "reward_model")
COLOURS = 8  # colours of the page (style.css), taken in turn where there are more models


@dataclass(frozen=True)
class Palette:
    """The number of a colour by a model's name; what has no colour of its own is grey, 0."""

    by_name: Mapping[str, int]

    def __call__(self, name: str) -> int:
        """Return the number of a model's colour."""
        return self.by_name.get(name, 0)


def palette_of_run(stages: Iterable[ReportedStage], others: Iterable[str] = ()) -> Palette:
    """Return the colours of the models that a run makes, in its order, and of others after them.

    A stage has its colour before it has run: the page that follows a run shows the report's. But
    where a sweep makes more models than there are colours, the others, which are seen side by side,
    come first.
    """
    models, compared = [stage.name for stage in stages if _makes_model(stage)], list(others)
    first = compared if len(models) > COLOURS and grids(models) else []
    return palette_of([*first, *models, *compared])


def _makes_model(stage: ReportedStage) -> bool:
    try:
        return stage_of(stage.kind).produces in _MODELS
    except ValueError:  # made by a package that is not installed here
        return stage.artifact is not None and stage.artifact.produces in _MODELS


def palette_of(names: Iterable[str]) -> Palette:
    """Return the colours of models in the order in which they are given, the first one's grey."""
    once = dict.fromkeys(names)
    return Palette({name: number % COLOURS for number, name in enumerate(once)})
