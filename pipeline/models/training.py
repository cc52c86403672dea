"""Loads the model that a training stage begins with, in its precision, and makes its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eval.model import positions_of
from pipeline.config.lora import loss_of
from pipeline.errors import PosttrainError
from pipeline.model_files.layer_patterns import adapter_patterns, pattern_problem
from pipeline.models.frozen import keep_frozen
from pipeline.models.load import DTYPES, base_of, load_policy
from pipeline.models.quantised import quantization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from pipeline.config.blocks import LoraBlock
    from pipeline.config.field_types import Precision
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.config.training_stage import TrainingStage


def load_for_training(source: StageInput, config: TrainingStage) -> PreTrainedModel:
    """Load the model that a training stage begins with, its weights in fp32.

    With LoRA the frozen projections are kept in the `precision` that they are multiplied in, or in
    4 bits (`load_in_4bit`, QLoRA).
    """
    if config.lora is None:
        return load_policy(source)
    if config.lora.load_in_4bit:
        module = _load_in_4_bits(source, config.precision)
    else:
        module = _load_frozen(source, config.lora, config.precision)
    names = [name for name, _ in module.named_modules() if name]
    problem = pattern_problem(adapter_patterns(config.lora.fields()), names)
    if problem:
        raise PosttrainError("lora", *problem)
    return module


def _load_in_4_bits(source: StageInput, precision: Precision) -> PreTrainedModel:
    """Load a whole model with its weights in 4 bits, multiplied in the precision."""
    if base_of(source) is not None:
        message = "is an adapter, which cannot be merged into 4-bit weights to go on from it"
        raise PosttrainError(source.name, message, "put a `stage: merge` before this stage")
    return load_policy(source, precision=precision, quantization=quantization(precision))


def load_reference(source: StageInput, config: TrainingStage) -> PreTrainedModel:
    """Load a model that is never trained, its projections in the precision of training."""
    module = load_policy(source).requires_grad_(requires_grad=False)
    if config.precision != "fp32":
        keep_frozen(module, DTYPES[config.precision])
    return module


def _load_frozen(source: StageInput, block: LoraBlock, precision: Precision) -> PreTrainedModel:
    """Load a model to put an adapter on, an earlier adapter in it or beside its weights."""
    base = base_of(source)
    fields = block.fields()
    # DoRA's magnitudes are norms of the weights, and would be those of rounded ones.
    # Of PEFT's `target_parameters` a part of a weight is trained with the weight.
    if precision == "fp32" or fields.get("use_dora") or fields.get("target_parameters"):
        return load_policy(source)
    if base is None:
        module, apart = load_policy(source), None
    else:
        from pipeline.models import adapters

        module, apart = adapters.split_off(load_policy(base), Path(source.path))
    # Copies of these are trained, or parts of them.
    leave = {"score", *(fields.get("modules_to_save") or ())}
    head = module.get_output_embeddings()
    if fields.get("trainable_token_indices"):
        leave |= {name for name, child in module.named_children() if child is head}
    module.requires_grad_(requires_grad=False)
    keep_frozen(module, DTYPES[precision], leave=leave, apart=apart)
    return module


def peft_config(config: TrainingStage, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """Return PEFT's config of the adapter that a stage trains; None when it trains all weights."""
    if config.lora is None:
        return None
    from pipeline.models import adapters

    return adapters.lora_config(config.lora, task=task)


def add_adapter(module: PreTrainedModel, config: TrainingStage) -> Any:
    """Put a new adapter on a model, for trainers that do not do it themselves.

    Raises PosttrainError for layers that PEFT puts no adapter on (Mamba's `out_proj`).
    """
    from peft import get_peft_model

    try:
        return get_peft_model(module, peft_config(config, "CAUSAL_LM"))
    except ValueError as error:
        hint = "name other layers in `target_modules`, or leave some out by `exclude_modules`"
        raise PosttrainError("lora", str(error).splitlines()[0].rstrip("."), hint) from error


def within_positions(defaults: Mapping[str, Any], module: PreTrainedModel) -> dict[str, Any]:
    """Return a stage's defaults; rows are at most as long as the model has positions, if any."""
    return {**defaults, "max_length": positions_of(module.config)}


def check_adapter(trained: Any, config: TrainingStage, context: StageContext) -> None:
    """Raise PosttrainError, before the first step, for an adapter that could not be saved."""
    if config.lora is None:
        return
    from pipeline.models import adapter_checks

    model = getattr(config, "model", None)
    assert isinstance(model, str)
    source = context.model(model)
    earlier = Path(source.path) if base_of(source) is not None else None
    try:
        adapter_checks.check_new(trained, config.lora, earlier, loss=loss_of(config.stage))
    except PosttrainError as error:
        where = f"{context.name}: {error.where}"
        raise PosttrainError(where, error.message, error.hint) from error


def check_length(
    max_length: int | None, module: PreTrainedModel, source: StageInput, context: StageContext
) -> None:
    """Raise PosttrainError for rows longer than the model has positions."""
    limit = positions_of(module.config)
    if limit is not None and isinstance(max_length, int) and max_length > limit:
        raise PosttrainError(
            f"{context.name}: training_args",
            f"max_length {max_length} is beyond the {limit} positions of {source.name}",
            f"set it to {limit} or less",
        )
