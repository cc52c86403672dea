"""Responses scored by rewards or by a judge's rubric, and what is made of their scores.

Rows, pairs or thumbs. A reward model reads prompt and response in its own template, as in
`evaluate`. Not the comparison of two responses (comparing.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.making import choices
from pipeline.data.making.choices import Chosen
from pipeline.data.making.rows import SCORED
from pipeline.data.reading.tasks import load_task
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import StageContext
    from pipeline.data.reading.responses import ResponseRow
    from pipeline.measuring.answer_rewards import AnswerRewards
    from pipeline.stages.labelling.chunks import Chunks
    from pipeline.stages.labelling.config import LabelConfig
    from reward.judges.judge import Judge


def score_and_make(
    config: LabelConfig,
    context: StageContext,
    chunks: Chunks,
    rows: Sequence[ResponseRow],
    tasks: Sequence[str],
) -> tuple[Chosen, dict[str, Any], list[float | None]]:
    """Return what is made of the responses' scores, its metrics, and the scores."""
    from pipeline.measuring.answer_rewards import AnswerRewards, weighted_sum
    from pipeline.rewards.exams import examine_terms
    from pipeline.stages.labelling.probing import probe_scores, probed_terms

    try:
        verified = {name: load_task(name, context.places) for name in tasks}
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    rewards = AnswerRewards(config.terms, verified, context)

    def judge_of(term: RewardBlock) -> Judge:
        assert term.judge is not None
        return rewards.judge(term.label, term.judge)

    licences = examine_terms(
        config.terms,
        {name: name for name in tasks},
        context,
        judge_of,
    )
    judged = chunks.do("response", rows, lambda some: _scores(some, rewards), rewards.ledgers)
    probes: dict[str, Any] = {}
    if probed := probed_terms(config.terms):
        probes = chunks.do_again(
            lambda: probe_scores(
                probed, rows, judged, lambda some, name: _scores(some, rewards, name), context
            ),
            rewards.ledgers,
        )
    totals = [
        weighted_sum((term.weight, scores.get(term.label)) for term in config.terms)
        for scores in judged
    ]
    names = [term.label for term in config.terms]
    made = _make(config, rows, judged, totals)
    metrics = {
        **_result_metrics(config, made),
        **_score_metrics(names, judged, totals),
        **licences,
        **({"probes": probes} if probes else {}),
        **_spread_metrics([term.label for term in config.terms if term.is_ensemble], judged),
    }
    return made, metrics, totals


def _scores(
    rows: Sequence[ResponseRow], rewards: AnswerRewards, only: str | None = None
) -> list[dict[str, Any]]:
    """Return {name: score} for each row, of every reward that is for it, or of `only` one."""
    from pipeline.measuring.answer_rewards import Answers
    from pipeline.rewards.ensemble import SPREAD

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
        rewards.spreads.clear()
        found = rewards.score(answers, only)
        spread = {f"{name}/{SPREAD}": values for name, values in rewards.spreads.items()}
        for name, values in {**found, **spread}.items():
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


def _make(
    config: LabelConfig,
    rows: Sequence[ResponseRow],
    judged: Sequence[dict[str, Any]],
    totals: Sequence[float | None],
) -> Chosen:
    scored = [choices.Scored(row, total) for row, total in zip(rows, totals, strict=True)]
    if config.pairs is not None:
        pairs = config.pairs
        return choices.make_pairs(scored, which=pairs.which, margin=pairs.margin)
    if config.thumbs is not None:
        return choices.make_thumbs(scored, config.thumbs)
    return _with_scores(rows, judged, totals, [term.label for term in config.terms])


def _with_scores(
    rows: Sequence[ResponseRow],
    judged: Sequence[dict[str, Any]],
    totals: Sequence[float | None],
    names: Sequence[str],
) -> Chosen:
    """Return every response with its score, and with that of each reward where there are several.

    None where no reward has a say.
    """
    made = Chosen(num_prompts=len({row.question for row in rows}))
    for row, scores, total in zip(rows, judged, totals, strict=True):
        own = {"scores": {name: scores.get(name) for name in names}} if len(names) > 1 else {}
        kept = {name: value for name, value in row.fields.items() if name not in SCORED}
        made.rows.append({**kept, "score": total, **own})
        made.left_out[choices.NO_SCORE] += total is None
    return made


def _result_metrics(config: LabelConfig, made: Chosen) -> dict[str, Any]:
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


def _spread_metrics(
    ensembles: Sequence[str], judged: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return how far the members of each ensemble lie apart on average, in deviations."""
    from statistics import fmean

    from pipeline.rewards.ensemble import SPREAD

    metrics: dict[str, float] = {}
    for name in ensembles:
        found = [value for row in judged if (value := row.get(f"{name}/{SPREAD}")) is not None]
        if found:
            metrics[f"score_{SPREAD}/{name}"] = fmean(found)
    return metrics
