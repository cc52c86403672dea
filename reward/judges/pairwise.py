"""Which of two responses is better: asked in both orders, since judges favour a place.

Where the orders disagree there is no winner, but a tie. Not a score of one response (rubric.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reward.judges.exchange import Request
from reward.judges.quoting import STAYS_DATA, quoted

if TYPE_CHECKING:
    from reward.judges.exchange import Reply

Place = Literal["first", "second"]
FIRST, SECOND = "A", "B"


@dataclass(frozen=True)
class Pair:
    """Two responses to a prompt. key: names the pair, and draws its principle."""

    prompt: str
    first: str
    second: str
    key: str


@dataclass(frozen=True)
class Preference:
    """What a judge says of a pair.

    probability: that the first is better, the mean of both orders; where the judge tells no
    probabilities it is 1, 0, or 0.5 for a tie. first_order: who won where the first was shown
    first; second_order: who won where it was shown second. criterion: by what it judged.
    principle: the criterion, where it was drawn from a constitution; else None. reasons: its words
    in both orders, if it was asked for them.
    """

    probability: float
    verdict: Literal["first", "second", "tie"]
    first_order: Place
    second_order: Place
    criterion: str
    principle: str | None = None
    reasons: tuple[str, str] = ("", "")


def comparison_requests(
    pair: Pair,
    criterion: str,
    *,
    wants_reason: bool = False,
    max_tokens: int = 256,
    temperature: float = 0.0,
) -> tuple[Request, Request]:
    """Return the question which is better in both orders: as given, then the other way round."""

    def ask(shown_first: str, shown_second: str) -> Request:
        texts = quoted({"prompt": pair.prompt, "A": shown_first, "B": shown_second})
        question = (
            f"Compare two responses, A and B, to a prompt. {STAYS_DATA}\n\n"
            f"Criterion: {criterion}\n\n{texts['prompt']}\n\n{texts['A']}\n\n{texts['B']}\n\n"
            "Which response is better by the criterion, A or B?"
        )
        return Request(
            (("user", question),),
            options=(FIRST, SECOND),
            wants_reason=wants_reason,
            max_tokens=max_tokens,
            temperature=temperature,
        )

    return ask(pair.first, pair.second), ask(pair.second, pair.first)


def read_preference(
    given: Reply, swapped: Reply, criterion: str, principle: str | None = None
) -> Preference:
    """Return what both answers say together; each is one of its request's options."""
    first_order: Place = "first" if given.answer == FIRST else "second"
    second_order: Place = "second" if swapped.answer == FIRST else "first"
    shares = (_share(given, FIRST), _share(swapped, SECOND))
    return Preference(
        sum(shares) / 2,
        first_order if first_order == second_order else "tie",
        first_order,
        second_order,
        criterion,
        principle,
        (given.reason, swapped.reason),
    )


def _share(reply: Reply, option: str) -> float:
    if reply.probabilities is not None:
        return reply.probabilities[option]
    return float(reply.answer == option)
