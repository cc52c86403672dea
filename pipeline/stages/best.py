"""Stage `best`: of several models, the one whose own stage measured the best value of a metric.

`$base[best: bits_per_byte]` writes one. The model is the chosen stage's, its files linked where the
disk allows, so no weights are copied; how all of them did is in the metrics.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.field_types import OR_ONE
from pipeline.config.field_types import STAGE as STAGE_PATTERN
from pipeline.config.marks import RefersTo
from pipeline.config.references import BASE_FOLDER
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import StageConfig
from pipeline.errors import PosttrainError, closest
from pipeline.files.names import ARTIFACT, BEST_OF_N, HELD_OUT, LOG, METRICS, OVERLAPS, SAMPLES
from pipeline.store.lineage import TAKEN_FROM
from pipeline.store.store import Artifact, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHOOSING = ("best", "best_reward_model")  # kinds of stages whose model is that of another
Direction = Literal["lowest", "highest"]
StageModel = Annotated[str, RefersTo(("policy",)), Field(pattern=STAGE_PATTERN)]
# Words of a metric's name that say which values of it are good, beside losses and accuracies.
_LOWEST = frozenset(
    {
        *("bits_per_byte", "perplexity", "kl", "calibration_error", "train_seconds"),
    }
)
_HIGHEST = frozenset(
    {
        *("win_rate", "reward", "score", "gold", "margin", "held_out_margin"),
    }
)
# What of a stage's files tells how it was trained, not what it made.
_LEFT = frozenset({ARTIFACT, LOG, METRICS, SAMPLES, HELD_OUT, OVERLAPS, BEST_OF_N})


class ChoiceConfig(StageConfig):
    """models: what is chosen from, each a stage: `$base[*]` are all of a sweep.

    by: the metric of those stages that chooses; of one that was measured on several sources, as
    bits_per_byte, the mean over them.
    direction: which value of it is the best; known by itself of losses, accuracies and rewards.
    """

    models: tuple[str, ...]
    by: Annotated[str, Field(min_length=1)]
    direction: Direction | None = None

    @model_validator(mode="after")
    def _is_decided(self) -> ChoiceConfig:
        if len(set(self.models)) < len(self.models):
            raise ValueError("`models` names a stage twice; name each once")
        if self.direction is None and direction_of(self.by) is None:
            raise ValueError(
                f"`direction` is missing, and whether the lowest or the highest `{self.by}` is "
                "the best is not known; write `lowest` or `highest`"
            )
        return self

    @property
    def model(self) -> str:
        """A model that is like the chosen one, as far as that is known before it is chosen."""
        return self.models[0]


class BestConfig(ChoiceConfig):
    """Of models that write."""

    stage: Literal["best"]
    models: Annotated[tuple[StageModel, ...], Field(min_length=1), OR_ONE]


@dataclass(frozen=True)
class _Candidate:
    name: str
    artifact: Artifact
    value: float


def direction_of(metric: str) -> Direction | None:
    """Return which value of a metric is the best one; None where its name does not say."""
    words = metric.split()
    is_low = any(word in _LOWEST or word.endswith("loss") for word in words)
    is_high = any(word in _HIGHEST or word.endswith("accuracy") for word in words)
    if is_low == is_high:
        return None
    return "lowest" if is_low else "highest"


def metric_of(metrics: Mapping[str, Any], name: str) -> float | None:
    """Return a metric by its name, or the mean of those whose names begin with it and a space."""
    if _is_number(metrics.get(name)):
        return float(metrics[name])
    found = [
        float(value)
        for key, value in metrics.items()
        if key.startswith(f"{name} ") and _is_number(value)
    ]
    return math.fsum(found) / len(found) if found else None


def run(config: ChoiceConfig, context: StageContext) -> StageResult:
    """Choose, and link the files of the chosen model."""
    direction = config.direction or direction_of(config.by)
    candidates = [_candidate(config, context, reference) for reference in config.models]
    sign = 1.0 if direction == "lowest" else -1.0
    best = min(candidates, key=lambda candidate: sign * candidate.value)
    for name in best.artifact.files:
        if name not in _LEFT:
            link(best.artifact.path / name, context.out / name)
    return StageResult(
        metrics={
            "chosen": best.name,
            "by": config.by,
            "direction": direction,
            "value": best.value,
            "points": [{"name": each.name, "value": each.value} for each in candidates],
        },
        properties={**_properties(best.artifact), TAKEN_FROM: best.artifact.path.resolve().name},
    )


def _candidate(config: ChoiceConfig, context: StageContext, reference: str) -> _Candidate:
    source = context.model(reference)
    artifact = read(Path(source.path))
    value = metric_of(artifact.metrics, config.by)
    if value is None:
        names = [key for key, value in artifact.metrics.items() if _is_number(value)]
        hint = closest(config.by, names) or f"it measured {', '.join(names) or 'nothing'}"
        message = f"`{source.name}` has no metric `{config.by}`"
        raise PosttrainError(context.name, message, hint)
    if not math.isfinite(value):
        message = f"`{config.by}` of `{source.name}` is {value}"
        raise PosttrainError(context.name, message, "take it out of the sweep")
    return _Candidate(source.name, artifact, value)


def _properties(artifact: Artifact) -> dict[str, Any]:
    """Return what the chosen stage recorded, with the place of a model outside as it is now."""
    properties = dict(artifact.properties)
    places: Sequence[str] | None = properties.get(BASE_FOLDER)
    if places is not None:
        found = [artifact.path / place for place in places if (artifact.path / place).is_dir()]
        properties[BASE_FOLDER] = str(found[0].resolve()) if found else places[-1]
    return properties


def link(source: Path, target: Path) -> None:
    """Have a file in two folders, without its bytes twice where the disk allows that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


STAGE = Stage(
    config=BestConfig,
    run=run,
    produces="policy",
    version=1,
    is_seeded=False,
    uses_device=False,
)
