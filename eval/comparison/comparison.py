"""A whole comparison: the rows, the tables beside them, and what has to be said of them.

This is what comparison.json holds, and the only description of it: whoever writes the file calls
`to_json`, whoever reads it `from_json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.comparison.breakdown import GroupRow, score_groups
from eval.comparison.calibration_table import CalibrationRow, tabulate_calibration
from eval.comparison.divergence_table import DivergenceRow, tabulate_divergence
from eval.comparison.flips import FlipRow, list_flips
from eval.comparison.free_form import Prompt, gather_answers
from eval.comparison.gate import Bounds, GateResult, judge
from eval.comparison.paired_results import WIN_RATE, pair_results
from eval.comparison.records import read_record
from eval.comparison.score_rows import Row, make_rows
from eval.comparison.style_gains import StyleGains, tabulate_styles
from eval.results import ItemResult

_LEVEL = 0.05  # of all intervals and tests here


@dataclass(frozen=True)
class Comparison:
    """Models on the same items; each table says in its own file what it holds.

    gate: which candidates may ship; None where nobody asked.
    """

    baseline: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    styles: StyleGains
    groups: tuple[GroupRow, ...]
    flips: tuple[FlipRow, ...]
    calibration: tuple[CalibrationRow, ...]
    divergence: tuple[DivergenceRow, ...]
    written: tuple[Prompt, ...]
    notes: tuple[str, ...]
    gate: GateResult | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The models except the baseline."""
        return tuple(model for model in self.models if model != self.baseline)

    def to_json(self) -> dict[str, Any]:
        """Return the content of comparison.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Comparison":
        """Return the comparison that a file holds; ValueError for anything else."""
        return read_record(cls, content)


def compare_results(
    results: Mapping[str, Sequence[ItemResult]],
    baseline: str,
    *,
    pass_at: Sequence[int] = (),
    trained_from: Mapping[str, str | None] | None = None,
    notes: Sequence[str] = (),
    gate: Mapping[str, Bounds] | None = None,
) -> Comparison:
    """Compare all models with the baseline.

    pass_at: see `eval.comparison.paired_results.pair_results`. trained_from: see
    `eval.comparison.divergence_table.tabulate_divergence`. notes: what else is to be said, after
    our own sentence on how many differences there are. gate: bounds by the row that they are on,
    which make a verdict. Raises as `pair_results` and `eval.comparison.gate.judge`.
    """
    items = pair_results(results, baseline, pass_at=pass_at)
    rows = make_rows(items)
    return Comparison(
        baseline=baseline,
        models=tuple(results),
        rows=tuple(rows),
        styles=tabulate_styles(items, rows),
        groups=tuple(score_groups(items)),
        flips=tuple(list_flips(items)),
        calibration=tuple(tabulate_calibration(items)),
        divergence=tuple(tabulate_divergence(items, trained_from or {})),
        written=tuple(gather_answers(results)),
        notes=(
            *_many_comparisons(rows, baseline),
            *_other_windows(results),
            *dict.fromkeys(notes),
        ),
        gate=judge(rows, gate, baseline) if gate else None,
    )


def _many_comparisons(rows: Sequence[Row], baseline: str) -> list[str]:
    """Say how many differences are shown and how many of them chance alone would make clear."""
    shown = sum(row.delta_low is not None for row in rows)
    rates = sum(row.metric.startswith(WIN_RATE) and row.low is not None for row in rows)
    if shown + rates < 2:
        return []
    counted = [f"{shown} differences"] if shown else []
    counted += [f"{rates} win rates"] if rates else []
    tested = " Of McNemar's p, those adjusted for all of them (Holm 1979) can be trusted."
    return [
        f"{' and '.join(counted)} are shown: if no model differed from `{baseline}`, about "
        f"{(shown + rates) * _LEVEL:.1f} of their 95% intervals would be clear by chance."
        + (tested if any(row.p is not None for row in rows) else "")
    ]


def _other_windows(results: Mapping[str, Sequence[ItemResult]]) -> list[str]:
    """Say which texts were read with different context, where one is longer than the least."""
    windows: dict[str, dict[str, int]] = {}
    longest: dict[str, int] = {}
    for model, items in results.items():
        for item in items:
            if item.window:
                windows.setdefault(item.task, {})[model] = item.window
                longest[item.task] = max(longest.get(item.task, 0), item.num_tokens + 1)
    notes: list[str] = []
    for task, by_model in windows.items():
        if len(set(by_model.values())) > 1 and longest[task] > min(by_model.values()):
            said = ", ".join(f"`{model}` {number}" for model, number in by_model.items())
            notes.append(
                f"`{task}` was read with other context by each model ({said} tokens): their bits "
                "per byte differ by that, too. Give all of them one `window`."
            )
    return notes
