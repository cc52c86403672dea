"""What each way of asking gets out of each model: does it know, and only did not understand?

A base model that answers after demonstrations had the skill before any training; a fine-tuned one
that answers without them was taught to use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.comparison.paired_results import RowItems
from eval.comparison.score_rows import Row
from eval.model import Form
from eval.results import STYLES, Style
from eval.statistics.estimate import Estimate, estimate_of


@dataclass(frozen=True)
class Column:
    """A way of asking. shots: None for a chain of thought, where they depend on the model."""

    style: Style
    shots: int | None


@dataclass(frozen=True)
class Cell:
    """A model's score when it is asked in one way, as of its row.

    gain, gain_low, gain_high: over the same model's zero-shot score on the items that both graded,
    with its 95% interval; None for zero-shot itself.
    """

    shots: int
    n: int
    score: float | None
    low: float | None
    high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None

    @property
    def estimate(self) -> Estimate | None:
        """The score with its interval."""
        return estimate_of(self.score, self.low, self.high)

    @property
    def gain_estimate(self) -> Estimate | None:
        """The gain with its interval."""
        return estimate_of(self.gain, self.gain_low, self.gain_high)


@dataclass(frozen=True)
class StyleGainsRow:
    """One model on one task; cells: one per column, None where it was not asked so."""

    task: str
    metric: str
    model: str
    form: Form
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class StyleGains:
    """The table; without rows where only one way of asking was tried."""

    columns: tuple[Column, ...]
    rows: tuple[StyleGainsRow, ...]


def tabulate_styles(items: Sequence[RowItems], rows: Sequence[Row]) -> StyleGains:
    """Return the table. rows: of the items, in the same order."""
    asked = [(each, row) for each, row in zip(items, rows, strict=True) if each.is_asked]
    columns = sorted({_column(row) for _, row in asked}, key=_place)
    by_line: dict[tuple[str, str, str], dict[Column, tuple[RowItems, Row]]] = {}
    for each, row in asked:
        by_line.setdefault((row.task, row.metric, row.model), {})[_column(row)] = (each, row)
    if len(columns) < 2:
        return StyleGains(tuple(columns), ())
    lines = [
        StyleGainsRow(
            task=task,
            metric=metric,
            model=model,
            form=next(iter(found.values()))[1].form,
            cells=tuple(_cell(found, column) for column in columns),
        )
        for (task, metric, model), found in by_line.items()
    ]
    return StyleGains(tuple(columns), tuple(lines))


def _column(row: Row) -> Column:
    return Column(row.style, None if row.style == "chain-of-thought" else row.shots)


def _place(column: Column) -> tuple[int, int]:
    return STYLES.index(column.style), column.shots or 0


def _cell(found: dict[Column, tuple[RowItems, Row]], column: Column) -> Cell | None:
    if column not in found:
        return None
    items, row = found[column]
    plain, _ = found.get(Column("zero-shot", 0), (items, row))
    gain, interval = (None if plain is items else items.difference_to(plain)) or (None, None)
    return Cell(
        shots=row.shots,
        n=row.n,
        score=row.score,
        low=row.low,
        high=row.high,
        gain=gain,
        gain_low=interval.low if interval else None,
        gain_high=interval.high if interval else None,
    )
