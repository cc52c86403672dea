"""Trained models saved as safetensors, whole or as one adapter on the original base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model

from pipeline.models.load import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.stage import StageInput

TRAINED_LENGTH = "trained_length"  # tokens of a row that a model was pre-trained on


def save_policy(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path
) -> dict[str, Any]:
    """Save weights (safetensors), config, tokenizer and template; returns its size as metrics."""
    module.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    return {"parameters": sum(parameter.numel() for parameter in module.parameters())}


def save_trained(
    trained: Any, tokenizer: PreTrainedTokenizerBase, source: StageInput, out: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Save what a trainer trained: the whole model, or the adapter, on the original base.

    source: the model that training began with; where that is an adapter itself, what is saved is
    one adapter that does what both do. Returns (metrics, properties for the stages that follow).
    """
    known = source.properties.get(TRAINED_LENGTH)
    inherited: dict[str, Any] = {} if known is None else {TRAINED_LENGTH: known}
    if not is_peft_model(trained):
        return save_policy(trained, tokenizer, out), inherited
    from pipeline.adapter_checks import frozen_experts

    save_adapter(trained, source, out)
    base = base_of(source)
    tokenizer.save_pretrained(out)
    trainable, total = trained.get_nb_trainable_parameters()
    without = frozen_experts(trained)
    properties: dict[str, Any] = {"adapter": True, **inherited}
    below = source.properties.get("base_artifact") if base else source.artifact
    metrics = {"parameters": total, "trained_parameters": trainable}
    metrics |= {"expert_parameters_without_adapter": without} if without else {}
    return metrics, ({**properties, "base_artifact": below} if below else properties)


def save_adapter(trained: Any, source: StageInput, out: Path, *, name: str = "default") -> None:
    """Save an adapter of what training began with as one on the whole model below that."""
    from pipeline import adapters

    base = base_of(source)
    adapters.save(
        trained,
        out,
        base=base.path if base else source.path,
        revision=base.revision if base else source.revision,
        earlier=Path(source.path) if base else None,
        name=name,
    )
