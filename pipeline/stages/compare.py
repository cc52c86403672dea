"""Stage `compare`: candidates against a baseline on the same items, with intervals.

Scores, differences, win rates (how often a response is preferred to the baseline's) and, with a
`gate`, whether the candidates may ship.

Writes comparison.json (see `eval.comparison.comparison` and `eval.comparison.gate`) and
items.jsonl. A model may be a finished `evaluate` stage, whose items are then taken as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.blocks import Block
from pipeline.config.field_types import OR_ONE
from pipeline.config.marks import RefersTo
from pipeline.config.measuring_stage import MEASURED_FORMS, MeasuringStage
from pipeline.config.stage import Stage, StageContext, StageInput, StageResult
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.names import COMPARISON
from pipeline.measuring.model_scores import (
    Measurement,
    free_form_of,
    measure,
    read_items,
    write_items,
)
from pipeline.measuring.pairs import rank_pairs, read_reports, write_reports
from pipeline.stages.evaluate import metric_name, model_name
from pipeline.store.store import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.comparison.comparison import Comparison
    from eval.comparison.gate import Bounds
    from pipeline.measuring.free_form import FreeForm
    from pipeline.store.store import Artifact

Entrant = Annotated[str, RefersTo(("policy", "evaluation", "reward_model")), Field(min_length=1)]


class GateBlock(Block):
    """Bounds on the ends of 95% intervals; all that are given must hold.

    delta_low, delta_high: of the difference to the baseline's best style, at least and at most.
    score_low, score_high: of the score. win_rate_low: of the win rate over the baseline.
    clear_loss: the most that may be lost to the baseline's best style with an interval clear of 0.
    """

    delta_low: float | None = None
    delta_high: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    win_rate_low: float | None = None
    clear_loss: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _something_to_hold(self) -> GateBlock:
        if not self.model_fields_set:
            names = ", ".join(f"`{name}`" for name in type(self).model_fields)
            raise ValueError(f"there is no bound: give one of {names}")
        return self


class CompareConfig(MeasuringStage):
    """baseline: what is measured against, usually the base model. candidates: what is measured.

    Each is a model, which is then asked `tasks` and `texts`, a reward model, which ranks `pairs`,
    or an `evaluate` stage, whose results are taken.
    gate: what every candidate must keep to for it to ship, by task (`task metric style` where that
    is not enough; `all` for each task; a text by its file's name without ending and `_bpb`). Where
    one does not, the run ends with exit code 1.
    """

    stage: Literal["compare"]
    baseline: Entrant
    candidates: Annotated[tuple[Entrant, ...], Field(min_length=1), OR_ONE]
    gate: dict[str, GateBlock] = {}  # noqa: RUF012  pydantic copies it


def run(config: CompareConfig, context: StageContext) -> StageResult:
    """Ask every model the same, pair the answers, write the tables and the gate's verdict."""
    from eval.comparison.comparison import compare_results

    sources = [context.model(reference) for reference in (config.baseline, *config.candidates)]
    if not config.asks and any(source.kind != "evaluation" for source in sources):
        raise PosttrainError(
            context.name, "there is nothing to ask the models", "name `tasks`, `texts`, `prompts`"
        )
    window = config.window or _common_window(config, sources)
    free_form = free_form_of(config, context)
    measured: dict[str, Measurement] = {}
    ranked: dict[str, Any] = {}
    for source in sources:
        name = model_name(source)
        if name in measured:
            raise PosttrainError(context.name, f"`{name}` is named twice", "name each model once")
        measured[name] = _measure(config, context, source, name, window, free_form)
        write_items(measured[name].results, name, context)
        if measured[name].pairs:
            ranked[name] = measured[name].pairs
    if ranked:
        write_reports(ranked, context)
    try:
        result = compare_results(
            {name: model.results for name, model in measured.items()},
            next(iter(measured)),
            pass_at=config.pass_at,
            trained_from={name: model.trained_from for name, model in measured.items()},
            notes=[note for model in measured.values() for note in model.notes],
            gate=bounds(config.gate),
        )
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    content = json.dumps(result.to_json(), indent=1)
    (context.out / COMPARISON).write_text(content, encoding="utf-8")
    gains = {
        f"{row.model} {metric_name(row)}": gain
        for row in result.rows
        if (gain := row.score if row.metric.startswith("win_rate") else row.delta) is not None
    }
    metrics = gains | ({"ships": result.gate.ships} if result.gate else {})
    return StageResult(metrics | (free_form.judges() if free_form is not None else {}))


def read_comparison(artifact: Artifact) -> Comparison:
    """Return what a finished compare stage found.

    Raises CorruptArtifactError for a file that is not what was published, or of another program.
    """
    return parse_comparison(read_json(artifact, COMPARISON), artifact.path)


def parse_comparison(content: Mapping[str, Any], folder: Path) -> Comparison:
    """Return what the comparison.json of a folder says; raises CorruptArtifactError."""
    from eval.comparison.comparison import Comparison

    try:
        return Comparison.from_json(content)
    except ValueError as error:
        path = str(folder / COMPARISON)
        raise CorruptArtifactError(path, f"is not readable ({error})") from error


def bounds(gate: Mapping[str, GateBlock]) -> dict[str, Bounds]:
    """Return a recipe's gate as evaluation takes it."""
    from eval.comparison.gate import Bounds

    return {key: Bounds(**block.model_dump()) for key, block in gate.items()}


def _common_window(config: CompareConfig, sources: Sequence[StageInput]) -> int | None:
    """Return the context that all models can read texts with; None where no text is read now."""
    if not config.texts:
        return None
    from pipeline.models.language import reading_window

    windows = [reading_window(source) for source in sources if source.kind != "evaluation"]
    for source in sources:
        if source.kind == "evaluation":
            items = read_items(Path(source.path)).get(model_name(source), [])
            windows += [item.window for item in items if item.window]
    return min(windows, default=None)


def _measure(
    config: CompareConfig,
    context: StageContext,
    source: StageInput,
    name: str,
    window: int | None,
    free_form: FreeForm | None,
) -> Measurement:
    """Return the results of a finished evaluation, or ask a model now."""
    if source.kind != "evaluation" and config.pairs:
        found = rank_pairs(config, context, source)
        return Measurement(found.results, notes=found.notes, pairs=found.reports)
    if source.kind != "evaluation":
        return measure(config, context, source, None, window=window, free_form=free_form)
    return Measurement(
        results=read_items(Path(source.path)).get(name, []),
        trained_from=source.properties.get("trained_from"),
        notes=source.properties.get("notes", []),
        pairs=read_reports(Path(source.path)).get(name, {}),
    )


STAGE = Stage(
    config=CompareConfig,
    run=run,
    produces="comparison",
    version=10,
    data_forms=("text",),
    measured_forms=MEASURED_FORMS,
)
