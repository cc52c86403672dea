"""Figures of a stage on rollouts: scores against KL beside best-of-n. section.py reads them.

Colours and words are decided here; drawing is figures.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from pipeline.report.formatting import estimate, number, short
from pipeline.report.html.figures import Drawn, Marked, path
from pipeline.report.html.plots import Figure, Legend
from pipeline.report.rollouts import KL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.statistics.estimate import Estimate
    from pipeline.report.html.rollouts.best_of_n import BestOfN, HeldOut
    from pipeline.report.rollouts import Rollout

_MOST_DOTS, _MOST_STRETCHES = 200, 16
_UNIT = "KL to the first policy, nats a response (root scale)"


@dataclass(frozen=True)
class PolicyColours:
    """The colours of the policy that is trained, and of the one that it began as."""

    trained: int
    first: int


@dataclass(frozen=True)
class Stretch:
    """Means over consecutive rollouts, by the numbers of the first and the last."""

    first: int
    last: int
    kl: float
    value: float

    @property
    def label(self) -> str:
        """Which rollouts it is of."""
        said = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"rollout{'' if self.first == self.last else 's'} {said}"


def against_kl(
    name: str,
    rollouts: Sequence[Rollout],
    key: str,
    *,
    title: str,
    note: str,
    best: BestOfN | None,
    of: Callable[[HeldOut], Estimate | None],
    colours: PolicyColours,
) -> Figure | None:
    """Return a metric against KL, a dot a rollout, with best-of-n; None where neither is known.

    of: the same figure of best-of-n's rows and of the trained policy.
    """
    told = [rollout for rollout in rollouts if key in rollout and KL in rollout]
    dots, way = _stretches(told, key, _MOST_DOTS), _stretches(told, key, _MOST_STRETCHES)
    rows = _measured(best.rows if best else (), of)
    final = _measured((best.policy,) if best and best.policy else (), of)
    if not told and not rows:
        return None
    mean_of = max((each.last - each.first + 1 for each in way), default=1)
    legend = [
        *(
            [Legend(colours.trained, "rollouts", _dots_note(len(told), len(dots), mean_of))]
            if told
            else []
        ),
        *([Legend(colours.first, "best-of-n", "n beside it")] if rows else []),
        *([Legend(colours.trained, "final policy", "diamond: held-out prompts")] if final else []),
    ]
    table = [
        *((each.label, number(each.kl), short(each.value)) for each in way),
        *((f"best of {row.n}", number(row.kl), estimate(found)) for row, found in rows),
        *(("final policy, held out", number(row.kl), estimate(found)) for row, found in final),
    ]
    return Figure(
        title=title,
        note=note,
        svg=path(
            name,
            Drawn(colours.trained, [each.kl for each in dots], [each.value for each in dots]),
            Drawn(colours.trained, [each.kl for each in way], [each.value for each in way]),
            compared=_marked(colours.first, rows, numbers=[row.n for row, _ in rows]),
            final=_marked(colours.trained, final),
            described=f"{title}. " + "; ".join(f"{a}: KL {b}, {c}" for a, b, c in table),
            unit=_UNIT,
        ),
        legend=tuple(legend),
        head=("", "KL", title.removesuffix(" against KL").lower()),
        rows=tuple(table),
    )


def _dots_note(num_rollouts: int, num_dots: int, mean_of: int) -> str:
    if num_rollouts == 1:
        return "one only"
    dots = "pale: early" if num_dots == num_rollouts else "dots: means of neighbours"
    return dots if mean_of == 1 else f"{dots}, line: means of {mean_of}"


def _stretches(told: Sequence[Rollout], key: str, at_most: int) -> list[Stretch]:
    """Return means of equal stretches of rollouts, as many as are asked for at most."""
    num = min(at_most, len(told))
    ends = [len(told) * place // num for place in range(num + 1)] if num else [0]
    parts = [told[low:high] for low, high in pairwise(ends)]
    return [
        Stretch(
            int(part[0]["rollout"]),
            int(part[-1]["rollout"]),
            fmean(rollout[KL] for rollout in part),
            fmean(rollout[key] for rollout in part),
        )
        for part in parts
    ]


def _measured(
    rows: Sequence[HeldOut], of: Callable[[HeldOut], Estimate | None]
) -> list[tuple[HeldOut, Estimate]]:
    return [(row, found) for row in rows if (found := of(row)) is not None]


def _marked(
    colour: int, rows: Sequence[tuple[HeldOut, Estimate]], numbers: Sequence[int] = ()
) -> Marked:
    return Marked(
        colour,
        [row.kl for row, _ in rows],
        [found.value for _, found in rows],
        [found.low for _, found in rows],
        [found.high for _, found in rows],
        numbers,
    )
