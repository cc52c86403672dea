"""What reward models made of pairs, in `evaluate` and `compare`: accuracy by subset, calibration.

What training measured of one on pairs that it held out is training.py's subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.statistics.estimate import Estimate
from pipeline.commands.export import without_places
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import PAIRS
from pipeline.measuring.pairs import read_reports
from pipeline.report.ranked import is_left_out_worth_a_warning, left_out_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.report.html.run_source import ReportedRun

_Part = tuple[str, int | None, Estimate]


@dataclass(frozen=True)
class RankedSource:
    """One reward model on one source of pairs.

    accuracy: of `n` prompts, with `pairs` pairs. whole: RewardBench's own figure, its sections
    before it; parts: by subset. Each is a name, how many it is of (None of a mean), and the figure.
    bins: (confidence, accuracy, n). left_out: what is not ranked and why; "" for nothing.
    """

    stage: str
    model: str
    source: str
    n: int
    pairs: int
    accuracy: Estimate
    sections: tuple[_Part, ...]
    parts: tuple[_Part, ...]
    bins: tuple[tuple[float, float, int], ...]
    calibration_error: float
    longer_is_chosen: float
    length_correlation: float | None
    left_out: str
    is_warning: bool


def ranked_sources(run: ReportedRun) -> tuple[RankedSource, ...]:
    """Return what was ranked, each once: a comparison repeats what its evaluations found."""
    found: list[RankedSource] = []
    seen: list[tuple[str, str, Any]] = []
    for stage in run.present:
        assert stage.artifact is not None
        folder = stage.artifact.path
        try:
            for model, reports in read_reports(folder).items():
                for source, report in reports.items():
                    if (model, source, report) not in seen:
                        seen.append((model, source, report))
                        found.append(_source(stage.name, model, source, report))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            path = str(folder / PAIRS)
            raise CorruptArtifactError(path, f"is not readable ({error})") from error
    return tuple(found)


def _source(stage: str, model: str, source: str, report: Mapping[str, Any]) -> RankedSource:
    sections = [
        (_section(name, found), found["n"], _estimate(found))
        for name, found in report.get("sections", {}).items()
    ]
    second = report.get("reward_bench_2", {})
    sections += [("RewardBench 2", None, Estimate(second["All"]))] if "All" in second else []
    if "Ties" in second:
        sections.append(("Ties, by RewardBench 2's own formula", None, Estimate(second["Ties"])))
    left_out = {"too long": report["too_long"], **report["unusable"]}
    return RankedSource(
        stage=stage,
        model=str(without_places(model)),
        source=str(without_places(source)),
        n=report["n"],
        pairs=report["pairs"],
        accuracy=_estimate(report),
        sections=tuple(sections),
        parts=tuple(
            (str(name), found["n"], _estimate(found)) for name, found in report["by_subset"].items()
        ),
        bins=tuple((b["confidence"], b["accuracy"], b["n"]) for b in report["calibration"]),
        calibration_error=report["calibration_error"],
        longer_is_chosen=report["length"]["longer_is_chosen"],
        length_correlation=report["length"]["correlation"],
        left_out=left_out_in_words(report["rows"], left_out),
        is_warning=is_left_out_worth_a_warning(report["rows"], left_out),
    )


def _section(name: str, found: Mapping[str, Any]) -> str:
    missing = len(found["missing"])
    name = "RewardBench, mean of its sections" if name == "All" else f"{name} (section)"
    return f"{name}, without {missing} of its subsets" if missing else name


def _estimate(found: Mapping[str, Any]) -> Estimate:
    return Estimate(found["accuracy"], found["low"], found["high"])
