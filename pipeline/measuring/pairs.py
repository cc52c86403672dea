"""Has a reward model rank pairs, and more responses to a prompt: accuracy, calibration, length.

What a pair is: data/reading/contests.py. The figures: eval/statistics/contests.py and
reward_bench.py. What training measures of a reward model on pairs that it held out is
stages/reward_model.py's subject.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.data.reading.contests import ContestRow, read_contests
from pipeline.data.reading.records import DroppedRow
from pipeline.data.reading.shown_prompts import show_prompt_of
from pipeline.errors import PosttrainError
from pipeline.files.names import PAIRS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from eval.results import ItemResult
    from eval.statistics.contests import Contest
    from pipeline.config.blocks import DataBlock
    from pipeline.config.measuring_stage import MeasuringStage
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.rewards.reads_texts import Answered, TextScorer

_AT_ONCE = 256  # contests that are encoded and scored between two looks at whether to stop
_EXCERPT = 500  # characters of a text that its result repeats
Reports = dict[str, dict[str, Any]]  # by source


@dataclass(frozen=True)
class RankedPairs:
    """What a reward model made of every source of pairs. notes: for people."""

    results: list[ItemResult]
    reports: Reports
    notes: list[str]


def rank_pairs(config: MeasuringStage, context: StageContext, source: StageInput) -> RankedPairs:
    """Load a reward model and let it rank every source of a stage."""
    from pipeline.models.chat_templates import give_known_template
    from pipeline.rewards.reads_texts import TextScorer

    rows_by_source = {block.label: _read(block, context) for block in config.pairs}
    scorer = TextScorer(
        source,
        precision=config.precision,
        batch_size=config.batch_size,
        prepare=partial(give_known_template, config=config, context=context),
    )
    ranked = RankedPairs([], {}, [])
    for label, rows in rows_by_source.items():
        contests = [row for row in rows if isinstance(row, ContestRow)]
        unusable = Counter(row.why for row in rows if isinstance(row, DroppedRow))
        scored = list(_score(contests, label, scorer, source, context))
        known = [one for one in scored if one is not None]
        if not known:
            message = f"none of {len(rows)} pairs of `{label}` can be ranked"
            hint = f"`{source.name}` has {scorer.limit} positions" if contests else "see its rows"
            raise PosttrainError(context.name, message, hint)
        ranked.results.extend(
            _result(label, number, row, one, scorer)
            for number, (row, one) in enumerate(zip(contests, scored, strict=True))
        )
        ranked.reports[label] = _report(known, len(rows), len(scored) - len(known), unusable)
        ranked.notes.extend(_notes(label, source, contests, scorer, ranked.reports[label]))
    return ranked


def pair_metrics(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures that matter most, by source."""
    metrics: dict[str, Any] = {}
    left_out: dict[str, Any] = {}
    for label, report in reports.items():
        name = f"{label} preference_accuracy"
        metrics[name] = report["accuracy"]
        metrics |= {
            f"{name}/{key}": found["accuracy"] for key, found in report["by_subset"].items()
        }
        sections = report.get("sections", {})
        metrics |= {f"{label} section/{key}": found["accuracy"] for key, found in sections.items()}
        second = report.get("reward_bench_2", {})
        metrics |= {f"{label} reward_bench_2/{key}": score for key, score in second.items()}
        scores = report["scores"]
        metrics |= {
            f"{label} low": report["low"],
            f"{label} high": report["high"],
            f"{label} n": report["n"],
            f"{label} calibration_error": report["calibration_error"],
            f"{label} length_correlation": report["length"]["correlation"],
            f"{label} longer_is_chosen": report["length"]["longer_is_chosen"],
            f"{label} score_mean": (scores["chosen_mean"] + scores["rejected_mean"]) / 2,
            f"{label} score_sd": scores["score_sd"],
        }
        lost = {"too long": report["too_long"], **report["unusable"]}
        if any(lost.values()):
            lost = {why: count for why, count in lost.items() if count}
            left_out[label] = {"rows": report["rows"], **lost}
    return metrics | ({"pairs_left_out": left_out} if left_out else {})


def write_reports(reports: Mapping[str, Any], context: StageContext) -> None:
    """Write pairs.json: reports by model and source."""
    text = json.dumps(reports, indent=1)
    (context.out / PAIRS).write_text(text, encoding="utf-8")


def read_reports(folder: Path) -> dict[str, Reports]:
    """Return what `write_reports` wrote into a folder; {} where nothing was ranked."""
    path = folder / PAIRS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read(block: DataBlock, context: StageContext) -> list[ContestRow | DroppedRow]:
    context.progress(f"reading {block.label}", 0, 1)
    return list(read_contests(block, context.places))


