"""What is made of scored responses to the same prompts: pairs, thumbs up and down, the best.

    pairs    chosen and rejected, for reward_model and dpo: the best against the worst, or all that
             are far enough apart (as in iterated DPO: Xu et al. 2023)
    thumbs   wanted or not, for kto: by a threshold, or above and below the prompt's own mean
    best     the best of a prompt's responses, for sft: rejection sampling (Dong et al. 2023)

Pure: scored rows in, rows out, and a count of what was left out and why. No torch here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pipeline.data.making.rows import COMPLETION, SAMPLED, SCORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.data.reading.responses import ResponseRow

Which = Literal["best_worst", "all"]

NO_SCORE = "without a score"
ALONE = "prompts with one scored response"
TIED = "too close to tell apart"
EQUAL = "whose two responses are equal"
EMPTY = "empty"
AT_MEAN = "at their prompt's mean"
NOT_REACHED = "prompts where none reaches `at_least`"
NONE_LEFT = "prompts without a response to choose"
CUT_OFF = "cut off"


@dataclass(frozen=True)
class Scored:
    """A response with its score; None where no reward has a say."""

    row: ResponseRow
    score: float | None


@dataclass
class Chosen:
    """The rows that were made. left_out: how many things were not used, by the reason."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    left_out: Counter[str] = field(default_factory=Counter[str])
    num_prompts: int = 0


def make_pairs(scored: Iterable[Scored], *, which: Which, margin: float) -> Chosen:
    """Return pairs of responses whose scores differ, by `margin` at least.

    Of equal scores the first response counts as the better one. Left out: responses without a
    score, prompts with fewer than two, pairs that are too close, and pairs of one text.
    """
    made = Chosen()
    for group in _groups(scored, made):
        ranked = sorted(group, key=lambda one: -_score(one))
        if len(ranked) < 2:
            made.left_out[ALONE] += 1
            continue
        pairs = [(ranked[0], ranked[-1])]
        if which == "all":
            pairs = [(a, b) for place, a in enumerate(ranked) for b in ranked[place + 1 :]]
        for better, worse in pairs:
            difference = _score(better) - _score(worse)
            if difference <= 0 or difference < margin:
                made.left_out[TIED] += 1
            elif better.row.text == worse.row.text:
                made.left_out[EQUAL] += 1
            else:
                made.rows.append(_pair(better, worse))
    return made


def make_thumbs(scored: Iterable[Scored], threshold: float | Literal["mean"]) -> Chosen:
    """Return responses with a label, True for those that are wanted.

    threshold: the score from which on a response is wanted; `mean` compares it with the mean of
    its prompt's responses, of which those at the mean are left out.
    """
    made = Chosen()
    for group in _groups(scored, made):
        mean = fmean(map(_score, group))
        if threshold == "mean" and len(group) < 2:
            made.left_out[ALONE] += 1
            continue
        for one in group:
            score = _score(one)
            if threshold == "mean" and score == mean:
                made.left_out[AT_MEAN] += 1
                continue
            is_wanted = score > mean if threshold == "mean" else score >= threshold
            kept = {name: one.row.fields[name] for name in COMPLETION}
            others = columns_of_prompt(one.row)
            made.rows.append({**kept, "label": is_wanted, "score": score, **others})
    return made


def choose_best(scored: Iterable[Scored], *, at_least: float | None, keeps_cut: bool) -> Chosen:
    """Return the best response to each prompt with its columns; of equal scores, the first.

    at_least: prompts none of whose responses has this score are left out. keeps_cut: whether a
    response that was cut off may be the best.
    """
    made = Chosen()
    for group in _groups(scored, made):
        left = [one for one in group if keeps_cut or one.row.fields.get("finish") != "length"]
        made.left_out[CUT_OFF] += len(group) - len(left)
        if not left:
            made.left_out[NONE_LEFT] += 1
            continue
        best = max(left, key=_score)
        if at_least is not None and _score(best) < at_least:
            made.left_out[NOT_REACHED] += 1
            continue
        made.rows.append({**best.row.fields, "score": best.score, "out_of": len(group)})
    return made


def _groups(scored: Iterable[Scored], made: Chosen) -> Iterator[list[Scored]]:
    """Yield the scored responses to each prompt, prompts in the order of their first row.

    Nothing is learnt from an empty response: those are left out.
    """
    by_question: dict[str, list[Scored]] = {}
    for one in scored:
        by_question.setdefault(one.row.question, []).append(one)
    made.num_prompts = len(by_question)
    for group in by_question.values():
        written = [one for one in group if one.row.text.strip()]
        made.left_out[EMPTY] += len(group) - len(written)
        with_score = [one for one in written if one.score is not None]
        made.left_out[NO_SCORE] += len(written) - len(with_score)
        if with_score:
            yield with_score
        else:
            made.left_out[NONE_LEFT] += 1


def _score(one: Scored) -> float:
    assert one.score is not None
    return one.score


def _pair(better: Scored, worse: Scored) -> dict[str, Any]:
    return {
        "prompt": better.row.fields["prompt"],
        "chosen": better.row.fields["completion"],
        "rejected": worse.row.fields["completion"],
        "score_chosen": better.score,
        "score_rejected": worse.score,
        **columns_of_prompt(better.row),
    }


def columns_of_prompt(row: ResponseRow) -> dict[str, Any]:
    """Return the columns that are the prompt's, not one response's."""
    own = {*COMPLETION, *SAMPLED, *SCORED} - {"source"}
    return {name: value for name, value in row.fields.items() if name not in own}


def left_out_metrics(made: Chosen) -> dict[str, Any]:
    """Return what was left out as a stage's metrics: counts by reason, without those that are 0."""
    counts = {reason: count for reason, count in made.left_out.items() if count}
    return {"left_out": counts} if counts else {}
