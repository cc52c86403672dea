"""The README's picture and table: the chain of a finished run, and what its models gained and lost.

    python docs/picture.py runs/quickstart docs/quickstart.svg

writes the picture and prints the table. Figures and places are those of report.html; only what
fits a README is drawn, with colours that follow the reader's light or dark theme.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.board import board
from pipeline.report.comparison import stage_comparison
from pipeline.report.formatting import NOT_MEASURED, duration, number
from pipeline.report.html import chain, forest
from pipeline.report.html.palette import palette_of_run
from pipeline.report.html.run_source import run_of_folder
from pipeline.stages.compare import read_comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eval.statistics.estimate import Estimate
    from pipeline.report.board import Board
    from pipeline.report.html.palette import Palette
    from pipeline.report.html.run_source import ReportedRun

_STYLE_SHEET = Path(chain.__file__).with_name("style.css")  # begins with the colours of both themes
_WIDTH, _MARGIN = 930, 22
_MODELS = ("tokenizer", "policy", "reward_model")  # what the stages make that the picture shows
_NAMES_X, _PLOT_X, _FIGURES_X = 165, 245, 690  # of the forest plot's columns, from its left edge
_LINE, _GAP = 16, 11  # heights: of a model's line, and between tasks
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
text { fill: var(--ink); }
.page { fill: var(--page); stroke: var(--line); }
.box { fill: var(--sunk); stroke: var(--line); }
.arrow { fill: none; stroke: var(--muted); stroke-width: 1.3; }
#head path { fill: var(--muted); }
.strong { font-weight: 600; }
.small { font-size: 11.5px; fill: var(--muted); }
.rail { stroke: var(--line); }
.zero { stroke: var(--muted); }
.whisker { stroke-width: 2.4; stroke-linecap: round; }
.dot { stroke-width: 1.6; }
.open { fill: var(--page); }
"""


def main() -> None:
    """Write the picture of the run in the folder named first, and print its table."""
    folder, out = map(Path, sys.argv[1:])
    run = run_of_folder(folder)
    results = (stage.artifact for stage in run.present if stage.artifact)
    compare = next(result for result in results if result.produces == "comparison")
    scores = board(stage_comparison(read_comparison(compare), compare.name))
    out.write_text(draw(run, scores), encoding="utf-8")
    sys.stdout.write("\n".join(table_lines(scores)) + "\n")


def table_lines(scores: Board) -> Iterator[str]:
    """Yield the lines of a Markdown table: scores, with the differences that are clear of zero.

    A star marks one that is not any more when p is adjusted for all that were tested.
    """
    yield f"| task | {' | '.join(f'`{model}`' for model in scores.models)} |"
    yield "|---" * (len(scores.models) + 1) + "|"
    for task in scores.tasks:
        cells = (
            NOT_MEASURED
            if row is None
            else _format_cell(
                row.estimate, row.difference if row.verdict else None, is_firm=row.is_firm
            )
            for row in map(task.rows.get, scores.models)
        )
        yield f"| `{_shorten(task.task)}` | {' | '.join(cells)} |"
    means = (
        _format_cell(mean.score, mean.delta if mean.verdict else None) for mean in scores.means
    )
    yield f"| mean of {scores.num_meant} tasks | {' | '.join(means)} |"


def _format_cell(score: Estimate | None, delta: Estimate | None, *, is_firm: bool = True) -> str:
    text = number(score and score.value)
    star = "" if is_firm else "\\*"
    return f"{text} ({number(delta.value, sign=True)}{star})" if delta else text


def _shorten(task: str) -> str:
    """Return a task's name without its options."""
    return task.partition("(")[0]


