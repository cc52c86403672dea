"""Whether a model keeps the rows of a packed line apart: asked of it before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.checks.models import shape_of
from pipeline.config.references import HubModel, LocalModel, model_source
from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError
from pipeline.store.lineage import as_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.data.encoding.lengths import RowCounts
    from pipeline.plan.plan import Plan
    from pipeline.stages.sft import SftConfig
    from pipeline.store.store import Artifact

    Made = Mapping[str, Artifact | None]


def check_packing_of(
    plan: Plan, made: Made, name: str, config: SftConfig, counts: RowCounts
) -> None:
    """Raise PosttrainError where the model would see the other rows of a line.

    That is asked of the model itself, or of one with its shape, if it is still to be made.
    """
    from eval.model import positions_of
    from pipeline.models.load import load_policy
    from pipeline.training.layouts import check_packing, line_length

    source = _there(plan, made, config.model)
    module = load_policy(source) if source else _like(plan, made, config.model)
    if module is None:
        return
    max_length = config.training_args.get("max_length")
    length = line_length(max_length, counts.longest_tokens, positions_of(module.config))
    try:
        check_packing(name, module, length)
    except PosttrainError as error:
        location = ("stages", name, "packing")
        raise plan.recipe.error(location, error.message, error.hint) from error


def _there(plan: Plan, made: Made, reference: str) -> StageInput | None:
    """Return a model that is there, with its weights."""
    source = model_source(reference, plan.recipe.places)
    if isinstance(source, LocalModel):
        return StageInput(reference, "policy", str(source.path))
    if isinstance(source, HubModel):
        return None
    artifact = made.get(source.name)
    return None if artifact is None else as_input(artifact, source.name)


def _like(plan: Plan, made: Made, reference: str) -> Any:
    """Return a random model of the shape of one that a stage will make; None of a hub model."""
    import torch
    from transformers import AutoModelForCausalLM

    shape = shape_of(plan, reference, made, fetches=False)
    if shape is None:
        return None
    with torch.random.fork_rng([]):
        return AutoModelForCausalLM.from_config(shape.config)
