"""Stage `scaling_law`: how the held-out loss of pre-trained models falls with size and data.

Fits L(N, D) = E + A / N^alpha + B / D^beta to models that this recipe pre-trained
(eval/statistics/scaling_law.py has the method), predicts those that the fit did not see, and
divides a budget between size and data. Beside it, what the models can do, by their loss: exact
match and a score that grows by degrees (eval/statistics/emergence.py). Trains and asks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config.field_types import OR_ONE, ModelRef
from pipeline.config.marks import RefersTo
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import StageConfig
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.statistics.emergence import SkillScore
    from eval.statistics.estimate import Estimate
    from eval.statistics.scaling_law import FittedLaw, TrainingRun
    from pipeline.store.store import Artifact

UNIT = "nats per byte"
_READ = "bits_per_byte "
_TOKENIZER = "tokenizer.json"


class ScalingLawConfig(StageConfig):
    """runs: the `pretrain` stages, each a model that was trained from random weights.

    held_out: which of them the fit does not see and predicts: a list of them, or a number: all
    whose compute, 6 N D, is more than that of the largest divided by it.
    parameters: what N counts. Embeddings, the output layer and learned positions are most of a
    small model, and none of a large one.
    text: whose held-out loss is fitted, a source of the runs' `data`; by default the mean of all.
    budget: compute, in floating-point operations, to divide between N and D at the least loss; by
    default that of the largest run and ten times as much.
    bootstrap: how often the runs are drawn anew for the intervals.
    evaluations: `evaluate` stages of the same models, for what they can do by their loss.
    """

    stage: Literal["scaling_law"]
    runs: Annotated[tuple[ModelRef, ...], Field(min_length=1), OR_ONE]
    held_out: Annotated[float, Field(gt=1)] | Annotated[tuple[ModelRef, ...], OR_ONE] = 4.0
    parameters: Literal["all", "without_embeddings"] = "all"
    text: Annotated[str, Field(min_length=1)] | None = None
    budget: Annotated[tuple[PositiveFloat, ...], OR_ONE] = ()
    bootstrap: PositiveInt = 400
    evaluations: Annotated[
        tuple[Annotated[str, RefersTo(("evaluation",)), Field(min_length=1)], ...], OR_ONE
    ] = ()


@dataclass(frozen=True)
class NamedRun:
    """A pre-trained model of the recipe, as its stage recorded it."""

    name: str
    run: TrainingRun
    fingerprint: str


def run(config: ScalingLawConfig, context: StageContext) -> StageResult:
    """Read what the runs recorded, fit, predict, and put the models' skills beside their loss."""
    from eval.statistics.scaling_law import fit_with_intervals

    found = _read_runs(config, context)
    fitted, held_out = _divide(config, found)
    try:
        law = fit_with_intervals(
            [each.run for each in fitted],
            resamples=config.bootstrap,
            seed=context.seed,
            on_progress=lambda done, total: _report(context, done, total),
        )
    except ValueError as error:
        beside = f" ({len(held_out)} more are left out by `held_out`)" if held_out else ""
        hint = "add sizes or amounts of tokens to `runs`"
        raise PosttrainError(context.name, f"{error}{beside}", hint) from error
    return StageResult(
        metrics={
            **_constants(law),
            "unit": UNIT,
            "counted_parameters": config.parameters,
            "fitted_runs": len(fitted),
            "held_out_runs": len(held_out),
            "fit_error": law.error,
            **_worst(law, held_out),
            "runs": [
                *(_run_row(law, each, is_fitted=True) for each in fitted),
                *(_run_row(law, each, is_fitted=False) for each in held_out),
            ],
            "budgets": [_budget_row(law, compute) for compute in _budgets(config, found)],
            "skills": _skills(config, context, found),
        }
    )


def _report(context: StageContext, done: int, total: int) -> None:
    context.progress("bootstrap", done, total)
    context.stop_if_asked()


def _read_runs(config: ScalingLawConfig, context: StageContext) -> list[NamedRun]:
    """Return what the stages of the runs recorded; raises PosttrainError where they do not fit."""
    from eval.statistics.scaling_law import TrainingRun
    from pipeline.store.store import read

    found: list[NamedRun] = []
    tokenizers: dict[str, str] = {}
    for reference in config.runs:
        source = context.model(reference)
        artifact = read(Path(source.path))
        tokenizers.setdefault(artifact.files[_TOKENIZER]["sha256"], source.name)
        if len(tokenizers) > 1:
            one, other = tokenizers.values()
            message = f"`{one}` and `{other}` have different tokenizers: their tokens are not alike"
            raise PosttrainError(context.name, message, "name runs of one tokenizer")
        run = TrainingRun(
            parameters=_count_parameters(artifact, config.parameters),
            tokens=_count_tokens(artifact),
            loss=_loss(artifact, source.name, config.text) * math.log(2),
        )
        found.append(NamedRun(source.name, run, artifact.fingerprint))
    return found


def _count_parameters(artifact: Artifact, counted: str) -> int:
    """Return N; without embeddings, what has no row for each token or position is left."""
    if counted == "all":
        return int(artifact.metrics["parameters"])
    from pipeline.model_files.tensors import read_folder_tensors

    embeddings = ("embed", "wte", "wpe", "lm_head", "embed_out")
    return sum(
        math.prod(tensor.shape)
        for name, tensor in read_folder_tensors(artifact.path).items()
        if not any(word in name for word in embeddings)
    )


