"""The one figure of a finished stage that matters, by its kind, for the table at a run's end."""

from __future__ import annotations

import re
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eval.results import PREFERENCE, STYLES, VERIFIED
from pipeline.report import rollouts
from pipeline.report.board import board
from pipeline.report.comparison import stage_comparison
from pipeline.report.formatting import digits_of
from pipeline.report.made_rows import KIND as MADE
from pipeline.report.made_rows import made_headline
from pipeline.report.scaling import KIND as LAW
from pipeline.report.scaling import law_headline
from pipeline.stages.best import CHOOSING
from pipeline.stages.compare import read_comparison
from pipeline.text.amounts import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.store.store import Artifact

_ASKED = re.compile(rf"(?P<task>.+) (?P<metric>\S+) (?:{'|'.join(STYLES)})(?: \d+)?")
_READ = re.compile(r"(?P<text>.+) bits_per_byte window \d+")
_RANKED = re.compile(rf"(?P<source>.+) {PREFERENCE}")
_OF_HELD_OUT = "bits_per_byte "


def headline(artifact: Artifact) -> str:
    """Return what came of a stage in a few words; "" where it measured nothing."""
    if artifact.produces == MADE:
        return made_headline(artifact.metrics) or _first_figure(artifact.metrics)
    describe = _BY_KIND.get(artifact.kind)
    words = "" if describe is None else describe(artifact)
    return words or _first_figure(artifact.metrics)


def _describe_tokenizer(artifact: Artifact) -> str:
    size = artifact.metrics.get("vocab_size")
    return f"{size:,} tokens" if isinstance(size, int) else ""


def _describe_pretrain(artifact: Artifact) -> str:
    metrics = artifact.metrics
    texts = [
        (metrics.get(key.replace("byte ", "byte_before ", 1)), value)
        for key, value in metrics.items()
        if key.startswith(_OF_HELD_OUT) and isinstance(value, float)
    ]
    if not texts:
        return _loss(metrics)
    after = f"{fmean(value for _, value in texts):.3f}"
    before = [value for value, _ in texts if value is not None]
    change = f"{fmean(before):.3f} -> {after}" if len(before) == len(texts) else after
    return f"held-out bits per byte {change}"


def _describe_sft(artifact: Artifact) -> str:
    return _loss(artifact.metrics)


def _loss(metrics: Mapping[str, Any]) -> str:
    """Return the loss: before and after on held-out rows where both are known, else what is."""
    before, after = metrics.get("held_out_loss_before"), metrics.get("held_out_loss")
    if before is not None and after is not None:
        return f"held-out loss {before:.3f} -> {after:.3f}"
    for key, label in (("eval_loss", "held-out loss"), ("loss", "loss")):
        if metrics.get(key) is not None:
            return f"{label} {metrics[key]:.3f}"
    return ""


def _describe_ranking(artifact: Artifact) -> str:
    metrics = artifact.metrics
    accuracy = metrics.get("held_out_accuracy")
    if accuracy is None:
        return _loss(metrics)
    low, high = metrics.get("held_out_low"), metrics.get("held_out_high")
    within = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"held-out accuracy {accuracy:.2f}{within}"


def _describe_preferences(artifact: Artifact) -> str:
    ranking, kl = _describe_ranking(artifact), artifact.metrics.get("kl")
    return ranking if kl is None else f"{ranking}, KL {kl:.1f} nats"


def _describe_rollouts(artifact: Artifact) -> str:
    of_rollouts = rollouts.summarize_rollouts(
        rollouts.read_rollouts(artifact.path), with_gold=False
    )
    gaps = [artifact.metrics.get(key) for key in ("teacher_kl_before", "teacher_kl")]
    if None in gaps:
        return of_rollouts
    before, after = gaps
    said = f"{before:.1f} -> {after:.1f} nats from its teacher"
    return f"{said}, {of_rollouts}" if of_rollouts else said


