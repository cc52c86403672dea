"""Which two responses a labeller is asked to compare: drawn from a seed, every prompt once first.

A pair has two different responses to one prompt; of several sources, one from each. What is drawn
depends on the seed and the responses, not on their order, and a larger number only adds pairs. In
which order pairs and their responses are shown is showings.py's subject.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from math import comb, isqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.data.reading.responses import ResponseRow


@dataclass(frozen=True)
class Response:
    """A response and what it answers. source: what of the command line it is from."""

    row: ResponseRow
    source: str

    @property
    def text(self) -> str:
        """What is read."""
        return self.row.text

    @property
    def written(self) -> Any:
        """The response as its row has it: a text, or a list of one message."""
        return self.row.fields["completion"]


@dataclass(frozen=True)
class Pair:
    """Two responses to a prompt; `a` is the one whose text sorts first. key: names the pair."""

    key: str
    a: Response
    b: Response


@dataclass(frozen=True)
class Drawn:
    """pairs: in the order in which they are drawn. possible: how many there could have been.

    alone: prompts without two different responses, which make no pair.
    """

    pairs: Sequence[Pair]
    possible: int
    alone: int


def draw_pairs(responses: Iterable[Response], *, at_most: int, seed: int) -> Drawn:
    """Draw pairs: one of every prompt before a second of any."""
    pools = [_Pool(group, seed) for group in _by_question(responses)]
    able = sorted((pool for pool in pools if pool.num_pairs), key=lambda pool: pool.place)
    pairs: list[Pair] = []
    drawing = [pool.draw() for pool in able]
    while drawing and len(pairs) < at_most:
        still: list[Iterator[Pair]] = []
        for source in drawing:
            pair = next(source, None) if len(pairs) < at_most else None
            if pair is not None:
                pairs.append(pair)
                still.append(source)
        drawing = still
    possible = sum(pool.num_pairs for pool in able)
    return Drawn(pairs, possible, len(pools) - len(able))


def pair_key(question: str, text: str, other: str) -> str:
    """Return what names a pair, in whichever order: of its prompt and both texts."""
    return digest(json.dumps([question, *sorted((text, other))]))


def digest(text: str) -> str:
    """Return the sha256 of a text in hex; lone surrogates, which rows cannot have, do not fail."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Pool:
    """The responses to a prompt by their text, of each source one. place: among the prompts."""

    def __init__(self, responses: Sequence[Response], seed: int) -> None:
        self._random = random.Random(f"{seed}:{digest(responses[0].row.question)}")
        self.place = self._random.random()
        by_text: dict[str, dict[str, Response]] = {}
        for one in responses:
            by_text.setdefault(one.text, {}).setdefault(one.source, one)
        self._of_texts = [list(by_text[text].values()) for text in sorted(by_text)]
        self._is_of_several = len({one.source for one in responses}) > 1
        alone = Counter(found[0].source for found in self._of_texts if len(found) == 1)
        self.num_pairs = comb(len(by_text), 2)
        if self._is_of_several:  # two texts of one and the same source make no pair
            self.num_pairs -= sum(comb(number, 2) for number in alone.values())

    def draw(self) -> Iterator[Pair]:
        """Yield all pairs in a random order, each when it is asked for."""
        for number in _shuffle(comb(len(self._of_texts), 2), self._random):
            high = (1 + isqrt(1 + 8 * number)) // 2
            low = number - comb(high, 2)
            chosen = [
                (a, b)
                for a in self._of_texts[low]
                for b in self._of_texts[high]
                if not self._is_of_several or a.source != b.source
            ]
            if chosen:
                a, b = self._random.choice(chosen)
                yield Pair(pair_key(a.row.question, a.text, b.text), a, b)


def _shuffle(number: int, generator: random.Random) -> Iterator[int]:
    """Yield 0 to number - 1 in a random order, in memory of what was drawn (Fisher and Yates)."""
    moved: dict[int, int] = {}
    for place in range(number):
        other = generator.randrange(place, number)
        yield moved.get(other, other)
        moved[other] = moved.get(place, place)


def _by_question(responses: Iterable[Response]) -> list[list[Response]]:
    groups: dict[str, list[Response]] = {}
    for one in responses:
        groups.setdefault(one.row.question, []).append(one)
    return list(groups.values())
