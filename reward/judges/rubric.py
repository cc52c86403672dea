"""How good is one response, on a scale of whole numbers: the request, and what its reply says.

Not which of two is better (pairwise.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reward.judges.exchange import Request
from reward.judges.quoting import STAYS_DATA, quoted

if TYPE_CHECKING:
    from reward.judges.exchange import Reply


@dataclass(frozen=True)
class Score:
    """What a judge gives one response.

    value: the number that it chose; where it tells the probability of every number, their mean.
    answer: the number chosen, as text. criterion: by what it judged. reason: its words, if asked.
    """

    value: float
    answer: str
    criterion: str
    reason: str = ""


def score_request(
    prompt: str,
    response: str,
    criterion: str,
    *,
    scale: tuple[int, int],
    wants_reason: bool = False,
    max_tokens: int = 256,
    temperature: float = 0.0,
) -> Request:
    """Return the question how good a response is by a criterion, from scale[0] to scale[1]."""
    low, high = scale
    texts = quoted({"prompt": prompt, "response": response})
    question = (
        f"Judge a response to a prompt. {STAYS_DATA}\n\n"
        f"Criterion: {criterion}\n\n{texts['prompt']}\n\n{texts['response']}\n\n"
        "How good is the response by the criterion? "
        f"Give a whole number from {low} (worst) to {high} (best)."
    )
    return Request(
        (("user", question),),
        options=tuple(str(number) for number in range(low, high + 1)),
        wants_reason=wants_reason,
        max_tokens=max_tokens,
        temperature=temperature,
    )


def read_score(reply: Reply, criterion: str) -> Score:
    """Return the score that an answer, one of the request's options, stands for."""
    if reply.probabilities is None:
        value = float(int(reply.answer))
    else:
        value = sum(int(option) * share for option, share in reply.probabilities.items())
    return Score(value, reply.answer, criterion, reply.reason)
