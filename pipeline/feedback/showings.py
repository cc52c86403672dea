"""In which order pairs are shown, which response stands first, and which pairs come a second time.

All of it is drawn from the seed and the pair's key. The second time the responses stand the other
way round, so that whoever prefers a place and not a response gives two answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.feedback.pairs import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.feedback.pairs import Pair, Response

_LEAST_BETWEEN = 8  # other pairs between the two times that a pair is shown, where there are enough
_MOST_BETWEEN = 24


@dataclass(frozen=True)
class Showing:
    """A pair as it is shown. number: 1, or 2 for the second time. name: for the page, opaque."""

    pair: Pair
    number: int

    @property
    def name(self) -> str:
        """What the page calls it; says nothing of where the responses are from."""
        return name_showing(self.pair.key, self.number)

    def sides(self, *, seed: int, first_text: str | None = None) -> tuple[Response, Response]:
        """Return the responses in the order in which they stand.

        first_text: of the response that stood first the first time, where this is the second.
        """
        a, b = self.pair.a, self.pair.b
        if first_text is not None:
            return (b, a) if a.text == first_text else (a, b)
        is_turned = int(digest(f"{seed}:{self.pair.key}")[:8], 16) % 2
        return (b, a) if is_turned else (a, b)


def name_showing(key: str, number: int) -> str:
    """Return what the page calls the first or the second time that a pair is shown."""
    return digest(f"{key}:{number}")[:24]


def order_showings(pairs: Sequence[Pair], *, repeat: float, seed: int) -> list[Showing]:
    """Return the pairs in their order with some of them once more, some pairs later.

    repeat: the share of pairs that come twice.
    """
    least = min(_LEAST_BETWEEN, len(pairs) // 2)
    able = range(max(1, len(pairs) - least)) if pairs else range(0)
    number = min(round(len(pairs) * repeat), len(able))
    by_lot = sorted(able, key=lambda place: digest(f"{seed}:again:{pairs[place].key}"))
    places: list[tuple[float, Showing]] = [
        (place, Showing(pair, 1)) for place, pair in enumerate(pairs)
    ]
    for place in by_lot[:number]:
        pair = pairs[place]
        later = random.Random(f"{seed}:later:{pair.key}").randint(least, _MOST_BETWEEN)
        # Behind the last pair all that are left follow in the order of their first time.
        at = place + later + 0.5 if place + later < len(pairs) else len(pairs) + place
        places.append((at, Showing(pair, 2)))
    return [showing for _, showing in sorted(places, key=lambda each: each[0])]
