"""Frozen weights in the precision that they are multiplied in: nothing else changes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pipeline.models import adapters
from pipeline.models.frozen import FrozenConv1D, FrozenLinear, keep_frozen, plain_copy

IDS = torch.arange(3, 27).reshape(2, 12)


def llama(*, is_tied: bool = False) -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "vocab_size": 40, "tie_word_embeddings": is_tied}
    return LlamaForCausalLM(LlamaConfig(**shape, **heads)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_head=2, n_layer=2, vocab_size=40)).eval()


MODELS = {"llama": llama, "tied": lambda: llama(is_tied=True), "gpt2": gpt2}


def with_adapter(module: Any, *, std: float = 0.0) -> Any:
    torch.manual_seed(1)
    model = get_peft_model(
        module, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, each in model.named_parameters():
        if std and "lora_B" in name:
            nn.init.normal_(each.data, std=std)
    return model


class Casts(TorchDispatchMode):
    """Counts casts of matrices as large as a projection's."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].ndim == 2:
            self.number += min(args[0].shape) >= 32
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
def test_adapters_get_the_gradients_that_they_get_on_weights_in_fp32_under_autocast(
    name: str,
) -> None:
    """To the last bit, with a tied head too; and no weight is cast on the way."""
    found: list[dict[str, Tensor]] = []
    for is_kept in (False, True):
        module = MODELS[name]().requires_grad_(requires_grad=False)
        if is_kept:
            keep_frozen(module, torch.bfloat16)
        model = with_adapter(module, std=0.1)
        with Casts() as casts, torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=IDS, labels=IDS).loss
            loss.backward()
        found.append(
            {key: each.grad for key, each in model.named_parameters() if each.requires_grad}
        )
        assert all(each.dtype == torch.float32 for each in found[-1].values())
        assert (casts.number == 0) == is_kept
    assert len(found[0]) > 8
    assert all(torch.equal(each, found[1][key]) for key, each in found[0].items())


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_norms_and_what_is_named_stay_in_fp32(name: str) -> None:
    module = MODELS[name]().requires_grad_(requires_grad=False)
    before = {key: each.clone() for key, each in module.named_parameters()}
    keep_frozen(module, torch.bfloat16, leave={"q_proj"})
    kept = {key for key, each in module.named_parameters() if each.dtype == torch.bfloat16}
    assert kept
    for key, each in module.named_parameters():
        is_projection = key.endswith(("proj.weight", "lm_head.weight")) or ".c_" in key
        assert (key in kept) == (is_projection and "q_proj" not in key), key
        if key not in kept:
            assert torch.equal(each, before[key])
    assert not any(each.requires_grad for each in module.parameters())


def test_what_is_trained_stays_as_it_is() -> None:
    module = llama()
    keep_frozen(module, torch.bfloat16)
    assert {each.dtype for each in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", MODELS)
def test_without_autocast_a_network_with_kept_weights_still_computes(name: str) -> None:
    module = MODELS[name]().requires_grad_(requires_grad=False)
    exact = module(IDS).logits
    keep_frozen(module, torch.bfloat16)
    found = module(IDS).logits
    assert found.dtype == torch.float32
    # Each product is rounded to 8 bits; two layers have about ten of them in a row.
    assert float((found - exact).abs().max()) < 10 * 2**-8 * float(exact.abs().max())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_earlier_adapter_is_not_rounded_away(name: str, tmp_path: Path) -> None:
    """Weights that bf16 can write, and an adapter that moves them by less than it can tell.

    How much of what the adapter adds arrives, over so many inputs that the rounding of products
    averages out: all of it beside the weights, next to nothing where it was merged into them.
    """
    path = {"llama": "model.layers.1.mlp.up_proj", "gpt2": "transformer.h.1.mlp.c_fc"}[name]
    module = MODELS[name]()
    for each in module.parameters():
        each.data = each.data.bfloat16().float()
    weight = module.get_submodule(path).weight
    model = with_adapter(copy.deepcopy(module), std=1.0)
    for key, each in model.named_parameters():
        if "lora_B" in key:
            each.data *= 3e-4 * float(weight.detach().abs().mean())
    adapters.save(model, tmp_path, base="base", revision=None, earlier=None)
    inputs = torch.randn(4096, weight.shape[name == "llama"])

    def added(network: Any, **how: Any) -> Tensor:
        keep_frozen(network.requires_grad_(requires_grad=False), torch.bfloat16, **how)
        return network.get_submodule(path)(inputs).double()

    plain = added(copy.deepcopy(module))
    merged = adapters.merge(copy.deepcopy(module), tmp_path)
    exact = merged.get_submodule(path)(inputs) - module.get_submodule(path)(inputs)
    exact = exact.detach().double()
    network, beside = adapters.split_off(copy.deepcopy(module), tmp_path)
    shares = [
        float(((found - plain) * exact).sum() / exact.pow(2).sum())
        for found in (added(network, apart=beside), added(merged))
    ]
    assert abs(shares[0] - 1) < 0.1
    assert abs(shares[1]) < 0.5


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_plain_copy_has_the_earlier_adapter_in_its_weights(name: str, tmp_path: Path) -> None:
    model = with_adapter(MODELS[name](), std=0.5)
    adapters.save(model, tmp_path, base="base", revision=None, earlier=None)
    merged = dict(adapters.merge(MODELS[name](), tmp_path).named_modules())
    network, beside = adapters.split_off(MODELS[name](), tmp_path)
    keep_frozen(network.requires_grad_(requires_grad=False), torch.bfloat16, apart=beside)
    number = 0
    for path, part in network.named_modules():
        if isinstance(part, FrozenLinear | FrozenConv1D):
            number += 1
            found, expected = plain_copy(part), merged[path]
            assert type(found) is type(expected)
            off = (found.weight - expected.weight).abs().max() / expected.weight.abs().max()
            assert float(off) < 2 * 2**-8  # of the weight and of each factor
    assert number >= len(beside) > 0
