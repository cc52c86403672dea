"""What a reader has to know in ten seconds: the verdict, biggest gains and losses, the price."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from eval.comparison.score_rows import pick_best_rows
from eval.results import BITS_PER, BITS_PER_BYTE, CHOICE, RANKING, TOOL_METRICS, VERIFIED
from eval.statistics.estimate import Estimate
from pipeline.report.board import board, loss_text, rests_on, unguarded_losses
from pipeline.report.formatting import digits_of, estimate, listed, metric_label, number
from pipeline.report.html.forest import forest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eval.comparison.gate import Verdict
    from eval.comparison.score_rows import Change, Row
    from pipeline.report.board import Board, ModelMean
    from pipeline.report.comparison import StageComparison
    from pipeline.report.html.forest import Forest
    from pipeline.report.html.run_source import ReportedRun

_SHOWN = 3
_TOLD = {VERIFIED, CHOICE, RANKING, *TOOL_METRICS}  # elsewhere: by task, in the scores
_FEW_TASKS = 3


@dataclass(frozen=True)
class Finding:
    """A difference worth naming, or the lack of one."""

    row: Row
    before: float | None

    @property
    def subject(self) -> str:
        """What was measured, in words."""
        return f"{self.row.task}: {metric_label(self.row.metric)}"


@dataclass(frozen=True)
class Tally:
    """How a candidate's differences fall out, by the intervals that the tables show.

    unclear: their interval includes none. weak: gains and losses that do not stand when p is
    adjusted for all differences that were tested.
    """

    model: str
    gains: int
    losses: int
    unclear: int
    weak: int


@dataclass(frozen=True)
class ModelLine:
    """A model in the table of the result; what is not known of it is None or empty.

    mean: over tasks. verdict: of the gate; rests_on: what it looks at; passed_over: the losses that
    it does not look at.
    """

    model: str
    mean: ModelMean | None
    tally: Tally | None
    verdict: Verdict | None
    rests_on: str
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class PriceCell:
    """What one model pays; text: "" is unknown."""

    text: str
    verdict: Change = ""


@dataclass(frozen=True)
class PriceRow:
    """What the alignment costs, by model, in the order of the comparison."""

    what: str
    cells: tuple[PriceCell, ...]


@dataclass(frozen=True)
class Summary:
    """What is said of one comparison."""

    comparison: StageComparison
    question: str
    board: Board
    forest: Forest | None
    lines: tuple[ModelLine, ...]
    tallies: tuple[Tally, ...]
    gains: tuple[Finding, ...]
    losses: tuple[Finding, ...]
    preferred: tuple[Row, ...]
    price: tuple[PriceRow, ...]


def summarise(comparison: StageComparison, run: ReportedRun) -> Summary:
    """Return what the first page says of a comparison."""
    best = pick_best_rows(comparison.told)
    scored = [row for row in best if row.delta is not None and not _is_aside(row)]
    before = {
        (row.task, row.metric): row.score
        for row in best
        if row.model == comparison.baseline and row.score is not None
    }

    def biggest(verdict: str) -> tuple[Finding, ...]:
        found = [row for row in scored if row.verdict == verdict and row.delta is not None]
        found.sort(key=lambda row: -abs(row.delta or 0.0))
        return tuple(Finding(row, before.get((row.task, row.metric))) for row in found[:_SHOWN])

    found = board(comparison)
    tallies = tuple(
        _tally(model, [row for row in scored if row.model == model])
        for model in comparison.candidates
        if any(row.model == model for row in scored)
    )
    return Summary(
        comparison=comparison,
        question=_question(comparison),
        board=found,
        forest=forest(found),
        lines=tuple(_line(model, comparison, found, tallies) for model in comparison.models),
        tallies=tallies,
        gains=biggest("gain"),
        losses=biggest("loss"),
        preferred=tuple(row for row in best if row.is_win_rate and row.score is not None),
        price=tuple(_price(comparison, best, run)),
    )


def _tally(model: str, rows: Sequence[Row]) -> Tally:
    told = [row.verdict for row in rows]
    weak = sum(bool(row.verdict) and not row.is_firm for row in rows)
    return Tally(model, told.count("gain"), told.count("loss"), told.count(""), weak)


def _line(
    model: str, comparison: StageComparison, found: Board, tallies: Sequence[Tally]
) -> ModelLine:
    verdicts = comparison.gate.verdicts if comparison.gate else ()
    verdict = next((each for each in verdicts if each.model == model), None)
    losses = unguarded_losses(verdict, comparison) if verdict else ()
    return ModelLine(
        model=model,
        mean=next((mean for mean in found.means if mean.model == model), None),
        tally=next((tally for tally in tallies if tally.model == model), None),
        verdict=verdict,
        rests_on=rests_on(verdict) if verdict else "",
        passed_over=tuple(loss_text(row, digits_of(row.metric)) for row in losses),
    )


def _is_aside(row: Row) -> bool:
    """Whether a row is no score of its own: a price, a preference, a task's score again."""
    return row.lower_is_better or row.is_win_rate or row.metric.startswith("pass@")


