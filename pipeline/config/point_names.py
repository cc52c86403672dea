"""The names of a sweep's stages, made and taken apart: `base[size=1M,tokens=4M]`.

They are folders and links too, so a value is written with characters that are safe there; a value
that cannot be, or is too long, is shown by its place in its list. What a sweep is, is
recipe/sweeps/'s subject.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BEST = "best"  # in place of a key: `base[best=bits_per_byte]` is the one that was chosen
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)\[([^\[\]]+)\]")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")
_LONGEST = 32  # characters of a value


@dataclass(frozen=True)
class PointName:
    """The parts of a name. sweep: the stage as the recipe has it. labels: value by short key."""

    sweep: str
    labels: Mapping[str, str]

    @property
    def is_best(self) -> bool:
        """Whether it names the one that was chosen, not one that was swept."""
        return BEST in self.labels


def point_name(sweep: str, labels: Mapping[str, str]) -> str:
    """Return the name of a point's stage."""
    return f"{sweep}[{','.join(f'{key}={text}' for key, text in labels.items())}]"


def split_name(name: str) -> PointName | None:
    """Return the parts of a point's name; None for a stage that is of no sweep."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pairs = [part.partition("=") for part in match[2].split(",")]
    if not all(key and equals and text for key, equals, text in pairs):
        return None
    return PointName(match[1], {key: text for key, _, text in pairs})


def short_name(name: str) -> str:
    """Return a point's name where there is little room: `base[1M,4M]`; others as they are."""
    part = split_name(name)
    return name if part is None else f"{part.sweep}[{','.join(part.labels.values())}]"


def without_points(names: Iterable[str]) -> list[str]:
    """Return names with those of a sweep as one, `base[...]`."""
    parts = {name: split_name(name) for name in names}
    return list(
        dict.fromkeys(
            name if part is None or part.is_best else f"{part.sweep}[...]"
            for name, part in parts.items()
        )
    )


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return for each dotted key its last part, or as many last parts as tell it from the others.

    The index of a list is never a name by itself.
    """
    lengths = dict.fromkeys(keys, 1)
    while True:
        short = {key: ".".join(key.split(".")[-length:]) for key, length in lengths.items()}
        longer = [
            key
            for key in keys
            if lengths[key] < len(key.split("."))
            and (short[key].split(".")[0].isdigit() or list(short.values()).count(short[key]) > 1)
        ]
        if not longer:
            return short
        for key in longer:
            lengths[key] += 1


def value_labels(values: Iterable[Any]) -> list[str]:
    """Return what each value of a key is called: as it is written, or by its place in the list."""
    listed = list(values)
    texts = [_text(value) for value in listed]
    are_usable = all(texts) and len(set(texts)) == len(texts)
    return texts if are_usable else [str(number) for number in range(1, len(listed) + 1)]


def _text(value: Any) -> str:
    """Return a value in safe characters; empty where that would say nothing or too much."""
    written = value.removeprefix("$") if isinstance(value, str) else json.dumps(value)
    safe = _UNSAFE.sub("-", written)
    safe = safe if safe == written else safe.strip("-")
    return safe if len(safe) <= _LONGEST else ""
