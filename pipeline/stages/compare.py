"""Stage `compare`: candidates against a baseline on the same items, with intervals.

Scores, differences and win rates (how often a response is preferred to the baseline's).

Writes comparison.json (`rows`) and items.jsonl. A model may be given as a finished `evaluate`
stage, whose items are then taken as they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.errors import PosttrainError
from pipeline.recipe.config import OR_ONE, RefersTo
from pipeline.stage import Stage, StageContext, StageResult
from pipeline.stages.evaluate import (
    MeasuringStage,
    measure,
    model_name,
    read_items,
    write_items,
)

if TYPE_CHECKING:
    from eval.run import ItemResult

COMPARISON = "comparison.json"
Entrant = Annotated[str, RefersTo(("policy", "evaluation")), Field(min_length=1)]


class CompareConfig(MeasuringStage):
    """baseline: what the candidates are measured against, usually the base model.

    Each is a model, which is then asked `tasks` and `texts`, or an `evaluate` stage, whose results
    are taken.
    """

    stage: Literal["compare"]
    baseline: Entrant
    candidates: Annotated[tuple[Entrant, ...], Field(min_length=1), OR_ONE]


def run(config: CompareConfig, context: StageContext) -> StageResult:
    """Ask every model the same, pair the answers, write the rows."""
    from eval.compare import compare

    sources = [context.model(reference) for reference in (config.baseline, *config.candidates)]
    if not config.tasks and not config.texts and any(s.kind != "evaluation" for s in sources):
        raise PosttrainError(
            context.name, "there is nothing to ask the models", "name `tasks` or `texts`"
        )
    results: dict[str, list[ItemResult]] = {}
    for source in sources:
        name = model_name(source)
        if name in results:
            raise PosttrainError(context.name, f"`{name}` is named twice", "name each model once")
        if source.kind == "evaluation":
            results[name] = read_items(Path(source.path)).get(name, [])
        else:
            results[name] = measure(config, context, source, None)
        write_items(results[name], name, context)
    baseline = next(iter(results))
    try:
        rows = [asdict(row) for row in compare(results, baseline)]
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    (context.out / COMPARISON).write_text(
        json.dumps({"baseline": baseline, "models": list(results), "rows": rows}, indent=1),
        encoding="utf-8",
    )
    gains = {
        f"{row['model']} {row['task']} {row['metric']} {row['style']}": gain
        for row in rows
        if (gain := row["score"] if row["metric"] == "win_rate" else row["delta"]) is not None
    }
    return StageResult(metrics=gains)


STAGE = Stage(config=CompareConfig, run=run, produces="comparison", version=2, data_forms=("text",))
