"""Which answers turned right and which turned wrong, with examples of both to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.comparison.paired_results import RowItems
from eval.results import ItemResult, Style

NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Flip:
    """One item: as the candidate was asked and answered, as the baseline was and did."""

    item: str
    gold: str
    prompt: str
    candidate: str
    baseline_prompt: str
    baseline: str


@dataclass(frozen=True)
class FlipRow:
    """A row of the comparison: how many items only one of two models has right, and some of them.

    gained, gained_examples: right in the candidate alone. lost: right in the baseline alone. The
    first examples in the order of the items, which is a shuffled one.
    """

    task: str
    metric: str
    model: str
    style: Style
    shots: int
    gained: int
    lost: int
    gained_examples: tuple[Flip, ...]
    lost_examples: tuple[Flip, ...]


def list_flips(rows: Sequence[RowItems]) -> list[FlipRow]:
    """Return the flips of every row in which items can be right in one model and not in another."""
    found: list[FlipRow] = []
    for row in rows:
        flipped = row.flips()
        if not row.is_asked or flipped is None:
            continue
        gained, lost = flipped
        found.append(
            FlipRow(
                task=row.task,
                metric=row.metric,
                model=row.model,
                style=row.style,
                shots=row.shots,
                gained=len(gained),
                lost=len(lost),
                gained_examples=tuple(_example(row, item) for item in gained[:NUM_EXAMPLES]),
                lost_examples=tuple(_example(row, item) for item in lost[:NUM_EXAMPLES]),
            )
        )
    return found


def _example(row: RowItems, item: str) -> Flip:
    ours = _typical(row.answers[item], row.scores[item])
    theirs = _typical(row.reference_answers[item], row.reference[item])
    return Flip(
        item=item,
        gold=ours.gold,
        prompt=ours.prompt,
        candidate=ours.response,
        baseline_prompt=theirs.prompt,
        baseline=theirs.response,
    )


def _typical(answers: Sequence[ItemResult], score: float) -> ItemResult:
    """Return the sample whose own score is nearest to the item's."""
    graded = [answer for answer in answers if answer.score is not None]
    return min(graded, key=lambda answer: abs((answer.score or 0.0) - score))
