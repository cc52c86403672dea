"""The report as one HTML file: everything gathered, put into the templates beside this file.

Nothing is loaded from elsewhere: a content security policy allows the file's own style and script
by their hashes, and no more. What others wrote (models, data, names) is escaped by Jinja2, what
cannot be seen in it is made visible.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.comparison.score_rows import pick_best_rows
from pipeline.files.names import CONFIG
from pipeline.model_files.attention_window import attention_window
from pipeline.report import formatting
from pipeline.report.comparison import StageComparison, group_rows, stage_comparison
from pipeline.report.html.chain import HEIGHT, WIDTH, Picture, picture
from pipeline.report.html.charts import (
    Chart,
    calibration_charts,
    demonstration_charts,
    group_charts,
    named_groups,
)
from pipeline.report.html.judges import Judging, judgings
from pipeline.report.html.made import MadeRows, made_rows
from pipeline.report.html.methods import method_figures
from pipeline.report.html.palette import Palette, palette_of_run
from pipeline.report.html.pictures import PictureGrid, picture_grids
from pipeline.report.html.plots import (
    Figure,
    calibration_figure,
    chart_figure,
    mark,
    training_figures,
)
from pipeline.report.html.provenance import Provenance, provenance
from pipeline.report.html.ranked import RankedSource, ranked_sources
from pipeline.report.html.rollouts.section import StageRollouts, stage_rollouts
from pipeline.report.html.rows import StageRows, training_rows
from pipeline.report.html.samples import Sample, few_of, read_samples, room
from pipeline.report.html.scaling import LawSection, law_sections
from pipeline.report.html.summary import Summary, summarise
from pipeline.report.html.swept import SweptStage, swept_stages
from pipeline.report.html.training import StageTraining, TrainingGroup, training_groups
from pipeline.stages.compare import read_comparison
from pipeline.store.store import read_json
from pipeline.text.amounts import size
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.report.html.run_source import ReportedRun

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contents:
    """Everything that the templates show. few: items to be seen at once, of the first comparison.

    drawings: of each summary, what its models draw.
    figures of `rollouts` are drawn already; colours: of every model, in all sections. windows:
    tokens that attention is cut to, by the model's name.
    """

    run: ReportedRun
    colours: Palette
    picture: Picture
    summaries: tuple[Summary, ...]
    sweeps: tuple[SweptStage, ...]
    training_groups: tuple[TrainingGroup, ...]
    laws: tuple[LawSection, ...]
    made: tuple[MadeRows, ...]
    judgings: tuple[Judging, ...]
    ranked: tuple[RankedSource, ...]
    rollouts: tuple[StageRollouts, ...]
    samples: tuple[Sample, ...]
    few: tuple[Sample, ...]
    drawings: tuple[tuple[PictureGrid, ...], ...]
    rows: tuple[StageRows, ...]
    provenance: Provenance
    windows: Mapping[str, int]

    @property
    def trainings(self) -> tuple[StageTraining, ...]:
        """All stages whose curves are shown."""
        return tuple(each for group in self.training_groups for each in group.trainings)


def gather(run: ReportedRun) -> Contents:
    """Read everything that a report shows; raises CorruptArtifactError for a broken result."""
    compared: list[tuple[Path, StageComparison]] = []
    for stage in run.present:
        assert stage.artifact is not None
        if stage.artifact.produces == "comparison":
            folder = stage.artifact.path
            comparison = stage_comparison(
                read_comparison(stage.artifact), stage.name, pooled=run.pooled.get(stage.name)
            )
            compared.append((folder, comparison))
    within = room([comparison for _, comparison in compared])
    colours = palette_of_run(run.stages, (m for _, found in compared for m in found.models))
    samples = [
        sample
        for folder, comparison in compared
        for sample in read_samples(folder, comparison, within=within)
    ]
    first = compared[0][1].stage if compared else ""
    return Contents(
        run=run,
        colours=colours,
        picture=picture(run.stages),
        summaries=tuple(summarise(comparison, run) for _, comparison in compared),
        sweeps=swept_stages(run),
        training_groups=training_groups(run),
        laws=law_sections(run),
        made=made_rows(run),
        judgings=judgings(run),
        ranked=ranked_sources(run),
        rollouts=stage_rollouts(run, colours),
        samples=tuple(samples),
        few=few_of([sample for sample in samples if sample.stage == first]),
        drawings=tuple(picture_grids(folder, comparison) for folder, comparison in compared),
        rows=training_rows(run),
        provenance=provenance(run),
        windows=attention_windows(run),
    )


def attention_windows(run: ReportedRun) -> dict[str, int]:
    """Return the tokens that attention is cut to, by the name of each model that is cut."""
    found: dict[str, int] = {}
    for stage in run.present:
        if stage.artifact is not None and CONFIG in stage.artifact.files:
            window = attention_window(read_json(stage.artifact, CONFIG))
            if window is not None:
                found[stage.name] = window
    return found


def render(contents: Contents) -> str:
    """Return the page."""
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            contents=contents,
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
            figures=_figures(contents),
            colour=contents.colours,
            box=(WIDTH, HEIGHT),
        )
    )


@dataclass(frozen=True)
class Figures:
    """The drawn figures: by stage of training, by place of the comparison or of what is ranked."""

    methods: tuple[tuple[Figure, ...], ...]
    training: dict[str, tuple[Figure, ...]]
    held_out: dict[str, Figure]
    ranked: tuple[Figure, ...]
    sweeps: tuple[tuple[Figure, ...], ...]
    groups: tuple[tuple[Figure, ...], ...]
    calibration: tuple[tuple[Figure, ...], ...]


def _figures(contents: Contents) -> Figures:
    comparisons = [summary.comparison for summary in contents.summaries]

    def draw(
        name: str, charts: Callable[[StageComparison], Sequence[Chart]]
    ) -> tuple[tuple[Figure, ...], ...]:
        return tuple(
            tuple(
                chart_figure(
                    f"{name}{number}-{place}",
                    chart,
                    comparison,
                    kind=name,
                    colours=contents.colours,
                )
                for place, chart in enumerate(charts(comparison))
            )
            for number, comparison in enumerate(comparisons)
        )

    return Figures(
        methods=tuple(
            method_figures(f"m{number}", comparison, contents.run, contents.colours)
            for number, comparison in enumerate(comparisons)
        ),
        training={
            training.stage: training_figures(
                f"t{number}", training.panels, colour=contents.colours(training.stage)
            )
            for number, training in enumerate(contents.trainings)
        },
        held_out={
            training.stage: calibration_figure(
                f"h{number}",
                training.held_out.bins,
                training.held_out.calibration_error,
                noun="held-out pairs",
                colour=contents.colours(training.stage),
            )
            for number, training in enumerate(contents.trainings)
            if training.held_out is not None and training.held_out.bins
        },
        ranked=tuple(
            calibration_figure(
                f"r{number}",
                ranked.bins,
                ranked.calibration_error,
                noun="pairs",
                colour=contents.colours(ranked.model),
            )
            for number, ranked in enumerate(contents.ranked)
        ),
        sweeps=draw("sweeps", demonstration_charts),
        groups=draw("group_curves", partial(group_charts, windows=contents.windows)),
        calibration=draw("calibration", calibration_charts),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "number": formatting.number,
        "estimate": formatting.estimate,
        "interval": formatting.interval,
        "short": formatting.short,
        "probability": formatting.probability,
        "duration": formatting.duration,
        "metric": formatting.metric_label,
        "asked": formatting.asked,
        "asking": formatting.asking_label,
        "against": formatting.against,
        "digits": formatting.digits_of,
        "plural": formatting.plural,
        "size": size,
        "amount": formatting.amount,
        "fit": _fit,
    }
    environment.globals |= {
        "mark": mark,
        "group_rows": group_rows,
        "pick_best_rows": pick_best_rows,
        "named_groups": named_groups,
    }
    return environment


def _shown(value: Any) -> Any:
    """Make visible what cannot be seen in a text that is put into the page."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _fit(text: str, length: int) -> str:
    """Return a name that fits a box, its middle left out if need be."""
    text = visible(text)
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return a hash source of a content security policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
