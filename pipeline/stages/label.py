"""Stage `label`: judges responses by rewards, and makes scores, pairs or thumbs of them.

The responses are those of `generate`, or of a file with `prompt` and `completion`; the rewards are
those of `ppo`: a reward model, a task's verifier, a function of yours. A reward model reads prompt
and response in its own template, as in `evaluate`. Not the choice of a best response (best_of_n).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, model_validator

from pipeline.config.blocks import Block, DataBlocks
from pipeline.config.field_types import OR_ONE
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import Makes, StageConfig
from pipeline.data.making import choices
from pipeline.data.making.rows import (
    COMPLETION,
    PAIRED,
    SAMPLED,
    SCORED,
    THUMBS,
    tasks_behind,
    write_rows,
)
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.data.making.pieces import Pieces
    from pipeline.data.reading.responses import ResponseRow
    from pipeline.measuring.judges import Judges

_AT_ONCE = 64  # responses judged between two looks at whether to stop


class PairsBlock(Block):
    """Which pairs are made of the responses to one prompt.

    which: the best against the worst, or all pairs. margin: by how much their scores must differ at
    least; equal scores make no pair.
    """

    which: choices.Which = "best_worst"
    margin: NonNegativeFloat = 0.0


def _pairs(value: Any) -> Any:
    return {"which": value} if isinstance(value, str) else value


class LabelConfig(StageConfig):
    """data: the responses, by `$name` of a stage that makes some, or in a file or on the hub.

    reward: a list of terms, whose weighted sum is the score of a response; or one.
    pairs: make pairs of a chosen and a rejected response, for reward_model and dpo: `best_worst`,
    `all`, or with a `margin`.
    thumbs: label every response as wanted or not, for kto: from this score on, or `mean`: by
    whether it is above or below the mean of its prompt's responses.
    Without either every response gets its `score`.
    """

    stage: Literal["label"]
    data: DataBlocks
    reward: Annotated[tuple[RewardBlock, ...], Field(min_length=1), OR_ONE]
    pairs: (
        Annotated[
            PairsBlock, BeforeValidator(_pairs, json_schema_input_type=choices.Which | PairsBlock)
        ]
        | None
    ) = None
    thumbs: float | Literal["mean"] | None = None

    @model_validator(mode="after")
    def _one_result(self) -> LabelConfig:
        if self.pairs is not None and self.thumbs is not None:
            raise ValueError("`thumbs` and `pairs` are two results; write two `label` stages")
        return self

    @property
    def makes(self) -> Makes:
        """What rows it makes."""
        if self.pairs is not None:
            return Makes("preference", PAIRED)
        if self.thumbs is not None:
            return Makes("unpaired_preference", (*THUMBS, "score"))
        return Makes("prompt_completion", (*COMPLETION, *SAMPLED, *SCORED))

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that it writes, and that a file must not have."""
        if self.pairs is None and self.thumbs is None:
            return SCORED
        return tuple(name for name in self.makes.columns if name not in COMPLETION)


def run(config: LabelConfig, context: StageContext) -> StageResult:
    """Judge all responses, make what is asked for of their scores, and write it."""
    from pipeline.data.making.pieces import Pieces
    from pipeline.data.reading.responses import read_responses
    from pipeline.data.reading.tasks import load_task
    from pipeline.measuring.judges import Judges

    rows = list(read_responses(config.data, context.places, written=config.written))
    tasks = tasks_behind(config.data, context)
    try:
        verified = {name: load_task(name, context.places) for name in tasks}
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    pieces = Pieces(context, len(rows))
    _judge(rows, Judges(config.reward, verified, context), context, pieces)
    return _finish(config, context, rows, pieces.rows, tasks)


