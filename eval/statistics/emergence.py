"""A skill by two scores: whether an answer is right, and how much of it is.

Exact match stays near 0 until nearly every character is right, so a skill that grows by degrees
looks sudden; the share of an answer that is right tells the two apart (Schaeffer et al. 2023, "Are
Emergent Abilities of Large Language Models a Mirage?", with their token edit distance). Imports no
torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.results import VERIFIED, ItemResult
from eval.statistics.estimate import Estimate
from eval.statistics.intervals import mean_interval


@dataclass(frozen=True)
class SkillScore:
    """A model's answers to a task, asked in one way. n: answers.

    exact: the share that verifies. partial: mean of how much of the expected answer is there, from
    0 to 1 (`similarity`).
    """

    task: str
    style: str
    shots: int
    n: int
    exact: Estimate
    partial: Estimate


def skill_scores(results: Sequence[ItemResult]) -> list[SkillScore]:
    """Return the scores of each task and way of asking with written answers to verify."""
    ways: dict[tuple[str, str, int], list[ItemResult]] = {}
    for result in results:
        if result.metric == VERIFIED and result.score is not None and result.gold:
            ways.setdefault((result.task, result.style, result.shots), []).append(result)
    return [
        SkillScore(
            task=task,
            style=style,
            shots=shots,
            n=len(answers),
            exact=_mean([answer.score or 0.0 for answer in answers]),
            partial=_mean([_similarity_of(answer) for answer in answers]),
        )
        for (task, style, shots), answers in ways.items()
    ]


def similarity(written: str, expected: str) -> float:
    """Return 1 less the edit distance in characters, as a share of the longer of the two."""
    longest = max(len(written), len(expected))
    return 1.0 if longest == 0 else 1 - edit_distance(written, expected) / longest


def edit_distance(one: str, other: str) -> int:
    """Return how many characters must be put in, taken out or replaced (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, character in enumerate(one, start=1):
        before, row[0] = row[0], place
        for column, wanted in enumerate(other, start=1):
            replaced = before + (character != wanted)
            before = row[column]
            row[column] = min(replaced, row[column] + 1, row[column - 1] + 1)
    return row[-1]


def _similarity_of(answer: ItemResult) -> float:
    """Return how much of the expected answer was given; what no answer was read from gives none."""
    return 1.0 if answer.score == 1 else similarity((answer.answer or "").strip(), answer.gold)


def _mean(scores: Sequence[float]) -> Estimate:
    interval = mean_interval(scores)
    value = sum(scores) / len(scores)
    return Estimate(value) if interval is None else Estimate(value, interval.low, interval.high)