def _count_tokens(artifact: Artifact) -> float:
    """Return D: the tokens that were predicted in training, in all epochs."""
    epochs = artifact.identity["training_args"]["num_train_epochs"]
    return float(artifact.metrics["trained_tokens"]) * float(epochs)


def _loss(artifact: Artifact, name: str, text: str | None) -> float:
    """Return the held-out loss in bits per byte, of one text or the mean of all."""
    read = {
        key.removeprefix(_READ): float(value)
        for key, value in artifact.metrics.items()
        if key.startswith(_READ)
    }
    if not read:
        hint = "write `holdout: 0.1` beside its `file`, or train on a task"
        raise PosttrainError(name, "has measured no held-out text", hint)
    if text is None:
        return sum(read.values()) / len(read)
    if text not in read:
        raise PosttrainError(name, f"has measured no text `{text}`", f"it has {', '.join(read)}")
    return read[text]


def _divide(
    config: ScalingLawConfig, found: Sequence[NamedRun]
) -> tuple[list[NamedRun], list[NamedRun]]:
    """Return the runs that are fitted and those that are left out."""
    from eval.statistics.scaling_law import are_beyond

    if isinstance(config.held_out, tuple):
        is_out = [reference in config.held_out for reference in config.runs]
    else:
        is_out = are_beyond([each.run for each in found], config.held_out)
    pairs = list(zip(found, is_out, strict=True))
    return [each for each, out in pairs if not out], [each for each, out in pairs if out]


def _constants(law: FittedLaw) -> dict[str, float | None]:
    """Return the constants as metrics, each with the ends of its interval."""
    from eval.statistics.scaling_law import CONSTANTS

    found: dict[str, float | None] = {}
    for name in CONSTANTS:
        constant = law.constant(name)
        found |= {name: constant.value, f"{name}_low": constant.low, f"{name}_high": constant.high}
    return found


def _worst(law: FittedLaw, held_out: Sequence[NamedRun]) -> dict[str, float]:
    """Return how far off the prediction of the run is that took the most compute."""
    if not held_out:
        return {}
    off = [_off(law, each) for each in held_out]
    largest = max(held_out, key=lambda each: each.run.compute)
    return {
        "prediction_error": _off(law, largest),
        "largest_prediction_error": max(off, key=abs),
        "compute_beyond_fit": largest.run.compute / max(run.compute for run in law.runs),
    }


def _off(law: FittedLaw, each: NamedRun) -> float:
    """Return predicted over measured loss, less 1."""
    return law.law.loss(each.run.parameters, each.run.tokens) / each.run.loss - 1


def _run_row(law: FittedLaw, each: NamedRun, *, is_fitted: bool) -> dict[str, Any]:
    run = each.run
    return {
        "name": each.name,
        "is_fitted": is_fitted,
        "parameters": run.parameters,
        "tokens": run.tokens,
        "compute": run.compute,
        "loss": run.loss,
        **_ends("predicted", law.predict(run.parameters, run.tokens)),
        "off": _off(law, each),
    }


def _budgets(config: ScalingLawConfig, found: Sequence[NamedRun]) -> tuple[float, ...]:
    largest = max(each.run.compute for each in found)
    return config.budget or (largest, 10 * largest)


def _budget_row(law: FittedLaw, compute: float) -> dict[str, Any]:
    parameters, tokens, loss = law.allocate(compute)
    return {
        "compute": compute,
        **_ends("parameters", parameters),
        **_ends("tokens", tokens),
        **_ends("loss", loss),
    }


def _ends(name: str, found: Estimate) -> dict[str, float | None]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _skills(
    config: ScalingLawConfig, context: StageContext, found: Sequence[NamedRun]
) -> list[dict[str, Any]]:
    """Return a row for each task, way of asking and model that an evaluation of it measured."""
    from eval.statistics.emergence import skill_scores
    from pipeline.measuring.model_scores import read_items
    from pipeline.store.store import read

    by_fingerprint = {each.fingerprint: each for each in found}
    rows: list[dict[str, Any]] = []
    for reference in config.evaluations:
        source = context.model(reference)
        folder = Path(source.path)
        asked = [
            by_fingerprint[key] for key in read(folder).inputs.values() if key in by_fingerprint
        ]
        if not asked:
            message = f"`{source.name}` asked a model that is none of `runs`"
            raise PosttrainError(context.name, message, "name evaluations of `runs`")
        results = [item for items in read_items(folder).values() for item in items]
        rows += [_skill_row(asked[0], score) for score in skill_scores(results)]
    if config.evaluations and not rows:
        message = "the evaluations have no written answers that are right or wrong"
        raise PosttrainError(context.name, message, "name evaluations of tasks that verify answers")
    return rows


def _skill_row(model: NamedRun, score: SkillScore) -> dict[str, Any]:
    return {
        "name": model.name,
        "loss": model.run.loss,
        "task": score.task,
        "style": score.style,
        "shots": score.shots,
        "n": score.n,
        **_ends("exact", score.exact),
        **_ends("partial", score.partial),
    }


STAGE = Stage(
    config=ScalingLawConfig,
    run=run,
    produces="files",
    version=3,
    uses_device=False,
)
