"""Stage `evaluate`: asks one model the test items of tasks and reads it held-out text.

Base models are asked by a document to continue, chat models through their template; every result
says which. What is asked here is asked in the same way by `compare`, which can take this stage's
results for a model's.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from pipeline.recipe.config import (
    EXECUTION,
    OR_ONE,
    DataBlock,
    ModelRef,
    Precision,
    StageConfig,
    TaskName,
)
from pipeline.stage import Stage, StageContext, StageInput, StageResult

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from eval.run import ItemResult

ITEMS = "items.jsonl"
Style = Literal["zero-shot", "few-shot"]
Form = Literal["document", "chat"]


class MeasuringStage(StageConfig):
    """What is asked of a model.

    tasks: by name. texts: sources whose bits per byte are measured (with `holdout`, the part held
    out).
    limit: test items a task. shots: demonstrations in a few-shot prompt.
    temperature: 0 is greedy. batch_size: memory and speed only.
    """

    tasks: Annotated[tuple[TaskName, ...], OR_ONE] = ()
    texts: Annotated[tuple[DataBlock, ...], OR_ONE] = ()
    limit: PositiveInt = 200
    styles: Annotated[tuple[Style, ...], Field(min_length=1), OR_ONE] = (
        "zero-shot",
        "few-shot",
    )
    shots: PositiveInt = 3
    temperature: NonNegativeFloat = 0.0
    precision: Precision = "fp32"
    batch_size: Annotated[PositiveInt, EXECUTION] = 64


class EvaluateConfig(MeasuringStage):
    """model: what is asked. form: how, when its own stage does not say or says it wrong."""

    stage: Literal["evaluate"]
    model: ModelRef
    form: Form | None = None

    @model_validator(mode="after")
    def _something_to_ask(self) -> EvaluateConfig:
        if not self.tasks and not self.texts:
            raise ValueError("there is nothing to measure: name `tasks` or `texts`")
        return self


def run(config: EvaluateConfig, context: StageContext) -> StageResult:
    """Ask, and write one line an item to items.jsonl."""
    from eval.compare import compare

    source = context.model(config.model)
    results = measure(config, context, source, config.form)
    name = model_name(source)
    write_items(results, name, context)
    rows = compare({name: results}, name)
    return StageResult(
        metrics={f"{row.task} {row.metric} {row.style}": row.score for row in rows},
        properties={"model": model_name(source)},
    )


def model_name(source: StageInput) -> str:
    """Return a model's name in tables; of an evaluation, the name of the model it asked."""
    return source.properties.get("model", source.name)


def measure(
    config: MeasuringStage, context: StageContext, source: StageInput, form: Form | None
) -> list[ItemResult]:
    """Load a model and return what it made of every item."""
    from eval.run import evaluate, evaluate_texts
    from pipeline.data.blocks import held_out_texts
    from pipeline.models import language_model
    from pipeline.recipe.tasks import load_task

    model = language_model(source, form=form, precision=config.precision)

    def show(label: str, done: int, total: int) -> None:
        context.progress(f"{source.name}: {label}", done, total)

    results = evaluate(
        model,
        [load_task(name, context.places.base) for name in config.tasks],
        limit=config.limit,
        styles=config.styles,
        shots=config.shots,
        batch_size=config.batch_size,
        seed=context.seed,
        temperature=config.temperature,
        on_progress=show,
        should_stop=context.should_stop,
    )
    texts = {
        block.label: held_out_texts(block, context.places, at_most=config.limit)
        for block in config.texts
    }
    if texts:
        results += evaluate_texts(
            model,
            texts,
            batch_size=config.batch_size,
            on_progress=show,
            should_stop=context.should_stop,
        )
    return results


def write_items(results: Iterable[ItemResult], model: str, context: StageContext) -> None:
    """Append one JSON line an item to items.jsonl."""
    with (context.out / ITEMS).open("a", encoding="utf-8") as stream:
        for result in results:
            stream.write(json.dumps({"model": model, **asdict(result)}) + "\n")


def read_items(folder: Path) -> dict[str, list[ItemResult]]:
    """Return the results that `write_items` wrote into a folder, by model."""
    from eval.run import ItemResult

    results: dict[str, list[ItemResult]] = {}
    for line in (folder / ITEMS).read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        results.setdefault(item.pop("model"), []).append(ItemResult(**item))
    return results


STAGE = Stage(
    config=EvaluateConfig, run=run, produces="evaluation", version=2, data_forms=("text",)
)
