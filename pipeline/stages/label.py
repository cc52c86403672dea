"""Stage `label`: judges responses by rewards or a judge, and makes scores, pairs or thumbs of them.

The responses are those of `generate`, or of a file with `prompt` and `completion`; the rewards are
those of `ppo`: a reward model, a task's verifier, a function of yours, a judge's rubric. A `judge`
compares responses two by two. Not the choice of a best response (best_of_n).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.data.making import choices
from pipeline.data.making.rows import tasks_behind, write_rows
from pipeline.errors import PosttrainError
from pipeline.stages.labelling.config import LabelConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.data.reading.responses import ResponseRow


def run(config: LabelConfig, context: StageContext) -> StageResult:
    """Judge all responses, make what is asked for of that, and write it."""
    from pipeline.data.reading.responses import read_responses
    from pipeline.stages.labelling.comparing import compare_and_make
    from pipeline.stages.labelling.scoring import score_and_make

    rows = list(read_responses(config.data, context.places, written=config.written))
    tasks = tasks_behind(config.data, context)
    totals: Sequence[float | None] = ()
    if config.judge is not None and config.pairs is not None:
        made, metrics = compare_and_make(config.judge, config.pairs, context, rows)
    else:
        made, metrics, totals = score_and_make(config, context, rows, tasks)
    return _finish(config, context, rows, made, metrics, totals)


def _finish(
    config: LabelConfig,
    context: StageContext,
    rows: Sequence[ResponseRow],
    made: choices.Chosen,
    metrics: dict[str, Any],
    totals: Sequence[float | None],
) -> StageResult:
    """Write what was made, and return what became of the responses."""
    is_scored = config.compares or any(total is not None for total in totals)
    if not made.rows or not is_scored:
        reasons = ", ".join(f"{n} {why}" for why, n in made.left_out.items() if n)
        message = f"nothing can be made of {len(rows)} responses ({reasons})"
        raise PosttrainError(context.name, message, "sample more of them, or judge otherwise")
    write_rows(context.out, made.rows, form=config.makes.form, scores=totals)
    return StageResult(
        metrics={
            "judged": len(rows),
            "judged_prompts": made.num_prompts,
            **metrics,
            **choices.left_out_metrics(made),
        },
        properties={
            "data_form": config.makes.form,
            "tasks": tasks_behind(config.data, context),
        },
    )


STAGE = Stage(
    config=LabelConfig,
    run=run,
    produces="data",
    version=2,
    data_forms=("prompt_completion",),
)
