"""How good a comparison's models became, and how far each went for it: all in one plane by task.

Gold score against KL to one model that all began as (Gao et al. 2022): what tells methods apart
that learn the same wish in other ways. Beside it what choosing among that model's own answers
gives, best-of-n, and what each took to learn: tokens that were sampled, and time. A single training
over its rollouts is rollouts/section.py's subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from string import ascii_uppercase
from typing import TYPE_CHECKING

from eval.statistics.estimate import Estimate
from pipeline.report.formatting import duration, estimate, number
from pipeline.report.html.figures import Lettered, Marked, scatter
from pipeline.report.html.plots import Figure, Legend
from pipeline.report.html.rollouts.best_of_n import read_best_of_n
from pipeline.report.html.run_source import runs_of_seeds
from pipeline.report.rollouts import KINDS, TOKENS, read_rollouts, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eval.comparison.divergence_table import DivergenceRow
    from pipeline.report.comparison import StageComparison
    from pipeline.report.html.palette import Palette
    from pipeline.report.html.rollouts.best_of_n import HeldOut
    from pipeline.report.html.run_source import ReportedRun, ReportedStage

_FEWEST = 2  # models beside the one that they began as
_UNIT = "KL to where all began, nats a response (root scale)"


@dataclass(frozen=True)
class Cost:
    """What the stages between the model that all began as and another one took.

    tokens: sampled to learn from. seconds: of these stages, reward models left out, which are for
    all.
    """

    tokens: float
    seconds: float


def method_figures(
    name: str, comparison: StageComparison, run: ReportedRun, colours: Palette
) -> tuple[Figure, ...]:
    """Return a figure for each task in which several models were measured to one of them.

    name: makes their ids unlike others'. Raises CorruptArtifactError.
    """
    by_task: dict[tuple[str, str, int], list[DivergenceRow]] = {}
    for row in comparison.moved:
        if row.gold_score is not None and row.trained_from == comparison.baseline:
            by_task.setdefault((row.task, row.style, row.shots), []).append(row)
    found = [rows for rows in by_task.values() if len(rows) > _FEWEST]
    if not found:
        return ()
    runs = runs_of_seeds(run, comparison.seeds)
    return tuple(
        _figure(f"{name}-{place}", rows, comparison.baseline, runs, colours)
        for place, rows in enumerate(found)
    )


def _figure(
    name: str,
    rows: Sequence[DivergenceRow],
    start: str,
    runs: Sequence[ReportedRun],
    colours: Palette,
) -> Figure:
    task = rows[0].task
    letters = dict(zip((row.model for row in rows), ascii_uppercase * len(rows), strict=False))
    best = _best_of_n(runs, start, task)
    costs = {row.model: _mean_cost(runs, row.model, start) for row in rows}
    table = [
        *(
            (
                f"{letters[row.model]} {row.model}",
                "0" if row.model == start else estimate(row.estimate),
                estimate(row.gold_score),
                number(costs[row.model].tokens, 0),
                duration(costs[row.model].seconds),
            )
            for row in rows
        ),
        *((f"best of {n}", number(kl), estimate(gold), "", "") for n, kl, gold in best),
    ]
    title = f"{task}: gold score against KL"
    return Figure(
        title=title,
        note="What is wanted, by how far each model went for it. Higher is better, further left is "
        "cheaper. Bars: 95% intervals.",
        svg=scatter(
            name,
            [_point(row, letters[row.model], colours) for row in rows],
            compared=Marked(
                colours(start),
                [kl for _, kl, _ in best],
                [gold.value for *_, gold in best],
                [gold.low for *_, gold in best],
                [gold.high for *_, gold in best],
                [n for n, *_ in best],
            ),
            described=f"{title}. " + "; ".join(f"{a}: KL {b}, gold {c}" for a, b, c, *_ in table),
            unit=_UNIT,
        ),
        legend=(
            *(Legend(colours(row.model), row.model, letters[row.model]) for row in rows),
            *([Legend(colours(start), "best-of-n", "dashed, n beside it", dash=1)] if best else []),
        ),
        head=("", "KL", "gold score", "tokens sampled", "time"),
        rows=tuple(table),
    )


def _point(row: DivergenceRow, letter: str, colours: Palette) -> Lettered:
    gold = row.gold_score
    assert gold is not None
    return Lettered(
        colours(row.model),
        letter,
        (0.0, None, None) if row.model == row.trained_from else (row.kl, row.low, row.high),
        (gold.value, gold.low, gold.high),
    )


def _best_of_n(
    runs: Sequence[ReportedRun], start: str, task: str
) -> list[tuple[int, float, Estimate]]:
    """Return n, KL and gold score of best-of-n of the model that all began as, means over seeds.

    Of the first stage on rollouts of this task alone that measured it. Intervals are means of the
    seeds', which is too wide rather than too narrow.
    """
    by_n: dict[int, list[HeldOut]] = {}
    for run in runs:
        for row in next(_rows_of_best(run, start, task), ()):
            by_n.setdefault(row.n, []).append(row)
    return [
        (n, rows[0].kl, _mean([row.gold for row in rows if row.gold is not None]))
        for n, rows in sorted(by_n.items())
        if len(rows) == len(runs)
    ]


def _rows_of_best(run: ReportedRun, start: str, task: str) -> Iterator[tuple[HeldOut, ...]]:
    for stage in run.present:
        assert stage.folder is not None
        if stage.kind not in KINDS or start not in stage.inputs:
            continue
        sources = {
            key.removeprefix("gold/")
            for rollout in read_rollouts(stage.folder)
            for key in rollout
            if key.startswith("gold/") and key != "gold/mean"
        }
        best = read_best_of_n(stage.folder)
        rows = tuple(row for row in best.rows if row.gold is not None) if best else ()
        if rows and sources <= {task}:
            yield rows


def _mean(found: Sequence[Estimate]) -> Estimate:
    lows = [each.low for each in found if each.low is not None]
    highs = [each.high for each in found if each.high is not None]
    has_ends = len(lows) == len(highs) == len(found)
    return Estimate(
        fmean(each.value for each in found),
        fmean(lows) if has_ends else None,
        fmean(highs) if has_ends else None,
    )


def _mean_cost(runs: Sequence[ReportedRun], model: str, start: str) -> Cost:
    """Return what a model took to learn, the mean over seeds."""
    found = [_cost(_between(run, model, start)) for run in runs]
    return Cost(fmean(cost.tokens for cost in found), fmean(cost.seconds for cost in found))


def _cost(stages: Sequence[ReportedStage]) -> Cost:
    tokens = seconds = 0.0
    for stage in stages:
        assert stage.artifact is not None
        tokens += float(stage.metrics.get("response_tokens", 0))
        if stage.kind in KINDS:
            tokens += sum(values(read_rollouts(stage.artifact.path), TOKENS))
        seconds += float(stage.artifact.provenance.get("seconds") or 0)
    return Cost(tokens, seconds)


def _between(run: ReportedRun, model: str, start: str) -> list[ReportedStage]:
    """Return the stages that a model was made by, after the one that all began as."""
    stages = {stage.name: stage for stage in run.present}
    found: dict[str, ReportedStage] = {}
    waiting = [model]
    while waiting:
        name = waiting.pop()
        stage = stages.get(name)
        if name == start or name in found or stage is None or stage.kind == "reward_model":
            continue
        found[name] = stage
        waiting += stage.inputs
    return list(found.values())
