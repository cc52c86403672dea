"""What a `scaling_law` stage found, as the report shows it: the law, its predictions, the skills.

Reads its metrics alone. How figures are drawn is plane.py's and figures.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.statistics.scaling_law import (
    CHINCHILLA,
    CHINCHILLA_REPLICATED,
    CONSTANTS,
    FLOPS_A_TOKEN,
    ScalingLaw,
)
from pipeline.report.formatting import asking_label, interval, number, plural, short
from pipeline.report.html.figures import Drawn, lines
from pipeline.report.html.palette import COLOURS
from pipeline.report.html.plane import Points, log_plane
from pipeline.report.html.plots import Figure, Legend
from pipeline.report.scaling import KIND, estimate_at, largest_in_words
from pipeline.text.amounts import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.report.html.run_source import ReportedRun

_POINTS = 40  # of a curve
_Row = tuple[str, ...]


@dataclass(frozen=True)
class LawSection:
    """One stage's law.

    said: in a sentence, how well it predicts. constants: name, value, interval, and two published
    ones. predictions: of the runs that the fit did not see. budgets: size and tokens for a compute.
    """

    stage: str
    said: str
    note: str
    constants: tuple[_Row, ...]
    predictions: tuple[_Row, ...]
    budgets: tuple[_Row, ...]
    figures: tuple[Figure, ...]
    skills: tuple[Figure, ...]


def law_sections(run: ReportedRun) -> tuple[LawSection, ...]:
    """Return the laws of the finished stages, in order."""
    return tuple(
        _section(f"law{number}", stage.name, stage.metrics)
        for number, stage in enumerate(stage for stage in run.present if stage.kind == KIND)
    )


def _section(name: str, stage: str, metrics: Mapping[str, Any]) -> LawSection:
    without = "" if metrics["counted_parameters"] == "all" else ", embeddings not counted"
    return LawSection(
        stage=stage,
        said=largest_in_words(metrics),
        note=f"Fitted to {plural(metrics['fitted_runs'], 'run')}, off by "
        f"{metrics['fit_error']:.2%} on average. L in {metrics['unit']} of held-out text, N in "
        f"parameters{without}, D in tokens trained on; compute is 6 N D.",
        constants=tuple(_constant_row(key, metrics) for key in CONSTANTS),
        predictions=tuple(_prediction_row(row) for row in metrics["runs"] if not row["is_fitted"]),
        budgets=tuple(_budget_row(row) for row in metrics["budgets"]),
        figures=(_law_figure(f"{name}-plane", metrics),),
        skills=_skill_figures(name, metrics),
    )


def _constant_row(key: str, metrics: Mapping[str, Any]) -> _Row:
    found = estimate_at(metrics, key)
    published = (getattr(law, key) for law in (CHINCHILLA, CHINCHILLA_REPLICATED))
    ends = "" if found.low is None else f"[{short(found.low)}, {short(found.high or 0)}]"
    return (key, short(found.value), ends, *(short(value) for value in published))


def _prediction_row(row: Mapping[str, Any]) -> _Row:
    return (
        row["name"],
        count(round(row["parameters"])),
        count(round(row["tokens"])),
        _power(row["compute"]),
        number(row["loss"], 4),
        number(row["predicted"], 4),
        interval(estimate_at(row, "predicted"), 4),
        f"{number(100 * row['off'], 2, sign=True)}%",
    )


def _budget_row(row: Mapping[str, Any]) -> _Row:
    def amounts(key: str) -> str:
        found = estimate_at(row, key)
        said = count(round(found.value))
        if found.low is None or found.high is None:
            return said
        return f"{said} [{count(round(found.low))}, {count(round(found.high))}]"

    loss = estimate_at(row, "loss")
    ends = interval(loss, 3)
    return (
        _power(row["compute"]),
        amounts("parameters"),
        amounts("tokens"),
        f"{number(loss.value, 3)} {ends}".rstrip(),
    )


def _power(value: float) -> str:
    """Return `3.2e+12` as `3.2e12`."""
    return f"{value:.2g}".replace("e+", "e")


def _law_figure(name: str, metrics: Mapping[str, Any]) -> Figure:
    runs: Sequence[Mapping[str, Any]] = metrics["runs"]
    sizes = sorted({row["parameters"] for row in runs})
    colours = {size: 1 + place % (COLOURS - 1) for place, size in enumerate(sizes)}
    curves, frontier = _curves(metrics, colours)
    return Figure(
        title="Held-out loss against compute",
        note=f"{metrics['unit']}. Points: measured; rings: left out of the fit.",
        svg=log_plane(
            name,
            curves,
            _points(runs, colours),
            frontier=frontier,
            described="Held-out loss against compute: "
            + "; ".join(f"{_power(row['compute'])}: {row['loss']:.3f}" for row in runs),
            unit="compute, floating-point operations",
        ),
        legend=(
            *(Legend(colours[size], f"{count(round(size))} parameters") for size in sizes),
            Legend(0, "best size for the compute", "by the law", dash=1),
        ),
        head=("run", "parameters", "tokens", "compute", "loss", "by the law", "off"),
        rows=tuple(
            (
                *(row["name"], count(round(row["parameters"])), count(round(row["tokens"]))),
                *(_power(row["compute"]), number(row["loss"], 4), number(row["predicted"], 4)),
                f"{number(100 * row['off'], 2, sign=True)}%",
            )
            for row in runs
        ),
    )


def _curves(metrics: Mapping[str, Any], colours: Mapping[float, int]) -> tuple[list[Drawn], Drawn]:
    """Return the law's loss by compute for each size, and for the best size at each compute."""
    law = ScalingLaw(**{key: metrics[key] for key in CONSTANTS})
    amounts = _between(row["tokens"] for row in metrics["runs"])
    computes = _between(row["compute"] for row in metrics["runs"])
    curves = [
        Drawn(
            colour,
            [FLOPS_A_TOKEN * size * amount for amount in amounts],
            [law.loss(size, amount) for amount in amounts],
        )
        for size, colour in colours.items()
    ]
    return curves, Drawn(0, computes, [law.loss(*law.allocate(each)) for each in computes])


