"""Stage `evaluate`: asks one model the test items of tasks, and measures it on held-out text.

Or has a reward model rank pairs (pipeline/measuring/pairs.py). Base models continue a document,
chat models are asked through their template; every result says which. `compare` asks in the same
way, and can take this stage's results in place of a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from eval.results import BITS_PER, PREFERENCE
from pipeline.config.field_types import AnyModelRef
from pipeline.config.measuring_stage import MEASURED_FORMS, Form, MeasuringStage
from pipeline.config.stage import Stage, StageContext, StageInput, StageResult
from pipeline.config.stage_config import WithTemplate
from pipeline.measuring.model_scores import free_form_of, measure, write_items

if TYPE_CHECKING:
    from eval.comparison.score_rows import Row


class EvaluateConfig(WithTemplate, MeasuringStage):
    """model: what is asked; with `tools`, a comparison calls it by its name and `with tools`.

    For `pairs` it is a reward model.
    form: how it is asked, when its own stage does not say or says it wrong.
    """

    stage: Literal["evaluate"]
    model: AnyModelRef
    form: Form | None = None

    @model_validator(mode="after")
    def _something_to_ask(self) -> EvaluateConfig:
        if not self.asks:
            what = "`tasks`, `texts`, `prompts` or `harness`, of a reward model `pairs`"
            raise ValueError(f"there is nothing to measure; name {what}")
        return self


def run(config: EvaluateConfig, context: StageContext) -> StageResult:
    """Ask, and write one line per item to items.jsonl."""
    from eval.comparison.score_rows import compare_scores

    source = context.model(config.model)
    if config.pairs:
        return _rank_pairs(config, context, source)
    free_form = free_form_of(config, context)
    measured = measure(
        config, context, source, config.form, window=config.window, free_form=free_form
    )
    name = model_name(source) + (" with tools" if config.tools else "")
    write_items(measured.results, name, context)
    rows = compare_scores({name: measured.results}, name, pass_at=config.pass_at)
    return StageResult(
        metrics={
            **{metric_name(row): row.score for row in rows},
            **(free_form.judges() if free_form is not None else {}),
        },
        properties={
            "model": name,
            "trained_from": measured.trained_from,
            "notes": list(measured.notes),
            "harness": dict(measured.harness),
        },
    )


def _rank_pairs(config: EvaluateConfig, context: StageContext, source: StageInput) -> StageResult:
    """Let a reward model rank pairs; write items.jsonl and pairs.json."""
    from pipeline.measuring.pairs import pair_metrics, rank_pairs, write_reports

    ranked = rank_pairs(config, context, source)
    name = model_name(source)
    write_items(ranked.results, name, context)
    write_reports({name: ranked.reports}, context)
    return StageResult(
        metrics=pair_metrics(ranked.reports),
        properties={"model": name, "notes": list(ranked.notes)},
    )


def model_name(source: StageInput) -> str:
    """Return a model's name in tables; of an evaluation, the name of the model it asked."""
    return source.properties.get("model", source.name)


def metric_name(row: Row) -> str:
    """Return a row's name among a stage's metrics: `arithmetic verified_accuracy few-shot 3`."""
    if row.window:
        return f"{row.task} {row.metric} window {row.window}"
    if row.metric == PREFERENCE or row.metric.startswith(BITS_PER):
        return f"{row.task} {row.metric}"
    shots = f" {row.shots}" if row.shots else ""
    return f"{row.task} {row.metric} {row.style}{shots}"


STAGE = Stage(
    config=EvaluateConfig,
    run=run,
    produces="evaluation",
    version=12,
    data_forms=("text",),
    measured_forms=MEASURED_FORMS,
)