def _judge(
    rows: Sequence[ResponseRow], judges: Judges, context: StageContext, pieces: Pieces
) -> None:
    """Judge what is not judged yet, some rows at a time: always the same ones together."""
    while len(pieces.rows) < len(rows):
        start = len(pieces.rows)
        context.progress("response", start, len(rows))
        if context.should_stop():
            pieces.seal()
        context.stop_if_asked()
        end = (start // _AT_ONCE + 1) * _AT_ONCE
        pieces.add(_scores(rows[start:end], judges))


def _scores(rows: Sequence[ResponseRow], judges: Judges) -> list[dict[str, Any]]:
    """Return {name: score} for each row, of every reward that is for it, and of their sum."""
    from pipeline.measuring.judges import Answers

    scores: list[dict[str, Any]] = [{} for _ in rows]
    for source in dict.fromkeys(row.source for row in rows):
        places = [place for place, row in enumerate(rows) if row.source == source]
        chosen = [rows[place] for place in places]
        answers = Answers(
            source,
            [row.prompt for row in chosen],
            [row.fields["prompt"] for row in chosen],
            [row.text for row in chosen],
            [NoIds() for _ in chosen],
            [NoIds() for _ in chosen],
            [row.fields.get("finish") != "length" for row in chosen],
        )
        for name, values in judges.judge(answers).items():
            for place, value in zip(places, values, strict=True):
                scores[place][name] = value
    return scores


class NoIds(list[int]):
    """The token ids of a response of which the text alone is known: whoever reads them is told."""

    def _refuse(self, *_: Any) -> Any:
        message = "`label` judges texts, and has no `completion_ids`"
        raise PosttrainError("reward", message, "read `completions` instead")

    __len__ = __iter__ = __getitem__ = __contains__ = __eq__ = _refuse
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __deepcopy__(self, memo: dict[int, Any]) -> NoIds:
        return self


def _finish(
    config: LabelConfig,
    context: StageContext,
    rows: Sequence[ResponseRow],
    judged: Sequence[dict[str, Any]],
    tasks: Sequence[str],
) -> StageResult:
    """Write what is made of the scores, and return what became of the responses."""
    names = [term.label for term in config.reward]
    totals = [_total(scores, config.reward) for scores in judged]
    scored = [choices.Scored(row, total) for row, total in zip(rows, totals, strict=True)]
    if config.pairs is not None:
        pairs = config.pairs
        made = choices.make_pairs(scored, which=pairs.which, margin=pairs.margin)
    elif config.thumbs is not None:
        made = choices.make_thumbs(scored, config.thumbs)
    else:
        made = _with_scores(rows, judged, totals, names)
    if not made.rows or not any(total is not None for total in totals):
        reasons = ", ".join(f"{n} {why}" for why, n in made.left_out.items() if n)
        message = f"nothing can be made of {len(rows)} responses ({reasons})"
        raise PosttrainError(context.name, message, "sample more of them, or judge otherwise")
    write_rows(context.out, made.rows, form=config.makes.form, scores=totals)
    return StageResult(
        metrics={
            "judged": len(rows),
            "judged_prompts": made.num_prompts,
            **_result_metrics(config, made),
            **choices.left_out_metrics(made),
            **_score_metrics(names, judged, totals),
        },
        properties={"data_form": config.makes.form, "tasks": list(tasks)},
    )


def _total(scores: Mapping[str, float | None], terms: Sequence[RewardBlock]) -> float | None:
    """Return the weighted sum of the rewards that have a say; None where none has.

    A term of weight 0 is only shown, unless all are.
    """
    counted = [term for term in terms if term.weight] or terms
    said = [(term.weight, scores.get(term.label)) for term in counted]
    values = [weight * value for weight, value in said if value is not None]
    return sum(values) if values else None


def _with_scores(
    rows: Sequence[ResponseRow],
    judged: Sequence[dict[str, Any]],
    totals: Sequence[float | None],
    names: Sequence[str],
) -> choices.Chosen:
    """Return every response with its score, and with that of each reward where there are several.

    None where no reward has a say.
    """
    made = choices.Chosen(num_prompts=len({row.question for row in rows}))
    for row, scores, total in zip(rows, judged, totals, strict=True):
        own = {"scores": {name: scores.get(name) for name in names}} if len(names) > 1 else {}
        kept = {name: value for name, value in row.fields.items() if name not in SCORED}
        made.rows.append({**kept, "score": total, **own})
        made.left_out[choices.NO_SCORE] += total is None
    return made


def _result_metrics(config: LabelConfig, made: choices.Chosen) -> dict[str, Any]:
    if config.pairs is not None:
        return {"pairs": len(made.rows)}
    if config.thumbs is not None:
        wanted = sum(row["label"] for row in made.rows)
        return {"thumbs_up": wanted, "thumbs_down": len(made.rows) - wanted}
    return {"scored": len(made.rows) - made.left_out[choices.NO_SCORE]}


def _score_metrics(
    names: Sequence[str], judged: Sequence[dict[str, Any]], totals: Sequence[float | None]
) -> dict[str, Any]:
    """Return mean and deviation of the scores, and the mean of each reward where there are more."""
    from statistics import fmean, pstdev

    numbers = [total for total in totals if total is not None]
    metrics: dict[str, Any] = {}
    if numbers:
        metrics |= {"score_mean": fmean(numbers), "score_std": pstdev(numbers)}
    for name in names if len(names) > 1 else ():
        values = [scores[name] for scores in judged if scores.get(name) is not None]
        if values:
            metrics[f"score_mean/{name}"] = fmean(values)
    return metrics


STAGE = Stage(
    config=LabelConfig,
    run=run,
    produces="data",
    version=2,
    data_forms=("prompt_completion",),
    is_seeded=False,
)
