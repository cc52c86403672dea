"""How often one model's response is preferred to another's, by the task's own gold score.

Not a judge and not a reward: `Task.gold_score` was never trained on. Two models are compared item
by item, asked in the same style; a tie counts half. Imports no torch.
"""

from collections.abc import Mapping, Sequence

from eval.run import ItemResult
from eval.statistics import Interval, mean_interval, wilson

TIE = 0.5


def preferred(ours: Mapping[str, ItemResult], theirs: Mapping[str, ItemResult]) -> dict[str, float]:
    """Return 1 where our response has the higher gold score, 0.5 where equal, 0 where lower.

    Items, by id, without a gold score on either side are left out.
    """
    outcomes: dict[str, float] = {}
    for item, result in ours.items():
        our_score = result.gold_score
        their_score = theirs[item].gold_score if item in theirs else None
        if our_score is not None and their_score is not None:
            outcomes[item] = TIE + TIE * ((our_score > their_score) - (our_score < their_score))
    return outcomes


def win_rate_interval(outcomes: Sequence[float]) -> Interval | None:
    """Return the 95% interval of the win rate: a bootstrap over items, both responses together.

    Without ties it is Wilson's. With nothing but ties a bootstrap would claim certainty: it is then
    0.5 +- half of Wilson's upper limit for the share of items on which the models differ.
    """
    if outcomes and all(outcome == TIE for outcome in outcomes):
        reach = wilson(0, len(outcomes)).high / 2
        return Interval(TIE - reach, TIE + reach)
    return mean_interval(outcomes)
