"""The one figure of a finished stage that matters, by its kind, for the table at a run's end."""

from __future__ import annotations

import json
import re
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eval.results import STYLES
from pipeline.files.names import COMPARISON
from pipeline.report import rollouts
from pipeline.report.board import board
from pipeline.report.comparison import stage_comparison
from pipeline.stages.compare import parse_comparison
from pipeline.text.amounts import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipeline.store.store import Artifact

_VERIFIED = "verified_accuracy"
_ASKED = re.compile(rf"(?P<task>.+) (?P<metric>\S+) (?:{'|'.join(STYLES)})(?: \d+)?")
_READ = re.compile(r"(?P<text>.+) bits_per_byte window \d+")
_OF_HELD_OUT = "bits_per_byte "


def headline(artifact: Artifact) -> str:
    """Return what came of a stage in a few words; "" where it measured nothing."""
    say = _BY_KIND.get(artifact.kind)
    said = "" if say is None else say(artifact.metrics, artifact.path)
    return said or _first_figure(artifact.metrics)


def _tokenizer(metrics: Mapping[str, Any], _: Path) -> str:
    size = metrics.get("vocab_size")
    return f"{size:,} tokens" if isinstance(size, int) else ""


def _pretrained(metrics: Mapping[str, Any], _: Path) -> str:
    texts = [
        (metrics.get(key.replace("byte ", "byte_before ", 1)), value)
        for key, value in metrics.items()
        if key.startswith(_OF_HELD_OUT) and isinstance(value, float)
    ]
    if texts:
        said = f"{fmean(value for _, value in texts):.3f}"
        before = [value for value, _ in texts if value is not None]
        if len(before) == len(texts):
            said = f"{fmean(before):.3f} -> {said}"
        return f"held-out bits per byte {said}"
    return _loss(metrics)


def _tuned(metrics: Mapping[str, Any], _: Path) -> str:
    return _loss(metrics)


def _loss(metrics: Mapping[str, Any]) -> str:
    """Return the loss: before and after on held-out rows where both are known, else what is."""
    before, after = metrics.get("held_out_loss_before"), metrics.get("held_out_loss")
    if before is not None and after is not None:
        return f"held-out loss {before:.3f} -> {after:.3f}"
    for key, label in (("eval_loss", "held-out loss"), ("loss", "loss")):
        if metrics.get(key) is not None:
            return f"{label} {metrics[key]:.3f}"
    return ""


def _ranked(metrics: Mapping[str, Any], _: Path) -> str:
    found = metrics.get("held_out_accuracy")
    if found is None:
        return _loss(metrics)
    low, high = metrics.get("held_out_low"), metrics.get("held_out_high")
    within = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"held-out accuracy {found:.2f}{within}"


def _preferring(metrics: Mapping[str, Any], path: Path) -> str:
    said = _ranked(metrics, path)
    kl = metrics.get("kl")
    return f"{said}, KL {kl:.1f} nats" if kl is not None else said


def _reinforced(_: Mapping[str, Any], path: Path) -> str:
    return rollouts.in_a_line(rollouts.read_rollouts(path), with_gold=False)


def _evaluated(metrics: Mapping[str, Any], _: Path) -> str:
    """Return the mean over tasks of a model's best score on each, or the only one."""
    best: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        found = _ASKED.fullmatch(key)
        if found and isinstance(value, int | float) and not found["metric"].startswith("pass@"):
            scores = best.setdefault(found["task"], {})
            scores[found["metric"]] = max(value, scores.get(found["metric"], value))
    scores = [each.get(_VERIFIED, next(iter(each.values()))) for each in best.values()]
    if len(scores) == 1:
        return f"{next(iter(best))} {scores[0]:.2f}"
    if scores:
        return f"{fmean(scores):.2f}, mean of {len(scores)} tasks"
    read = [(m["text"], v) for k, v in metrics.items() if (m := _READ.fullmatch(k)) and v]
    return f"{read[0][1]:.3f} bits per byte of {read[0][0]}" if read else ""


def _compared(metrics: Mapping[str, Any], path: Path) -> str:
    """Return the verdict; without a gate how far the models are from the baseline."""
    if "ships" in metrics:
        return "SHIP" if metrics["ships"] else "DO NOT SHIP"
    if not (path / COMPARISON).is_file():
        return ""
    content = json.loads((path / COMPARISON).read_text(encoding="utf-8"))
    shown = board(stage_comparison(parse_comparison(content, path), ""))
    changes = [f"{mean.model} {mean.delta.value:+.2f}" for mean in shown.means if mean.delta]
    return f"{', '.join(changes)}, mean of {shown.num_meant} tasks" if changes else ""


def _parameters(metrics: Mapping[str, Any], _: Path) -> str:
    found = metrics.get("parameters")
    return f"{count(int(found))} parameters" if found else ""


def _first_figure(metrics: Mapping[str, Any]) -> str:
    """Return the first number of a kind of stage that is not ours."""
    for key, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{key} {value:.4g}"
    return ""


_BY_KIND: dict[str, Callable[[Mapping[str, Any], Path], str]] = {
    "tokenizer": _tokenizer,
    "adopt": _parameters,
    "pretrain": _pretrained,
    "sft": _tuned,
    "reward_model": _ranked,
    "dpo": _preferring,
    rollouts.KIND: _reinforced,
    "merge": _parameters,
    "evaluate": _evaluated,
    "compare": _compared,
}