def draw(run: ReportedRun, scores: Board) -> str:
    """Return the picture: the chain above, the forest plot below."""
    colours = palette_of_run(run.stages)
    made = [s for s in run.stages if s.artifact and s.artifact.produces in _MODELS]
    above = chain.picture(made)
    below = forest.forest(scores)
    assert below is not None
    top = _MARGIN + above.height + 34
    height = top + 44 + sum(len(r.marks) * _LINE + _GAP for r in below.rows) + _MARGIN
    title = f"{run.name}: the chain, and differences to {scores.baseline}"
    style = _STYLE_SHEET.read_text(encoding="utf-8").partition("* {")[0] + _STYLE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
            f'width="{_WIDTH}" height="{height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0.5L7.5 4L0 7.5z"/></marker></defs>',
            f'<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:.0f}" '
            'rx="10"/>',
            f'<g transform="translate({(_WIDTH - above.width) / 2:.1f} {_MARGIN})">',
            *_draw_chain(above, colours),
            "</g>",
            f'<g transform="translate({_MARGIN} {top:.0f})">',
            *_draw_forest(below, colours, scores.baseline),
            "</g>",
            "</svg>\n",
        ]
    )


def _draw_chain(picture: chain.Picture, colours: Palette) -> Iterator[str]:
    for arrow in picture.arrows:
        yield f'<path class="arrow" d="{arrow.path}" marker-end="url(#head)"/>'
    for box in picture.boxes:
        artifact = box.stage.artifact
        assert artifact is not None
        yield f'<g transform="translate({box.x} {box.y:.1f})">'
        yield f'<rect class="box" width="{chain.WIDTH}" height="{chain.HEIGHT}" rx="8"/>'
        if artifact.produces != "tokenizer":
            x = chain.WIDTH - 14
            yield f'<circle r="5" cx="{x}" cy="17" fill="var(--s{colours(box.stage.name)})"/>'
        yield f'<text class="strong" x="12" y="22">{escape(box.stage.name)}</text>'
        yield f'<text class="small" x="12" y="39">{escape(box.stage.kind)}</text>'
        seconds = duration(artifact.provenance["seconds"])
        yield f'<text class="small" x="12" y="55">{seconds}</text></g>'


def _draw_forest(plot: forest.Forest, colours: Palette, baseline: str) -> Iterator[str]:
    bottom = 22 + sum(len(row.marks) * _LINE + _GAP for row in plot.rows)
    yield f'<text class="strong" x="0" y="4">difference to {escape(baseline)}</text>'
    for x, label in plot.ticks:
        rail = "zero" if x == plot.zero else "rail"
        yield f'<path class="{rail}" d="M{_PLOT_X + x} 12V{bottom}"/>'
        yield f'<text class="small" x="{_PLOT_X + x}" y="4" text-anchor="middle">{label}</text>'
    yield f'<text class="small" x="{_FIGURES_X}" y="4">with 95% interval</text>'
    y = 22.0
    for row in plot.rows:
        middle = y + len(row.marks) * _LINE / 2 + 4
        name = "strong" if row.is_mean else ""
        yield f'<text class="{name}" x="0" y="{middle:.1f}">{escape(_shorten(row.label))}</text>'
        for mark in row.marks:
            yield from _draw_mark(mark, y + _LINE / 2, colours(mark.model))
            y += _LINE
        y += _GAP
    filled = "filled: the interval excludes zero"
    yield f'<text class="small" x="{_PLOT_X + plot.zero}" y="{bottom + 18}">{filled}</text>'


def _draw_mark(mark: forest.ForestMark, y: float, colour: int) -> Iterator[str]:
    ink = f"var(--s{colour})"
    yield f'<text class="small" x="{_NAMES_X}" y="{y + 4}">{escape(mark.model)}</text>'
    if mark.low is not None and mark.high is not None:
        ends = f"M{_PLOT_X + mark.low} {y}H{_PLOT_X + mark.high}"
        yield f'<path class="whisker" stroke="{ink}" d="{ends}"/>'
    fill = f'fill="{ink}"' if mark.verdict else 'class="dot open"'
    yield f'<circle cx="{_PLOT_X + mark.x}" cy="{y}" r="4" stroke="{ink}" {fill}/>'
    yield f'<text class="small" x="{_FIGURES_X}" y="{y + 4}">{mark.value} {mark.within}</text>'


if __name__ == "__main__":
    main()
