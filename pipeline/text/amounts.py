"""Sizes and counts as a reader sees them, and as they are read back."""

import re

_NUMBER = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)([kKMBGT]?)")
_FACTOR = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def size(size_bytes: int) -> str:
    """Return `1.2 MB` and the like."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(number: int) -> str:
    """Return `910k`, `1.2M` and the like, to three digits."""
    value = float(number)
    for unit in ("", "k", "M", "B"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}T"


def number_of(text: str) -> float | None:
    """Return what `0.001`, `64` or `4M` says; None for what is no number."""
    match = _NUMBER.fullmatch(text)
    return None if match is None else float(match[1]) * _FACTOR[match[2]]
