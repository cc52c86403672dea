"""Numbers and names as a reader sees them: digits, signs, durations, ways of asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.results import BITS_PER
from pipeline.text.amounts import count

if TYPE_CHECKING:
    from eval.comparison.score_rows import Row
    from eval.statistics.estimate import Estimate

NOT_MEASURED = "\N{EN DASH}"
_STYLES = {"chain-of-thought": "chain of thought", "none": "read, not asked"}
_METRICS = {
    "verified_accuracy": "answers that verify",
    "choice_accuracy": "likeliest option is right",
    "preference_accuracy": "pairs ranked as preferred",
    "bits_per_byte": "bits per byte",
    "win_rate": "win rate",
    "win_rate_equal_length": "win rate at equal length",
    "called_tools": "responses that call tools",
    "calls_without_error": "calls of tools without an error",
    "called_when_needed": "calls a tool where one is needed",
    "no_call_when_not_needed": "calls none where none is needed",
    "loose_accuracy": "answers that verify, loosely",
    "instruction_accuracy": "instructions that are followed",
    "instruction_loose_accuracy": "instructions that are followed, loosely",
    "acc": "accuracy",
    "acc_norm": "accuracy, length normalised",
}


def metric_label(metric: str) -> str:
    """Return what a metric is called in a sentence."""
    return _METRICS.get(metric, metric.replace("_", " "))


def asking_label(style: str, shots: int | None) -> str:
    """Return how a model was asked: `few-shot (3)`."""
    label = _STYLES.get(style, style)
    return f"{label} ({shots})" if shots else label


def asked(row: Row) -> str:
    """Return how a row's model was asked, or how it read a text."""
    if row.window:
        return f"read with {row.window:,} tokens of context"
    return asking_label(row.style, row.shots)


def against(row: Row) -> str:
    """Return how the baseline was asked that a row is measured against."""
    return " or ".join(asking_label(*way) for way in row.against_ways)


def digits_of(metric: str) -> int:
    """Return how many digits behind the point mean something."""
    return 3 if metric.startswith(BITS_PER) else 2


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with a true minus sign; a dash where nothing was measured."""
    if value is None:
        return NOT_MEASURED
    with_sign = sign and value != 0
    said = f"{abs(value) if value == 0 else value:{'+' if with_sign else ''}.{digits}f}"
    return said.replace("-", "\N{MINUS SIGN}")


def amount(value: float) -> str:
    """Return a count as `1,183`, a large one as `1.16M`."""
    return f"{value:,.0f}" if value < 100_000 else count(int(value))


def short(value: float) -> str:
    """Return a number to four figures, as short as it can be said."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def interval(found: Estimate | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return `[0.55, 0.67]`; empty without an interval."""
    if found is None or found.low is None or found.high is None:
        return ""
    return f"[{number(found.low, digits, sign=sign)}, {number(found.high, digits, sign=sign)}]"


def estimate(found: Estimate | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return `0.61 [0.55, 0.67]`."""
    if found is None:
        return NOT_MEASURED
    said = number(found.value, digits, sign=sign)
    return f"{said} {interval(found, digits, sign=sign)}".rstrip()


def probability(value: float | None) -> str:
    """Return a p-value: `0.031`, `< 0.001`."""
    if value is None:
        return NOT_MEASURED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Return `45 s`, `3 min 22 s` or `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Return `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def plural(count: int, noun: str) -> str:
    """Return `1 gain`, `2 gains`, `2 losses`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun[-1] == 's' else 's'}"
