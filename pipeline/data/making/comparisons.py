"""Pairs of responses that a judge compared: which are compared, and what is made of its verdicts.

    best_worst   the response that won most of its comparisons against the one that won fewest
    all          every comparison that has a winner

Ties and comparisons without an answer make no pair, and are counted. Pairs by scores are in
choices.py. Pure: rows and verdicts in, rows and counts out. No torch here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pipeline.data.making.choices import EMPTY, TIED, Chosen, columns_of_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eval.statistics.agreement import Side
    from pipeline.data.making.choices import Which
    from pipeline.data.reading.responses import ResponseRow

REPEATED = "equal to an earlier response"
ALONE = "prompts without two different responses"
TIE = "judged ties"
TIED_PROMPTS = "prompts whose best and worst are judged a tie"
UNANSWERED = "comparisons without an answer"


@dataclass(frozen=True)
class Comparison:
    """Two responses to one prompt, by their places among the rows."""

    first: int
    second: int


@dataclass(frozen=True)
class Outcome:
    """What a judge says of a comparison. probability: that the first is better.

    verdict: None where it gave no answer. principle: the one that it judged by, if it drew one.
    orders: which response it preferred when the first was shown first, and when it was shown last.
    """

    verdict: Literal["first", "second", "tie"] | None
    probability: float = 0.5
    principle: str | None = None
    orders: tuple[Side | None, Side | None] = (None, None)


def choose_comparisons(
    rows: Sequence[ResponseRow], *, at_most: int | None, seed: int
) -> tuple[list[Comparison], Chosen]:
    """Return the pairs of different responses to one prompt, and what was left out of them.

    at_most: of one prompt; drawn by the seed and the texts alone. Prompts in the order of their
    first row.
    """
    made = Chosen()
    places_by_question: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places_by_question.setdefault(row.question, []).append(place)
    made.num_prompts = len(places_by_question)
    chosen: list[Comparison] = []
    for places in places_by_question.values():
        written = [place for place in places if rows[place].text.strip()]
        first_of = {rows[place].text: place for place in reversed(written)}
        different = sorted(first_of.values())
        made.left_out[EMPTY] += len(places) - len(written)
        made.left_out[REPEATED] += len(written) - len(different)
        made.left_out[ALONE] += len(different) < 2
        pairs = [Comparison(*pair) for pair in combinations(different, 2)]
        if at_most is not None:
            kept = set(sorted(pairs, key=lambda pair: _draw(seed, key(rows, pair)))[:at_most])
            pairs = [pair for pair in pairs if pair in kept]
        chosen += pairs
    return chosen, made


def _draw(seed: int, text: str) -> bytes:
    """Return what pairs are put into a random order by."""
    return sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()


def key(rows: Sequence[ResponseRow], pair: Comparison) -> str:
    """Return what names a comparison, wherever its rows stand."""
    first, second = rows[pair.first], rows[pair.second]
    return f"{first.question}\n{first.text}\n{second.text}"


def make_judged_pairs(
    rows: Sequence[ResponseRow],
    outcomes: Mapping[Comparison, Outcome],
    made: Chosen,
    *,
    which: Which,
    margin: float,
    soft: bool,
) -> None:
    """Add the pairs that the verdicts make, and what makes none, to what was made so far.

    margin: by how much the probabilities that either response is better must differ. soft: write
    them, if the judge tells any. Scores of a pair: the shares of their comparisons that both won;
    with `all`, the probabilities.
    """
    said = {pair: outcome for pair, outcome in outcomes.items() if outcome.verdict is not None}
    made.left_out[UNANSWERED] += len(outcomes) - len(said)
    is_soft = soft and any(outcome.probability not in (0, 0.5, 1) for outcome in said.values())
    found = _each(said, made) if which == "all" else _best_and_worst(rows, said, made)
    for better, worse, probability, scores, principle in found:
        if 2 * probability - 1 < margin:
            made.left_out[TIED] += 1
            continue
        made.rows.append(
            {
                "prompt": rows[better].fields["prompt"],
                "chosen": rows[better].fields["completion"],
                "rejected": rows[worse].fields["completion"],
                "score_chosen": scores[0],
                "score_rejected": scores[1],
                **columns_of_prompt(rows[better]),
                **({"probability": probability} if is_soft else {}),
                "principle": principle,
            }
        )


# better and worse response, probability that it is better, both scores, principle
_Pair = tuple[int, int, float, tuple[float, float], str | None]


def _each(said: Mapping[Comparison, Outcome], made: Chosen) -> Iterator[_Pair]:
    for pair, outcome in said.items():
        if outcome.verdict == "tie":
            made.left_out[TIE] += 1
            continue
        places, share = (pair.first, pair.second), outcome.probability
        if outcome.verdict == "second":
            places, share = (pair.second, pair.first), 1 - outcome.probability
        share = max(share, 0.5)
        yield *places, share, (share, 1 - share), outcome.principle


def _best_and_worst(
    rows: Sequence[ResponseRow], said: Mapping[Comparison, Outcome], made: Chosen
) -> Iterator[_Pair]:
    """Yield, of each prompt, the response that won most and the one that won fewest.

    Equal shares of wins are told apart by the mean probability of being better.
    """
    pairs_by_question: dict[str, list[Comparison]] = {}
    for pair in said:
        pairs_by_question.setdefault(rows[pair.first].question, []).append(pair)
    points = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}
    for pairs in pairs_by_question.values():
        wins: dict[int, list[float]] = {}
        shares: dict[int, list[float]] = {}
        for pair in pairs:
            probability = said[pair].probability
            won = points[said[pair].verdict or "tie"]
            for place, win, share in zip(
                (pair.first, pair.second), won, (probability, 1 - probability), strict=True
            ):
                wins.setdefault(place, []).append(win)
                shares.setdefault(place, []).append(share)
        ranked = sorted(wins, key=lambda place: (-fmean(wins[place]), -fmean(shares[place]), place))
        best, worst = ranked[0], ranked[-1]
        scores = fmean(wins[best]), fmean(wins[worst])
        if scores[0] <= scores[1]:
            made.left_out[TIED_PROMPTS] += 1
            continue
        # Of two responses alone it is the probability of their comparison.
        probability = 0.5 + (fmean(shares[best]) - fmean(shares[worst])) / 2
        direct = said.get(Comparison(*sorted((best, worst))))
        yield best, worst, max(probability, 0.5), scores, direct.principle if direct else None


def count_verdicts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return how many comparisons there were, and how they ended."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {"comparisons": len(outcomes), "ties": counts["tie"], "unanswered": counts[None]}
