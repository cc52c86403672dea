"""Whose response is preferred, item by item, by the task's own gold score.

Not a judge and not a reward: `Task.gold_score` was never trained on. What the outcomes add up to is
`eval.statistics.win_rate`'s subject. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.results import ItemResult

TIE = 0.5


@dataclass(frozen=True)
class Preference:
    """Two responses to one item, asked in the same way.

    outcome: 1 where ours has the higher gold score, 0.5 where they are equal, 0 where it is lower.
    length_difference: our length minus theirs, in characters: tokenizers differ.
    """

    item: str
    outcome: float
    length_difference: int


def find_preferences(
    ours: Mapping[str, Sequence[ItemResult]], theirs: Mapping[str, Sequence[ItemResult]]
) -> list[Preference]:
    """Compare each response with the other model's; items without a gold score are left out.

    Of several samples of an item the first is compared with the first, the second with the second
    and so on.
    """
    return [
        Preference(
            item=item,
            outcome=TIE + TIE * ((a.gold_score > b.gold_score) - (a.gold_score < b.gold_score)),
            length_difference=len(a.response) - len(b.response),
        )
        for item, results in ours.items()
        for a, b in zip(results, theirs.get(item, ()), strict=False)
        if a.gold_score is not None and b.gold_score is not None
    ]
