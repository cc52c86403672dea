"""A page's picture of a finished run's curves: scores over demonstrations, or groups of items.

    python docs/curves.py runs/world docs/world.svg in_context long_range stories

draws a curve of each comparison that is named, as report.html has it, in colours that follow the
reader's light or dark theme: of what was verified, or of the metric that `NAME:METRIC` asks for.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.comparison import stage_comparison
from pipeline.report.html import plots
from pipeline.report.html.charts import demonstration_charts, group_charts
from pipeline.report.html.page import attention_windows
from pipeline.report.html.palette import palette_of
from pipeline.report.html.run_source import run_of_folder
from pipeline.stages.compare import read_comparison

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.report.html.plots import Figure
    from pipeline.report.html.run_source import ReportedRun

_STYLE_SHEET = Path(plots.__file__).with_name("style.css")
_OF_FIGURES = re.compile(r"^\.(?:figure text|[fs]-\w+) .*$", re.MULTILINE)
_VERIFIED = "verified_accuracy"
_WIDTH, _HEIGHT = 330, 186  # of a curve, as Matplotlib drew it
_MARGIN, _LINE = 22, 17  # _LINE: of a legend
_ABOVE = 46  # for a curve's title and what it measures
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
text { fill: var(--ink); }
.page { fill: var(--page); stroke: var(--line); }
.strong { font-weight: 600; }
.small { font-size: 11.5px; fill: var(--muted); }
"""


def main() -> None:
    """Write the picture of the run in the folder named first: curves of the stages named last."""
    folder, out, *names = sys.argv[1:]
    figures = list(_figures(run_of_folder(Path(folder)), names))
    Path(out).write_text(draw(figures), encoding="utf-8")


def _figures(run: ReportedRun, names: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    """Yield a comparison's name and its curve; its models' colours begin anew in each."""
    by_name = {stage.name: stage.artifact for stage in run.present}
    for number, asked in enumerate(names):
        name, _, metric = asked.partition(":")
        artifact = by_name[name]
        assert artifact is not None
        comparison = stage_comparison(read_comparison(artifact), name)
        charts = demonstration_charts(comparison) or group_charts(
            comparison, attention_windows(run)
        )
        chart = {chart.note: chart for chart in reversed(charts)}[metric or _VERIFIED]
        colours = palette_of(comparison.models)
        yield (
            name,
            plots.chart_figure(f"c{number}", chart, comparison, kind="curve", colours=colours),
        )


def draw(figures: Sequence[tuple[str, Figure]]) -> str:
    """Return the picture: curves from left to right, each with its legend below."""
    step = _WIDTH + _MARGIN
    width = _MARGIN + step * len(figures)
    most = max(len(figure.legend) for _, figure in figures)
    height = _MARGIN + _ABOVE + _HEIGHT + _LINE * most + _MARGIN
    style = _STYLE_SHEET.read_text(encoding="utf-8")
    rules = [style.partition("* {")[0], _STYLE, *_OF_FIGURES.findall(style)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(', '.join(name for name, _ in figures))}</title>",
            f"<style>{''.join(rules)}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" '
            'rx="10"/>',
            *(
                line
                for place, (name, figure) in enumerate(figures)
                for line in _draw_one(name, figure, _MARGIN + step * place)
            ),
            "</svg>\n",
        ]
    )


def _draw_one(name: str, figure: Figure, x: int) -> Iterator[str]:
    yield f'<g transform="translate({x} {_MARGIN})">'
    yield f'<text class="strong" x="0" y="12">{escape(name)}</text>'
    yield f'<text class="small" x="0" y="30">{escape(f"{figure.title}: {figure.note}")}</text>'
    placed = f'<svg y="{_ABOVE}" width="{_WIDTH}" height="{_HEIGHT}" '
    yield str(figure.svg).replace("<svg ", placed, 1)
    for number, key in enumerate(figure.legend):
        y = _ABOVE + _HEIGHT + _LINE * (number + 1)
        yield f'<circle cx="5" cy="{y - 4}" r="4.5" fill="var(--s{key.colour})"/>'
        said = f"{key.label}, {key.note}" if key.note else key.label
        yield f'<text class="small" x="16" y="{y}">{escape(said)}</text>'
    yield "</g>"


if __name__ == "__main__":
    main()
