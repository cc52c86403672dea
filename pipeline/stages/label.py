"""Stage `label`: judges responses by rewards or a judge, and makes scores, pairs or thumbs of them.

The responses are those of `generate`, or of a file with `prompt` and `completion`; the rewards are
those of `ppo`: a reward model, a task's verifier, a function of yours, a judge's rubric. A `judge`
compares responses two by two; `revise` has them criticised and rewritten first. Not the choice of a
best response (best_of_n).
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
    from pipeline.stages.labelling.chunks import Chunks


def run(config: LabelConfig, context: StageContext) -> StageResult:
    """Judge all responses, make what is asked for of that, and write it."""
    from pipeline.data.reading.responses import read_responses
    from pipeline.stages.labelling.chunks import Chunks
    from pipeline.stages.labelling.revising import NOT_REVISED, revise_responses

    read = list(read_responses(config.data, context.places, written=config.written))
    chunks = Chunks(context)
    rows, num_revised = read, len(read)
    if config.revise is not None:
        pairs = revise_responses(config.revise, context, chunks, read)
        num_revised = len(pairs)
        both = config.pairs is not None
        rows = [row for pair in pairs for row in (pair if both else pair[1:])]
    made, metrics, totals = _judge(config, context, chunks, rows)
    made.left_out[NOT_REVISED] += len(read) - num_revised
    if config.revise is not None:
        metrics = {"revised": num_revised, **metrics}
    metrics |= _asked(chunks, context, metrics.get("licences", {}))
    return _finish(config, context, len(read), made, metrics, totals)


def _asked(chunks: Chunks, context: StageContext, exams: dict[str, Any]) -> dict[str, Any]:
    """Return what judges and revisers were asked and what they took, as metrics."""
    from pipeline.rewards.spending import with_all_spent
    from pipeline.stages.labelling.revising import REVISERS

    asked = chunks.asked()
    judges = with_all_spent(asked["judges"], context, exams)
    revisers = with_all_spent(asked[REVISERS], context, before=f"{REVISERS}/")
    return {**({"judges": judges} if judges else {}), **({REVISERS: revisers} if revisers else {})}


def _judge(
    config: LabelConfig, context: StageContext, chunks: Chunks, rows: Sequence[ResponseRow]
) -> tuple[choices.Chosen, dict[str, Any], Sequence[float | None]]:
    """Return what is made of the responses, its metrics, and their scores if they have any."""
    from pipeline.stages.labelling.comparing import compare_and_make
    from pipeline.stages.labelling.scoring import score_and_make

    tasks = tasks_behind(config.data, context)
    if config.judge is not None and config.pairs is not None:
        is_revised = config.revise is not None  # then there is one pair of each
        pairs = config.pairs.model_copy(update={"which": "all"}) if is_revised else config.pairs
        return *compare_and_make(config.judge, pairs, context, chunks, rows, tasks), ()
    if config.terms:
        return score_and_make(config, context, chunks, rows, tasks)
    questions = {row.question for row in rows}
    return choices.Chosen([row.fields for row in rows], num_prompts=len(questions)), {}, ()


def _finish(
    config: LabelConfig,
    context: StageContext,
    num_read: int,
    made: choices.Chosen,
    metrics: dict[str, Any],
    totals: Sequence[float | None],
) -> StageResult:
    """Write what was made, and return what became of the responses."""
    if not made.rows or (totals and all(total is None for total in totals)):
        reasons = ", ".join(f"{n} {why}" for why, n in made.left_out.items() if n)
        message = f"nothing can be made of {num_read} responses ({reasons})"
        raise PosttrainError(context.name, message, "sample more of them, or judge otherwise")
    write_rows(context.out, made.rows, form=config.makes.form, scores=totals)
    return StageResult(
        metrics={
            "judged": num_read,
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
    version=7,
    data_forms=("prompt_completion",),
)
