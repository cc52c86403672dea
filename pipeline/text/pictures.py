"""Small pictures in grey as text: a PNG as a data URI for pages, half blocks for terminals.

Levels are rows from 0 for black to 255 for white, all equally long (`Task.picture`).
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

_UPPER_HALF = "\N{UPPER HALF BLOCK}"  # its ink is the upper pixel, its paper the lower one
_WHITE = 255


@dataclass(frozen=True)
class PageImage:
    """An image of a page: its source, and how large it is shown, a whole number of times its own.

    A page that shows it sets `image-rendering: pixelated`.
    """

    source: str
    width_px: int
    height_px: int


def page_image(levels: Sequence[Sequence[int]], *, about_px: int) -> PageImage:
    """Return a picture as an image that is as wide as is asked, or a little narrower."""
    scale = max(1, about_px // len(levels[0]))
    return PageImage(_data_uri(levels), scale * len(levels[0]), scale * len(levels))


def block_lines(levels: Sequence[Sequence[int]]) -> list[Text]:
    """Return a picture as lines of a terminal, two rows of pixels each."""
    from rich.text import Text

    blank = [_WHITE] * len(levels[0])
    lines: list[Text] = []
    for upper, lower in zip_longest(levels[::2], levels[1::2], fillvalue=blank):
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            line.append(_UPPER_HALF, style=f"{_grey(above)} on {_grey(below)}")
        lines.append(line)
    return lines


def _data_uri(levels: Sequence[Sequence[int]]) -> str:
    from PIL import Image  # Matplotlib brings it along

    picture = Image.new("L", (len(levels[0]), len(levels)))
    picture.putdata([level for row in levels for level in row])
    written = io.BytesIO()
    picture.save(written, "PNG")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def _grey(level: int) -> str:
    return f"rgb({level},{level},{level})"