def _between(values: Iterable[float]) -> list[float]:
    """Return numbers from the least to the largest, in equal ratios."""
    found = list(values)
    return np.geomspace(min(found), max(found), _POINTS).tolist()


def _points(runs: Sequence[Mapping[str, Any]], colours: Mapping[float, int]) -> list[Points]:
    """Return the measured runs of each size, those that were fitted and those that were not."""
    found: list[Points] = []
    for size, colour in colours.items():
        for is_fitted in (True, False):
            chosen = [r for r in runs if (r["parameters"], r["is_fitted"]) == (size, is_fitted)]
            computes, losses = [r["compute"] for r in chosen], [r["loss"] for r in chosen]
            found.append(Points(colour, computes, losses, is_ring=not is_fitted))
    return found


def _skill_figures(name: str, metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return a figure for each task and way of asking: both scores by the models' loss."""
    ways: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for row in metrics["skills"]:
        ways.setdefault((row["task"], row["style"], row["shots"]), []).append(row)
    return tuple(
        _skill_figure(f"{name}-skill{place}", *way, rows)
        for place, (way, rows) in enumerate(ways.items())
    )


def _skill_figure(
    name: str, task: str, style: str, shots: int, rows: Sequence[Mapping[str, Any]]
) -> Figure:
    ordered = sorted(rows, key=lambda row: -row["loss"])
    losses = [row["loss"] for row in ordered]
    scores = (("exact", "right", 1), ("partial", "share of the answer that is right", 2))
    title = f"{task}, {asking_label(style, shots)}"
    return Figure(
        title=title,
        note="by the held-out loss of the model, which falls to the right",
        svg=lines(
            name,
            [
                Drawn(
                    colour,
                    losses,
                    [row[key] for row in ordered],
                    [row[f"{key}_low"] for row in ordered],
                    [row[f"{key}_high"] for row in ordered],
                    dash=place,
                )
                for place, (key, _, colour) in enumerate(scores)
            ],
            described=f"{title}, by loss: "
            + "; ".join(f"{r['loss']:.3f}: {r['exact']:.2f}, {r['partial']:.2f}" for r in ordered),
            unit="loss",
            is_share=True,
            with_points=True,
            falls=True,
        ),
        legend=tuple(
            Legend(colour, label, dash=place) for place, (_, label, colour) in enumerate(scores)
        ),
        head=("model", "loss", "right", "share right", "n"),
        rows=tuple(
            (
                row["name"],
                number(row["loss"], 3),
                _with_ends(row, "exact"),
                _with_ends(row, "partial"),
                str(row["n"]),
            )
            for row in ordered
        ),
    )


def _with_ends(row: Mapping[str, Any], key: str) -> str:
    return f"{number(row[key])} {interval(estimate_at(row, key))}".rstrip()
