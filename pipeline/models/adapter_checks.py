"""Checks a new adapter, as PEFT made it on its model, before its first step.

Refused are an adapter that could not be saved with the one below, and a block that names layers
which the model does not have. What the recipe alone shows is checked in pipeline/config/lora.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model_state_dict

from pipeline.config.lora import MERGE_BETWEEN, TIED_TOKENS, find_uncombinable
from pipeline.errors import PosttrainError
from pipeline.models.adapters import MATRICES, PREFIX, modules_of, read_config, tensors_of

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel

    from pipeline.config.blocks import LoraBlock


def check_new(model: PeftModel, block: LoraBlock, earlier: Path | None, *, loss: str) -> None:
    """Refuse, before the first step, an adapter that cannot be saved or is not as written.

    model: with the new adapter, of which PEFT decided some of the config. block: what was asked
    for. earlier: the adapter that is merged in below. loss: how the stage's loss is computed;
    `from the head` reads the output embeddings' own weight. Raises PosttrainError.
    """
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    missed = _find_unmatched(model, config, block)
    if missed:
        raise PosttrainError("lora", *missed)
    network: Any = model.get_base_model()
    head = network.get_output_embeddings() if loss == "from the head" else None
    if head is not None and "token_adapter" in head._modules:
        raise PosttrainError("lora", *TIED_TOKENS)
    if earlier is None:
        return
    sides = (config.to_dict(), "this adapter"), (read_config(earlier), "the one below")
    for fields, whose in sides:
        key = find_uncombinable(fields)
        if key is not None:
            message = f"with `{key}`, {whose} cannot be made one with another"
            raise PosttrainError("lora", message, MERGE_BETWEEN)
    old, new = set(tensors_of(earlier)), set(get_peft_model_state_dict(model))
    for one, another in ((old, new), (new, old)):
        whole = {name.rpartition(".")[0] for name in one if not name.endswith(MATRICES)}
        both = sorted(whole & modules_of(another))
        if both:
            name = both[0].removeprefix(PREFIX)
            message = f"`{name}` is trained whole by one adapter and by rank by the other"
            raise PosttrainError("lora", message, MERGE_BETWEEN)


def count_frozen_experts(model: PeftModel) -> int:
    """Return how many weights of fused experts (of three dimensions) have no adapter."""
    tuner: Any = model.base_model
    adapted = {f"{PREFIX}{name}" for name in tuner.targeted_parameter_names}
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.ndim == 3
        and "lora_" not in name
        and not parameter.requires_grad
        and name.replace(".base_layer", "") not in adapted
    )


def _find_unmatched(model: Any, config: LoraConfig, block: LoraBlock) -> tuple[str, str] | None:
    """Return what of a `lora:` block matches nothing in the model, and a hint; else None."""
    tuner = model.base_model
    names: list[str] = [*tuner.targeted_module_names, *tuner.targeted_parameter_names]
    targets: list[tuple[str, str]] = []
    if isinstance(block.target_modules, list):
        # Those that PEFT made parameters of fused experts of are not in its config any more.
        left = set(config.target_modules or ())
        targets += [("target_modules", layer) for layer in block.target_modules if layer in left]
    everything = [name for name, _ in model.get_base_model().named_modules()]
    extra = block.model_extra or {}
    for module in extra.get("modules_to_save") or ():
        if not any(f".{module}." in f".{name}." for name in everything):
            return f"`modules_to_save`: the model has no module `{module}`", name_layers(model)
    for key, layer in targets:
        if not any(name == layer or name.endswith(f".{layer}") for name in names):
            return f"`{key}`: the model has no layer `{layer}`", name_layers(model)
    layers = extra.get("layers_to_transform")
    for number in [layers] if isinstance(layers, int) else layers or ():
        if not any(f".{number}." in name for name in names):
            return f"`layers_to_transform`: the model has no layer {number} to adapt", ""
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in extra.get(key) or {}:
            if not any(_is_match(pattern, name) for name in names):
                return f"`{key}`: `{pattern}` is no layer that is adapted", ""
    return None


def _is_match(pattern: str, name: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


def name_layers(model: Any) -> str:
    """Return which layers a model has that an adapter can be put on, as a hint."""
    linear = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    ends = {
        name.removesuffix(".base_layer").rpartition(".")[2]
        for name in linear
        if "lora_" not in name
    }
    return f"there are {', '.join(sorted(ends)[:12])}"
