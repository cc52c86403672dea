"""What a training stage begins with: a model in the precision it trains in, and its adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import PosttrainError
from pipeline.models.load import base_of, load_policy
from pipeline.recipe.patterns import adapter_patterns, pattern_problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.recipe.config import TrainingStage
    from pipeline.stage import StageContext, StageInput


def load_for_training(source: StageInput, config: TrainingStage) -> PreTrainedModel:
    """Load the model that a training stage begins with, its weights in fp32.

    With `load_in_4bit` (QLoRA) the frozen weights are kept in 4 bits instead.
    """
    if config.lora is None or not config.lora.load_in_4bit:
        return _with_fitting_patterns(load_policy(source), config)
    from pipeline import adapters

    if base_of(source) is not None:
        message = "is an adapter, which cannot be merged into 4-bit weights to go on from it"
        raise PosttrainError(source.name, message, "put a `stage: merge` before this stage")
    quantization = adapters.quantization(config.precision)
    module = load_policy(source, precision=config.precision, quantization=quantization)
    return _with_fitting_patterns(module, config)


def _with_fitting_patterns(module: PreTrainedModel, config: TrainingStage) -> PreTrainedModel:
    """Return the model, on whose names the patterns of the adapter have been tried out."""
    if config.lora is not None:
        names = [name for name, _ in module.named_modules() if name]
        problem = pattern_problem(adapter_patterns(config.lora.fields()), names)
        if problem:
            raise PosttrainError("lora", *problem)
    return module


def peft_config(config: TrainingStage, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """Return PEFT's config of the adapter that a stage trains; None when it trains all weights."""
    if config.lora is None:
        return None
    from pipeline import adapters

    return adapters.lora_config(config.lora, task=task)


def adapted(module: PreTrainedModel, config: TrainingStage) -> Any:
    """Put a new adapter on a model, for trainers that do not do it themselves."""
    from peft import get_peft_model

    return get_peft_model(module, peft_config(config, "CAUSAL_LM"))


def check_length(
    max_length: int | None, module: PreTrainedModel, source: StageInput, context: StageContext
) -> None:
    """Raise PosttrainError for rows longer than the model has positions."""
    limit = getattr(module.config, "max_position_embeddings", None)
    if isinstance(limit, int) and isinstance(max_length, int) and max_length > limit:
        raise PosttrainError(
            f"{context.name}: training_args",
            f"max_length {max_length} is beyond the {limit} positions of {source.name}",
            f"set it to {limit} or less",
        )
