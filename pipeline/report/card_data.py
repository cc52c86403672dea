"""What the hub reads of a model card: its front matter, figures included (`model-index`).

What a recipe can name stands there in one line, with nothing that cannot be seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from huggingface_hub import EvalResult, ModelCardData

from pipeline.commands.export import without_places
from pipeline.config.references import HubModel
from pipeline.config.stage_config import TRAINED_ON
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eval.comparison.score_rows import Row
    from pipeline.commands.export_contents import Export
    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.store.store import Artifact

# The hub's own names where it has one; others stay what they are here.
_METRICS = {"choice_accuracy": "accuracy", "verified_accuracy": "accuracy"}
_TASK = {"policy": "text-generation", "reward_model": "text-classification"}


@dataclass(frozen=True)
class HeldOutAccuracy:
    """What the accuracy of a model on held-out rows means, on which rows, and how many."""

    name: str
    rows: str
    n: int | None


def held_out_accuracy_of(metrics: Mapping[str, Any]) -> HeldOutAccuracy:
    """Return what `held_out_accuracy` in a stage's metrics is: of judged answers, or of pairs."""
    if "held_out_rows" in metrics:
        name = "held-out answers with a reward of their label's sign"
        return HeldOutAccuracy(name, "held-out judged answers", metrics["held_out_rows"])
    name = "held-out pairs ranked as preferred"
    return HeldOutAccuracy(name, "held-out preference pairs", metrics.get("held_out_pairs"))


def card_data(
    export: Export,
    results: Sequence[EvalResult],
    *,
    chain: Sequence[PlannedStage],
    repository: str | None,
    has_gguf: bool,
) -> ModelCardData:
    """Return the front matter of a card. chain: the stages it is built on, and its own."""
    is_adapter = export.form == "adapter"
    root = export.base if isinstance(export.base, HubModel) else _root(export.plan, export.planned)
    tags = ["posttrain", export.artifact.kind.replace("_", "-")]
    tags += ["lora"] if export.base is not None else []
    tags += ["gguf"] if has_gguf else []
    return ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag=_TASK[export.artifact.produces],
        base_model=root.id if root else None,
        datasets=list(dict.fromkeys(datasets_of(chain))) or None,
        tags=tags,
        # The name of `model-index`, and nothing by itself.
        model_name=repository or _in_a_line(f"{export.plan.recipe.name}-{export.planned.name}")
        if results
        else None,
        eval_results=list(results) or None,
    )


def eval_results(artifact: Artifact, comparisons: Sequence[Sequence[Row]]) -> list[EvalResult]:
    """Return what was measured of a model: in comparisons, of a reward model on held-out pairs.

    comparisons: of each the rows that are about the model.
    """
    task = _TASK[artifact.produces]
    found = [_result(task, row) for rows in comparisons for row in rows if row.score is not None]
    metrics = artifact.metrics
    if metrics.get("held_out_accuracy") is not None:
        measured = held_out_accuracy_of(metrics)
        interval = {
            "low": metrics.get("held_out_low"),
            "high": metrics.get("held_out_high"),
            "n": measured.n,
        }
        found.append(
            EvalResult(
                task_type=task,
                dataset_type="held-out-preferences",
                dataset_name=measured.rows,
                metric_type="accuracy",
                metric_name=measured.name,
                metric_value=metrics["held_out_accuracy"],
                metric_args=interval,
            )
        )
    return found


def _result(task: str, row: Row) -> EvalResult:
    """Return a row of a comparison as the hub has it; the interval stands in its arguments."""
    name, metric = _in_a_line(without_places(row.task)), _in_a_line(row.metric)
    asked = row.form if row.style == "none" else f"{row.form}, {row.style}"
    interval = {"low": row.low, "high": row.high, "n": row.n}
    return EvalResult(
        task_type=task,
        dataset_type=re.sub(r"[^\w.-]+", "-", name).strip("-").lower() or "texts",
        dataset_name=name,
        metric_type=_METRICS.get(metric, metric),
        metric_name=f"{metric.replace('_', ' ')} ({_in_a_line(asked)})",
        metric_value=row.score,
        metric_args=interval,
    )


def _in_a_line(value: object) -> str:
    return " ".join(visible(str(value)).split())


def datasets_of(chain: Sequence[PlannedStage]) -> Iterator[str]:
    """Yield the hub's data sets that were trained on."""
    for planned in chain:
        for field in TRAINED_ON:
            for block in planned.identity.get(field) or ():
                if block.get("hub"):
                    yield block["hub"]


def _root(plan: Plan, planned: PlannedStage) -> HubModel | None:
    """Return the hub model that a chain of stages begins with, if it does."""
    model = planned.identity.get("model")
    while isinstance(model, dict):
        named = cast("dict[str, Any]", model)
        if "base" in named and "hub" in named["base"]:  # an adapter's folder
            named = named["base"]
        if "hub" in named:
            return HubModel(str(named["hub"]), str(named["revision"]))
        below = [each for each in plan.stages if each.fingerprint == named.get("artifact")]
        model = below[0].identity.get("model") if below else None
    return None
