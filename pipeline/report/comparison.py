"""A comparison as the report shows it: plain dataclasses. Reads no file, computes no statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.statistics.estimate import Estimate

Verdict = Literal["gain", "loss", ""]
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class ScoreRow:
    """One model on one task by one metric, asked in one way; see eval.comparison.score_rows.Row.

    asked, against: ways of asking in words. delta: to the baseline's best way.
    """

    task: str
    metric: str
    model: str
    style: str
    shots: int | None
    form: str
    n: int
    ungraded: int
    samples: int
    lower_is_better: bool
    score: Estimate | None
    delta: Estimate | None
    against: str
    p_adjusted: float | None
    gained: int | None
    lost: int | None
    detectable: float | None
    tokens: float | None
    window: int = 0

    @property
    def asked(self) -> str:
        """How the model was asked, in words."""
        if self.window:
            return f"read with {self.window:,} tokens of context"
        return asking_label(self.style, self.shots)

    @property
    def is_win_rate(self) -> bool:
        """Whether the score says how often the response is preferred to the baseline's."""
        return self.metric.startswith("win_rate")

    @property
    def verdict(self) -> Verdict:
        """A gain or a loss where the interval that is shown is clear of no difference."""
        if self.is_win_rate:
            side = self.score.side_of(0.5) if self.score else 0
        else:
            side = self.delta.side_of(0.0) if self.delta else 0
            side = -side if self.lower_is_better else side
        return "" if side == 0 else "gain" if side > 0 else "loss"

    @property
    def is_firm(self) -> bool:
        """Whether a gain or loss stands when p is adjusted for all differences that were tested."""
        return self.p_adjusted is None or self.p_adjusted < _SIGNIFICANT

    @property
    def goodness(self) -> float:
        """The score, higher being better; below everything where nothing was graded."""
        if self.score is None:
            return float("-inf")
        return -self.score.value if self.lower_is_better else self.score.value


@dataclass(frozen=True)
class Block:
    """The rows of one task and metric. axis: what its marks are drawn on, from low to high."""

    task: str
    metric: str
    rows: tuple[ScoreRow, ...]
    axis: tuple[float, float]


@dataclass(frozen=True)
class StyleCell:
    """What one way of asking gives; gain: over the same model's zero-shot."""

    shots: int | None
    score: Estimate | None
    gain: Estimate | None


@dataclass(frozen=True)
class StyleRow:
    """One model's scores by way of asking, a cell or None a column."""

    task: str
    metric: str
    model: str
    form: str
    cells: tuple[StyleCell | None, ...]


@dataclass(frozen=True)
class Line:
    """One model's line in a figure. x, estimates: of the same length. note: beside its name."""

    model: str
    x: tuple[float, ...]
    estimates: tuple[Estimate, ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of lines, one a model. note: under the title. unit: of x."""

    title: str
    note: str
    unit: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class GroupRow:
    """A score within one group of a task's items that is a name and no number."""

    task: str
    metric: str
    model: str
    asked: str
    group: str
    n: int
    score: Estimate | None


@dataclass(frozen=True)
class Divergence:
    """KL of a model to the one that it was trained from, nats a response."""

    task: str
    model: str
    reference: str
    kl: Estimate
    tokens: float | None
    n: int


@dataclass(frozen=True)
class Condition:
    """One bound of the gate on one row. value: the end that is bounded; reason: what was found."""

    key: str
    bound: str
    limit: float
    value: float | None
    task: str
    metric: str
    holds: bool
    reason: str


@dataclass(frozen=True)
class GateVerdict:
    """Whether a candidate ships, and the conditions that this rests on."""

    model: str
    ships: bool
    conditions: tuple[Condition, ...]

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that do not hold."""
        return tuple(condition for condition in self.conditions if not condition.holds)


@dataclass(frozen=True)
class Gate:
    """The gate of a compare stage."""

    ships: bool
    verdicts: tuple[GateVerdict, ...]


@dataclass(frozen=True)
class Comparison:
    """A finished compare stage. seeds: those that `pooled` is over; both empty without."""

    stage: str
    baseline: str
    models: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    pooled: tuple[ScoreRow, ...] = ()
    seeds: tuple[int, ...] = ()
    style_columns: tuple[str, ...] = ()
    style_rows: tuple[StyleRow, ...] = ()
    sweeps: tuple[Chart, ...] = ()
    group_curves: tuple[Chart, ...] = ()
    group_rows: tuple[GroupRow, ...] = ()
    calibration: tuple[Chart, ...] = ()
    divergence: tuple[Divergence, ...] = ()
    notes: tuple[str, ...] = ()
    gate: Gate | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The models but the baseline."""
        return tuple(model for model in self.models if model != self.baseline)

    @property
    def told(self) -> tuple[ScoreRow, ...]:
        """The rows that a summary speaks of: means over seeds where there are several."""
        return self.pooled or self.rows


def blocks(rows: Sequence[ScoreRow]) -> list[Block]:
    """Return rows by task and metric, tasks in their order."""
    subjects = dict.fromkeys((row.task, row.metric) for row in rows)
    found: list[Block] = []
    for task in dict.fromkeys(task for task, _ in subjects):
        for metric in (metric for other, metric in subjects if other == task):
            own = tuple(row for row in rows if (row.task, row.metric) == (task, metric))
            found.append(Block(task, metric, own, _axis(own)))
    return found


def best_ways(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Return each model's best way of being asked on each task and metric, in their order."""
    best: dict[tuple[str, str, str], ScoreRow] = {}
    for row in rows:
        key = (row.task, row.metric, row.model)
        if key not in best or row.goodness > best[key].goodness:
            best[key] = row
    return list(best.values())


def _axis(rows: Sequence[ScoreRow]) -> tuple[float, float]:
    """Return 0 to 1 for shares, else what the rows need with a margin."""
    found = [row.score for row in rows if row.score is not None]
    values = [v for e in found for v in (e.value, e.low, e.high, *e.by_seed) if v is not None]
    if not values or (min(values) >= 0 and max(values) <= 1 and not rows[0].lower_is_better):
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin


_STYLES = {"chain-of-thought": "chain of thought", "none": "read, not asked"}


def asking_label(style: str, shots: int | None) -> str:
    """Return how a model was asked: `few-shot (3)`."""
    said = _STYLES.get(style, style)
    return f"{said} ({shots})" if shots else said
