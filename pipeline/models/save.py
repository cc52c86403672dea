"""Saves trained models as safetensors, whole or as one adapter on the original base.

Whatever trained them, what lies on the disk afterwards is held against what should: an engine that
splits weights may leave a process with none (DeepSpeed ZeRO-3: every tensor of shape (0,)), and
saving that raises nothing.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model

from pipeline.config.references import BASE_FOLDER
from pipeline.errors import CorruptArtifactError
from pipeline.model_files.tensors import read_file_tensors
from pipeline.models.load import base_of, is_local, tokens_are_new

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.config.stage import StageInput

# Rows that the embeddings of an adapter's base must be given, where tokens are new to it.
EMBEDDING_ROWS = "embedding_rows"
TRAINED_LENGTH = "trained_length"  # tokens of a row that a model was pre-trained on


def save_policy(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path
) -> dict[str, Any]:
    """Save weights (safetensors), config, tokenizer and template; return its size as metrics."""
    module.save_pretrained(out, safe_serialization=True)
    check_saved(out, _num_saved(module))
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
    from pipeline.models.adapter_checks import count_frozen_experts

    save_adapter(trained, source, out)
    base = base_of(source)
    tokenizer.save_pretrained(out)
    trainable, total = trained.get_nb_trainable_parameters()
    num_without = count_frozen_experts(trained)
    properties: dict[str, Any] = {"adapter": True, **inherited}
    metrics = {"parameters": total, "trained_parameters": trainable}
    metrics |= {"expert_parameters_without_adapter": num_without} if num_without else {}
    if tokens_are_new(source, len(tokenizer)):
        properties[EMBEDDING_ROWS] = len(tokenizer)
    return metrics, {**properties, **_place_of(base or source, _artifact_below(source, base))}


def save_adapter(
    trained: Any, source: StageInput, out: Path, *, name: str = "default", inside: str = "."
) -> None:
    """Save an adapter of what training began with as one on the whole model below that.

    What it says of that model is the same wherever the store lies: the way to it inside the store,
    or of a folder elsewhere its name, see `adapter_base`. inside: where `out` is in what will be
    published.
    """
    from pipeline.models import adapters

    base = base_of(source)
    whole, below = base or source, _artifact_below(source, base)
    named = whole.path
    if below is not None:
        named = "/".join([".."] * (1 + len(PurePath(inside).parts)) + [below])
    elif is_local(whole):
        named = Path(whole.path).resolve().name
    adapters.save(
        trained,
        out,
        base=named,
        revision=whole.revision,
        earlier=Path(source.path) if base else None,
        name=name,
    )
    named = trained.named_parameters()
    check_saved(out, sum(each.numel() for key, each in named if f".{name}." in f"{key}."))


def check_saved(out: Path, num_weights: int) -> None:
    """Raise CorruptArtifactError unless a folder holds so many weights, and no empty tensor."""
    tensors = {
        name: tensor.shape
        for path in sorted(out.glob("*.safetensors"))
        for name, tensor in read_file_tensors(path).items()
    }
    empty = [name for name, shape in tensors.items() if 0 in shape]
    there = sum(prod(shape) for shape in tensors.values())
    if not empty and 0 < num_weights <= there:
        return
    what = f"`{empty[0]}` and {len(empty) - 1} more tensors are empty" if empty else ""
    message = f"{what or f'{there:,} weights were saved'} of a model of {num_weights:,}"
    raise CorruptArtifactError(str(out), message, "nothing was published; save the whole model")


def _num_saved(module: PreTrainedModel) -> int:
    """Return how many weights a saved model has: each tied one once."""
    left_out = [re.compile(pattern) for pattern in module._keys_to_ignore_on_save or ()]  # pyright: ignore[reportPrivateUsage]
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if not any(pattern.search(name) for pattern in left_out)
    )


def _artifact_below(source: StageInput, base: StageInput | None) -> str | None:
    """Return the name of the artifact that is the whole model below; None for one from outside."""
    return source.properties.get("base_artifact") if base else source.artifact


def _place_of(whole: StageInput, artifact: str | None) -> dict[str, str]:
    """Return where the whole model below an adapter is, for the stages that follow."""
    if artifact is not None:
        return {"base_artifact": artifact}
    return {BASE_FOLDER: str(Path(whole.path).resolve())} if is_local(whole) else {}
