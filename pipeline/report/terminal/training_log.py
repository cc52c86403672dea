"""What a stage logged, as lines to read: its training by step, and what libraries said.

Of a training step only the figures that people look at; `metrics.jsonl` has all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.files.json_lines import read_lines
from pipeline.files.names import LOG, METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Metric, and what it is called here, in this order.
_SHOWN = {
    "loss": "loss",
    "eval_loss": "held-out loss",
    "mean_token_accuracy": "token accuracy",
    "accuracy": "ranked right",
    "rewards/accuracies": "ranked right",
    "eval_accuracy": "held out ranked right",
    "eval_rewards/accuracies": "held out ranked right",
    "margin": "margin",
    "rewards/margins": "margin",
    "objective/scores_raw": "score",
    "objective/scores": "score",
    "eval_objective/scores": "held-out score",
    "gold/mean": "gold",
    "objective/kl": "KL",
    "kl": "KL",
    "objective/entropy": "entropy",
    "completions/length_mean": "length",
    "eos_rate": "ended",
    "engine/logp_gap": "log p gap",
    "engine/logp_gap_mean": "in the mean",
    "tools/called": "called tools",
    "tools/failure_frequency": "calls failed",
    "loss/policy": "policy loss",
    "loss/value": "value loss",
    "learning_rate": "lr",
    "grad_norm": "grad norm",
}


def training_log(folder: Path, *, is_finished: bool) -> Iterator[str]:
    """Yield what libraries logged, then the training step by step; nothing where neither is."""
    path = folder / LOG
    logged = (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    )
    yield from logged
    lines = read_lines(folder / METRICS, is_finished=is_finished)
    if logged and lines:
        yield ""
    width = max((len(_step(line)) for line in lines), default=0)
    for line in lines:
        yield f"step {_step(line):>{width}}  {'  '.join(_figures(line))}".rstrip()


def _step(line: Mapping[str, Any]) -> str:
    return f"{line['step']:g}" if isinstance(line.get("step"), int | float) else ""


def _figures(line: Mapping[str, Any]) -> list[str]:
    """Return the figures of a line, of one name the first; any other line's first few."""
    figures: dict[str, str] = {}
    for key, name in _SHOWN.items():
        value = line.get(key)
        if isinstance(value, int | float):
            figures.setdefault(name, f"{name} {value:.4g}")
    if figures:
        return list(figures.values())
    return [f"{k} {v:.4g}" for k, v in line.items() if k != "step" and isinstance(v, int | float)]