def _score(
    rows: Sequence[ContestRow],
    label: str,
    scorer: TextScorer,
    source: StageInput,
    context: StageContext,
) -> Iterator[Contest | None]:
    """Yield each contest with its scores; None where a response is too long for the model."""
    from eval.statistics.contests import Contest

    for start in range(0, len(rows), _AT_ONCE):
        context.progress(f"{source.name}: {label}", start, len(rows))
        context.stop_if_asked()
        part = rows[start : start + _AT_ONCE]
        answers = [list(_answers(row)) for row in part]
        encoded = iter(scorer.encode([one for some in answers for one in some]))
        tokens = [[next(encoded) for _ in some] for some in answers]
        fits = [not any(scorer.is_too_long(one.ids) for one in some) for some in tokens]
        fitting = [some for some, has_room in zip(tokens, fits, strict=True) if has_room]
        scores = iter(scorer.scores([one.ids for some in fitting for one in some]))
        for row, some, has_room in zip(part, tokens, fits, strict=True):
            if not has_room:
                yield None
                continue
            found = [next(scores) for _ in some]
            lengths = [sum(one.trained) for one in some]
            cut = row.num_chosen
            yield Contest(
                *(tuple(found[:cut]), tuple(found[cut:])),
                *(tuple(lengths[:cut]), tuple(lengths[cut:])),
                subset=row.subset,
                key=row.key,
                probability=row.pairs[0].probability or 1.0,
            )


def _answers(row: ContestRow) -> Iterator[Answered]:
    """Yield the responses of a contest, the chosen ones first."""
    from pipeline.rewards.reads_texts import both_answers

    yield from (both_answers(pair)[0] for pair in row.pairs[: row.num_chosen])
    yield from (both_answers(pair)[1] for pair in row.pairs[: row.num_rejected])


def _result(
    label: str, number: int, row: ContestRow, scored: Contest | None, scorer: TextScorer
) -> ItemResult:
    from eval.asking.passages import passage_id
    from eval.results import PREFERENCE, ItemResult

    chosen, rejected = row.pairs[0].chosen, row.pairs[0].rejected
    said = "too long for the model"
    is_right, answer = None, None
    if scored is not None:
        good, bad = (
            ", ".join(f"{s:.3f}" for s in side) for side in (scored.chosen, scored.rejected)
        )
        said = f"{good} for what was chosen, {bad} for what was rejected"
        is_right = scored.is_right
        answer = "chosen" if is_right > 0.5 else "rejected" if is_right < 0.5 else "tie"
    is_chat = bool(row.pairs[0].prompt) and scorer.has_template
    return ItemResult(
        task=label,
        item=passage_id(str(number), f"{chosen}\0{rejected}"),
        metric=PREFERENCE,
        style="none",
        form="chat" if is_chat else "document",
        prompt=_excerpt(show_prompt_of(row.pairs[0])),
        gold=_excerpt(chosen),
        response=_excerpt(rejected if answer == "rejected" else chosen) if answer else "",
        answer=answer,
        score=is_right,
        reason=said,
        group=row.subset,
        confidence=scored.confidence if scored is not None else None,
    )


def _report(
    contests: Sequence[Contest], num_rows: int, num_too_long: int, unusable: Mapping[str, int]
) -> dict[str, Any]:
    from eval.statistics.contests import report_contests
    from eval.statistics.reward_bench import second_version_of, sections_of

    sections, second = sections_of(contests), second_version_of(contests)
    return {
        **report_contests(contests),
        **({"sections": sections} if sections else {}),
        **({"reward_bench_2": second} if second else {}),
        "rows": num_rows,
        "too_long": num_too_long,
        "unusable": dict(unusable),
    }


def _notes(
    label: str,
    source: StageInput,
    rows: Sequence[ContestRow],
    scorer: TextScorer,
    report: Mapping[str, Any],
) -> list[str]:
    notes: list[str] = []
    lost = sum(report["unusable"].values())
    if lost:
        reasons = ", ".join(f"{why}: {count}" for why, count in report["unusable"].items())
        notes.append(f"`{label}`: {lost} of {report['rows']} rows were unusable ({reasons}).")
    if report["too_long"]:
        notes.append(
            f"`{label}`: {report['too_long']} of {report['rows']} pairs are too long for the "
            f"{scorer.limit} positions of `{source.name}`, and are not ranked."
        )
    if any(row.is_of_users for row in rows):
        notes.append(f"`{label}` is in RewardBench's form: a prompt is what a user says.")
    if not scorer.has_template and any(row.pairs[0].text is None for row in rows):
        notes.append(
            f"`{source.name}` has no chat template: it read the chats of `{label}` as transcripts "
            "(User: ... Assistant: ...)."
        )
    return notes


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