def _is_of_answers(row: Row) -> bool:
    """Whether bits are of a task's right answers, in its own unit, and not of a text."""
    return row.metric.startswith(BITS_PER) and row.metric != BITS_PER_BYTE


def _question(comparison: StageComparison) -> str:
    """Return what was compared, in a sentence."""
    read = [row for row in comparison.rows if row.style == "none" and not _is_of_answers(row)]
    tasks = list(dict.fromkeys(row.task for row in comparison.rows if row.style != "none"))
    texts = list(dict.fromkeys(row.task for row in read))
    parts: list[str] = []
    if tasks:
        items = {row.n + row.ungraded for row in comparison.rows if row.task in tasks}
        each = f"{min(items)} to {max(items)}" if len(items) > 1 else f"{max(items)}"
        named = listed(tasks) if len(tasks) <= _FEW_TASKS else f"{len(tasks)} tasks"
        parts.append(f"on {named} ({each} items{' each' if len(tasks) > 1 else ''})")
    if texts:
        parts.append(f"on the held-out text of {listed(texts)}")
    are = "is" if len(comparison.candidates) == 1 else "are"
    said = f"{listed(comparison.candidates)} {are} compared with {comparison.baseline}"
    if comparison.seeds:
        parts[-1] += f", means over the seeds {listed([str(seed) for seed in comparison.seeds])}"
    return f"{said} {' and '.join(parts)}."


def _price(
    comparison: StageComparison, best: Sequence[Row], run: ReportedRun
) -> Iterator[PriceRow]:
    models = comparison.models
    for task in dict.fromkeys(row.task for row in best if row.lower_is_better):
        found = {row.model: row for row in best if row.task == task and row.lower_is_better}
        label = metric_label(next(iter(found.values())).metric)
        yield PriceRow(f"{label} of {task}", tuple(_change(found.get(model)) for model in models))
    yield from further_rows(best, models)
    divergence = {
        row.model: f"{estimate(row.estimate, 1)} from {row.trained_from} ({row.task})"
        for row in reversed(comparison.divergence)
    }
    trained = {stage.name: _kl(stage.metrics) for stage in run.stages}
    told = [divergence.get(model) or trained.get(model, "") for model in models]
    if any(told):
        yield PriceRow("KL, nats per response", tuple(PriceCell(text) for text in told))
    yield from _lengths(best, models)


def further_rows(best: Sequence[Row], models: Sequence[str]) -> Iterator[PriceRow]:
    """Yield what tasks say beside their verdicts: another judge, how much responses vary."""
    verified = {row.task for row in best if row.metric == VERIFIED}
    further = [
        row
        for row in best
        if row.task in verified and row.metric not in _TOLD and not _is_aside(row)
    ]
    for task, metric in dict.fromkeys((row.task, row.metric) for row in further):
        found = {row.model: row for row in further if (row.task, row.metric) == (task, metric)}
        cells = tuple(_change(found.get(model)) for model in models)
        yield PriceRow(f"{metric_label(metric)}, {task}", cells)


def _change(row: Row | None) -> PriceCell:
    if row is None or row.score is None:
        return PriceCell("")
    digits = digits_of(row.metric)
    said = number(row.score, digits)
    if row.delta is None:
        return PriceCell(said)
    return PriceCell(f"{said} ({estimate(row.difference, digits, sign=True)})", row.verdict)


def _kl(metrics: Mapping[str, float]) -> str:
    """Return what a stage measured at its end of its distance to its reference."""
    if metrics.get("kl") is None:
        return ""
    found = Estimate(metrics["kl"], metrics.get("kl_low"), metrics.get("kl_high"))
    return f"{estimate(found, 1)} from its reference"


def _lengths(best: Sequence[Row], models: Sequence[str]) -> Iterator[PriceRow]:
    """Yield tokens a response, task by task or, of many tasks, their mean."""
    written = {
        (row.task, row.model): row.tokens
        for row in best
        if row.tokens is not None and not row.is_win_rate and not row.metric.startswith("pass@")
    }
    tasks = list(dict.fromkeys(task for task, _ in written))
    if len(tasks) <= _FEW_TASKS:
        for task in tasks:
            cells = (written.get((task, model)) for model in models)
            yield PriceRow(
                f"tokens per response, {task}",
                tuple(PriceCell("" if found is None else number(found, 0)) for found in cells),
            )
        return
    means = (
        [written[task, model] for task in tasks if (task, model) in written] for model in models
    )
    yield PriceRow(
        f"tokens per response, mean of {len(tasks)} tasks",
        tuple(PriceCell(number(fmean(found), 0) if found else "") for found in means),
    )
