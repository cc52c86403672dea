"""Whether a scaling law has runs left to fit, by the sizes that are planned, before any is trained.

What the recipe alone says is looked at when it is loaded (recipe/checks/scaling_law.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.plan.sizes import begins_with
from pipeline.stages.pretrain import PretrainConfig
from pipeline.stages.scaling_law import ScalingLawConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eval.statistics.scaling_law import TrainingRun
    from pipeline.plan.plan import Plan


def check_laws(plan: Plan, names: Iterable[str]) -> None:
    """Raise PosttrainError, with its place, for a `held_out` that leaves too few runs to fit.

    names: of the stages to look at. Where a size is not known yet, the stage itself looks at what
    was trained.
    """
    from eval.statistics.scaling_law import are_beyond, too_few

    for name in names:
        config = plan.stage(name).config
        if not isinstance(config, ScalingLawConfig) or isinstance(config.held_out, tuple):
            continue
        runs = [_expected_run(plan, reference[1:], config.parameters) for reference in config.runs]
        known = [run for run in runs if run is not None]
        if len(known) < len(runs):
            continue
        beyond = are_beyond(known, config.held_out)
        problem = too_few([run for run, is_out in zip(known, beyond, strict=True) if not is_out])
        if problem:
            message = f"with {sum(beyond)} of {len(runs)} runs left out by `held_out`, {problem}"
            hint = "lower it, or add sizes or amounts of tokens to `runs`"
            raise plan.recipe.error(("stages", name, "held_out"), message, hint)


def _expected_run(plan: Plan, name: str, counted: str) -> TrainingRun | None:
    """Return size and tokens of a run that is planned; None where its size is not known."""
    from eval.statistics.scaling_law import TrainingRun

    config = plan.stage(name).config
    model = begins_with(plan, config)
    if not isinstance(config, PretrainConfig) or model.parameters is None:
        return None
    parameters = model.parameters
    if counted != "all":
        if model.shape is None:
            return None
        parameters -= model.shape.vocab * model.shape.width * (1 if model.shape.is_tied else 2)
    return TrainingRun(parameters, config.tokens, loss=1.0)
