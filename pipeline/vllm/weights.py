"""What a vLLM server is sent of a policy: its adapter, or all of its weights, as files.

The module stays as it is. An adapter's scale is taken into its matrices, since each layer may have
its own; all weights are those of a model without adapters, merged into copies.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model
from safetensors.torch import save_file

from pipeline.files.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pipeline.models.frozen import FrozenConv1D, FrozenLinear, plain_copy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class SentAdapter:
    """An adapter by PEFT's names. rank: the largest of its layers."""

    tensors: dict[str, Tensor]
    rank: int
    modules: list[str]

    def save(self, folder: Path) -> None:
        """Write it as PEFT does, with the scale 1."""
        folder.mkdir(parents=True)
        save_file(self.tensors, folder / ADAPTER_WEIGHTS)
        config = {
            **{"peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True},
            **{"r": self.rank, "lora_alpha": self.rank, "bias": "none"},
            # Each layer's own, for servers that would else take the whole adapter's.
            "rank_pattern": {
                name: self.tensors[f"{_PREFIX}{name}.lora_A.weight"].shape[0]
                for name in self.modules
            },
            "alpha_pattern": {
                name: self.tensors[f"{_PREFIX}{name}.lora_A.weight"].shape[0]
                for name in self.modules
            },
            "target_modules": self.modules,
        }
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config), encoding="utf-8")


def adapter_of(module: nn.Module, *, when_off: bool = False) -> SentAdapter | None:
    """Return the active adapter of a model; None where it has none.

    when_off: also where adapters are switched off for now.
    Raises ValueError for one that vLLM would not take as it is.
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    tensors: dict[str, Tensor] = {}
    names: list[str] = []
    for name, part in causal_of(module).named_modules():
        _refuse_whole(name, part)
        if not isinstance(part, BaseTunerLayer) or (part.disable_adapters and not when_off):
            continue
        if not isinstance(part, LoraLayer) or len(part.active_adapters) != 1:
            raise ValueError(f"the adapters of `{name}` are not one LoRA")
        layer: Any = part
        active = layer.active_adapters[0]
        if active not in layer.lora_A:  # another adapter's layer, or an embedding's
            if active in layer.lora_embedding_A:
                raise ValueError(f"vLLM takes no adapter of the embedding `{name}`")
            continue
        if active in layer.lora_variant:  # DoRA above all
            raise ValueError(f"vLLM takes plain LoRA alone, and `{name}` has another kind")
        if layer.lora_bias.get(active):
            raise ValueError(f"vLLM takes no biases of adapters, and `{name}` has one")
        down, up = layer.lora_A[active].weight, layer.lora_B[active].weight
        names.append(name)
        for key, tensor in (("A", down.detach()), ("B", up.detach() * layer.scaling[active])):
            sent = tensor.float().cpu()
            tensors[f"{_PREFIX}{name}.lora_{key}.weight"] = sent.clone().contiguous()
    if not names:
        return None
    ranks = [tensor.shape[0] for key, tensor in tensors.items() if ".lora_A." in key]
    return SentAdapter(tensors, max(ranks), names)


def can_send_adapter(module: nn.Module) -> bool:
    """Whether vLLM takes what is on the network as an adapter; a network without one has none."""
    try:
        return adapter_of(module, when_off=True) is not None
    except ValueError:
        return False


def save_whole(
    module: nn.Module,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    merges: bool = True,
) -> None:
    """Write all weights as a model's folder. merges: adapters into them; else they are left out."""
    causal = causal_of(module)
    folder.mkdir(parents=True, exist_ok=True)
    weights = merge_parameters(module, merges=merges)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in weights}
    save_file(_apart(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    config = copy.deepcopy(causal.config)
    config.architectures = [type(causal).__name__]
    config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of which no two share memory, which safetensors does not write."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return apart


def merge_parameters(module: nn.Module, *, merges: bool = True) -> Iterator[tuple[str, Tensor]]:
    """Yield (name as in the base model, tensor), adapters merged into a copy of each layer.

    One layer is copied at a time; the module stays as it is. Adapters that are switched off are
    left out, and all without `merges`. A tied weight comes once, which is how vLLM takes it.
    Raises ValueError for weights that cannot be merged.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: tuple[str, ...] = ()  # with an adapter, whose own parts come with them
    seen: set[int] = set()
    for name, part in causal_of(module).named_modules():
        prefix = f"{name}." if name else ""
        if prefix.startswith(layers):
            continue
        _refuse_whole(name, part)
        if isinstance(part, BaseTunerLayer):
            layers = (*layers, prefix)
            for leaf, parameter in _merge_layer(part, merges=merges).named_parameters():
                yield prefix + leaf, parameter.data
            continue
        plain = plain_copy(part) if isinstance(part, FrozenLinear | FrozenConv1D) else part
        for leaf, parameter in plain.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield prefix + leaf, parameter.data


def _refuse_whole(name: str, part: nn.Module) -> None:
    from peft.utils.other import AuxiliaryTrainingWrapper

    is_whole = isinstance(part, AuxiliaryTrainingWrapper)
    if is_whole:
        raise ValueError(f"the adapter trains `{name}` as a whole, which cannot be sent")


def _merge_layer(layer: Any, *, merges: bool) -> nn.Module:
    """Return a layer of a model without adapters that does what this one with adapters does."""
    base = layer.get_base_layer()
    is_kept = isinstance(base, FrozenLinear | FrozenConv1D)
    if layer.disable_adapters or not merges:
        return plain_copy(base) if is_kept else base
    merged = copy.deepcopy(layer)
    if is_kept:  # in fp32, since adding to few bits would round
        merged.base_layer = plain_copy(base)
    merged.merge()
    return merged.get_base_layer()


def causal_of(module: nn.Module) -> Any:
    """Return the language model inside of a PEFT model, adapters in its layers; else itself."""
    model: Any = module
    return model.get_base_model() if is_peft_model(module) else model
