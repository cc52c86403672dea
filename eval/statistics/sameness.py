"""How alike responses are: repeats within one, answers that other prompts got too, a group's.

Nothing here knows what is right. Shares, 0 to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

RUN = 4  # tokens, as of seq-rep-4 (Welleck et al. 2020)


def repeated_share(tokens: Sequence[int], *, run: int = RUN) -> float | None:
    """Return the share of runs of tokens that stood in the response before; None without a run.

    seq-rep-n of Welleck et al. 2020, "Neural text generation with unlikelihood training": 0.006 of
    what people write, 0.44 of a language model's greedy continuations (their table 2, n = 4).
    """
    number = len(tokens) - run + 1
    if number < 1:
        return None
    different = set(zip(*(tokens[place:] for place in range(run)), strict=False))
    return (number - len(different)) / number


def shared_share(answers: Sequence[str], asked: Sequence[Hashable]) -> float:
    """Return the share of answers that are also the answer to something else.

    asked: what each answers; the same for two that one answer may be right for.
    """
    asked_by_answer: dict[str, set[Hashable]] = {}
    for answer, what in zip(answers, asked, strict=True):
        asked_by_answer.setdefault(answer, set()).add(what)
    return sum(len(asked_by_answer[answer]) > 1 for answer in answers) / len(answers)


def distinct_share(groups: Sequence[Sequence[str]]) -> float | None:
    """Return how many of a group's answers differ: 0 where all are one, 1 where none are equal.

    The mean over groups of two or more; None without one.
    """
    shares = [(len(set(group)) - 1) / (len(group) - 1) for group in groups if len(group) > 1]
    return sum(shares) / len(shares) if shares else None
