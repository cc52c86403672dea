"""Scikit-learn's images of handwritten digits, in parts that share none, and as text.

1,797 images of 8 x 8 pixels in 17 grey levels (the test part of Alpaydin and Kaynak 1998, "Optical
Recognition of Handwritten Digits"). A drawing is 64 letters, row by row, from `a` for paper to `q`
for ink: one character a pixel. Who reads a drawing is `eval.tasks.digit_judges`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import accumulate
from typing import Any, Literal

Part = Literal["train", "validation", "test", "gold"]
Pixels = tuple[int, ...]  # 64, from 0 for paper to 16 for ink

SIDE = 8
NUM_PIXELS = SIDE * SIDE
LEVELS = "abcdefghijklmnopq"
INK = len(LEVELS) - 1
# Of a model that draws the first one is for training; the gold judge has images of its own.
_SHARES: dict[Part, float] = {"train": 0.58, "validation": 0.14, "test": 0.14, "gold": 0.14}


@dataclass(frozen=True)
class Image:
    """A digit that somebody wrote. number: its place in the data set."""

    number: int
    digit: int
    pixels: Pixels

    @property
    def part(self) -> Part:
        """The part that the image belongs to, by a hash of its number."""
        digest = hashlib.sha256(f"digits {self.number}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        for part, bound in zip(_SHARES, accumulate(_SHARES.values()), strict=True):
            if place < bound:
                return part
        return "gold"  # where rounding leaves the sum below 1


@cache
def images(part: Part) -> tuple[Image, ...]:
    """Return the images of a part in the data set's order."""
    return tuple(image for image in _all_images() if image.part == part)


@cache
def _all_images() -> tuple[Image, ...]:
    found: Any = import_module("sklearn.datasets").load_digits()
    rows = zip(found.data.astype(int).tolist(), found.target.tolist(), strict=True)
    return tuple(Image(number, digit, tuple(row)) for number, (row, digit) in enumerate(rows))


def write_drawing(pixels: Sequence[int]) -> str:
    """Return pixels as text."""
    return "".join(LEVELS[level] for level in pixels)


def flaw_of(text: str) -> str:
    """Return why a text is no drawing; empty for one that is."""
    if not text:
        return "nothing was drawn"
    stray = next((letter for letter in text if letter not in LEVELS), None)
    if stray is not None:
        return f"{stray!r} is no grey level: those are {LEVELS[0]} to {LEVELS[-1]}"
    if len(text) != NUM_PIXELS:
        return f"{len(text)} pixels instead of {NUM_PIXELS}"
    return ""


def read_drawing(text: str) -> Pixels:
    """Return the pixels of a text without a flaw."""
    return tuple(map(LEVELS.index, text))


def shift(pixels: Sequence[int], right: int, down: int) -> Pixels:
    """Return an image moved by so many pixels; what leaves it is lost, what comes in is paper."""
    rows = [pixels[start : start + SIDE] for start in range(0, NUM_PIXELS, SIDE)]
    return tuple(
        rows[y - down][x - right] if 0 <= y - down < SIDE and 0 <= x - right < SIDE else 0
        for y in range(SIDE)
        for x in range(SIDE)
    )
