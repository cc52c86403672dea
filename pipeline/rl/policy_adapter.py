"""What PPO knows of PEFT: which adapter of a model is trained, its parameters, its files.

Not how adapters are combined or merged (pipeline/models/adapters.py).
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from pipeline.config.lora import changes_the_base
from pipeline.files.names import ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

TAKEN = ("critic", "reference", "reward")  # names that adapters beside the policy's begin with


def adapter_name(policy: Any) -> str:
    """Return the name of the one adapter that a PEFT model trains, and make it trainable.

    A model that was loaded to be asked (`inference_mode`) is trained all the same. Raises
    ValueError for an adapter that is not the whole difference to the network below, since the
    reference is the model without it.
    """
    active = list(policy.active_adapters)
    if len(active) != 1:
        names = ", ".join(f"`{adapter}`" for adapter in active) or "none"
        raise ValueError(f"PPO trains one adapter, active are {names}; call `set_adapter` with one")
    name: str = active[0]
    config = policy.peft_config[name]
    if config.peft_type != "LORA":
        raise ValueError(f"PPO trains LoRA adapters, not {config.peft_type.value}")
    if config.bias != "none":
        raise ValueError(
            f"an adapter with bias `{config.bias}` changes the network below, by which reference "
            "and critic go; leave `bias` out"
        )
    if changes_the_base(config.init_lora_weights):
        raise ValueError(
            f"`init_lora_weights` {config.init_lora_weights} changes the network below, by which "
            "reference and critic go, and which is not saved; leave it out"
        )
    own = [adapter for adapter in policy.peft_config if adapter.startswith(TAKEN)]
    if own:
        raise ValueError(f"PPO needs the name of the adapter `{own[0]}` for itself; rename it")
    module_names = {
        part
        for key, _ in policy.named_parameters()
        if not is_of_adapter(key, name)
        for part in key.split(".")
    }
    if name in module_names:  # PEFT takes the name out of every key when it saves
        raise ValueError(f"the adapter is called as a module of the model is, `{name}`; rename it")
    policy.set_adapter(name)
    config.inference_mode = False
    return name


def adapter_parameters(policy: nn.Module, name: str) -> list[nn.Parameter]:
    """Return an adapter's parameters, in the model's order."""
    return [weight for key, weight in policy.named_parameters() if is_of_adapter(key, name)]


def is_of_adapter(key: str, name: str) -> bool:
    """Whether a parameter is an adapter's."""
    kinds = r"lora_\w+|modules_to_save|trainable_tokens_\w+"
    return re.search(rf"\.({kinds})\.{re.escape(name)}(\.|$)", key) is not None


def adapter_tensors(policy: Any, name: str) -> dict[str, Tensor]:
    """Return an adapter's tensors by the names that PEFT saves them under."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(policy, adapter_name=name, save_embedding_layers=False)


def was_trained(policy: Any, name: str) -> bool:
    """Whether an adapter changes its network already: a new one does not."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.utils.other import ModulesToSaveWrapper

    for module in policy.modules():
        if isinstance(module, ModulesToSaveWrapper) and name in module.modules_to_save:
            own: Any = module.modules_to_save[name]
            first = module.original_module.state_dict()
            if any(not torch.equal(tensor, first[key]) for key, tensor in own.state_dict().items()):
                return True
        if isinstance(module, TrainableTokensLayer) and name in module.trainable_tokens_delta:
            weight: Any = module.get_base_layer().weight
            rows = weight[module.token_indices[name]]
            if not torch.equal(module.trainable_tokens_delta[name], rows):
                return True
    return any(
        bool(tensor.any())
        for key, tensor in adapter_tensors(policy, name).items()
        if "lora_B" in key or "lora_embedding_B" in key
    )


def save_adapter(policy: Any, name: str, folder: Path) -> None:
    """Write an adapter into a folder, as PEFT does for one that is called `default`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(policy.peft_config[name])
    config.inference_mode = True
    config.save_pretrained(folder)
    tensors = adapter_tensors(policy, name)
    copies = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
    save_file(copies, folder / ADAPTER_WEIGHTS)


def take_adapter(policy: Any, name: str, folder: Path) -> None:
    """Fill an adapter with the tensors of a folder, every one of them."""
    fill_adapter(policy, name, load_file(folder / ADAPTER_WEIGHTS), str(folder))


def fill_adapter(policy: Any, name: str, tensors: dict[str, Tensor], where: str) -> None:
    """Fill an adapter with tensors; ValueError if they are not exactly its own."""
    from peft import set_peft_model_state_dict

    own = {key: tensor.shape for key, tensor in adapter_tensors(policy, name).items()}
    saved = {key: tensor.shape for key, tensor in tensors.items()}
    differing = sorted(key for key in own.keys() | saved.keys() if own.get(key) != saved.get(key))
    if differing:
        raise ValueError(f"{where} does not fit: `{differing[0]}` is another, or is not there")
    set_peft_model_state_dict(policy, tensors, adapter_name=name)