def _describe_answers(artifact: Artifact) -> str:
    """Return the mean over tasks of a model's best score on each, or the only one."""
    ranked = {
        match["source"]: value
        for key, value in artifact.metrics.items()
        if (match := _RANKED.fullmatch(key))
    }
    if ranked:
        return _describe_pairs(ranked, artifact.metrics)
    best: dict[str, dict[str, float]] = {}  # by task and metric, over the ways of asking
    for key, value in artifact.metrics.items():
        match = _ASKED.fullmatch(key)
        if match and isinstance(value, int | float) and not match["metric"].startswith("pass@"):
            scores = best.setdefault(match["task"], {})
            scores[match["metric"]] = max(value, scores.get(match["metric"], value))
    means = [scores.get(VERIFIED, next(iter(scores.values()))) for scores in best.values()]
    if len(means) == 1:
        return f"{next(iter(best))} {means[0]:.2f}"
    if means:
        return f"{fmean(means):.2f}, mean of {len(means)} tasks"
    texts = [
        (match["text"], value)
        for key, value in artifact.metrics.items()
        if (match := _READ.fullmatch(key)) and value
    ]
    return f"{texts[0][1]:.3f} bits per byte of {texts[0][0]}" if texts else ""


def _describe_pairs(ranked: Mapping[str, float], metrics: Mapping[str, Any]) -> str:
    """Return how often a reward model prefers the better response, on each source or on most."""
    source, accuracy = next(iter(ranked.items()))
    if len(ranked) > 1:
        return f"{fmean(ranked.values()):.2f} of pairs right, mean of {len(ranked)} sources"
    low, high = metrics.get(f"{source} low"), metrics.get(f"{source} high")
    within = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{accuracy:.2f}{within} of pairs right"


def _describe_comparison(artifact: Artifact) -> str:
    """Return the verdict; without a gate the mean differences, or those of the one subject."""
    if "ships" in artifact.metrics:
        return "SHIP" if artifact.metrics["ships"] else "DO NOT SHIP"
    shown = board(stage_comparison(read_comparison(artifact), artifact.name))
    changes = [f"{mean.model} {mean.delta.value:+.2f}" for mean in shown.means if mean.delta]
    if changes:
        return f"{', '.join(changes)}, mean of {shown.num_meant} tasks"
    subject = next(iter((*shown.tasks, *shown.texts)), None)
    if subject is None:
        return ""
    digits = digits_of(subject.metric)
    changes = [
        f"{model} {row.difference.value:+.{digits}f}"
        for model, row in subject.rows.items()
        if row.difference
    ]
    return f"{', '.join(changes)}, {subject.task}" if changes else ""


def _describe_choice(artifact: Artifact) -> str:
    metrics = artifact.metrics
    value, count_of = f"{metrics['value']:.4g}", len(metrics["points"])
    return f"{metrics['chosen']}: {metrics['by']} {value}, {metrics['direction']} of {count_of}"


def _describe_law(artifact: Artifact) -> str:
    return law_headline(artifact.metrics)


def _describe_model(artifact: Artifact) -> str:
    parameters = artifact.metrics.get("parameters")
    return f"{count(int(parameters))} parameters" if parameters else ""


def _first_figure(metrics: Mapping[str, Any]) -> str:
    """Return the first number of a kind of stage that is not ours."""
    for key, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{key} {value:.4g}"
    return ""


_BY_KIND: dict[str, Callable[[Artifact], str]] = {
    "tokenizer": _describe_tokenizer,
    "adopt": _describe_model,
    "pretrain": _describe_pretrain,
    "sft": _describe_sft,
    "reward_model": _describe_ranking,
    "dpo": _describe_preferences,
    "kto": _describe_preferences,
    **dict.fromkeys(rollouts.KINDS, _describe_rollouts),
    "merge": _describe_model,
    **dict.fromkeys(CHOOSING, _describe_choice),
    "evaluate": _describe_answers,
    "compare": _describe_comparison,
    LAW: _describe_law,
}
