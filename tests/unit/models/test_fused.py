"""RMSNorm and rotary positions in one function: the library's values and gradients, and no more."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.models import fused

SHAPE = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0},
}
IDS = torch.randint(1, 64, (3, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes a network of an architecture whose code is the library's until the end."""
    monkeypatch.setattr(fused, "_fuse_class", fused._fuse_class.__wrapped__)

    def make(architecture: str) -> Any:
        torch.manual_seed(0)
        config = AutoConfig.for_model(architecture, **SHAPE)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        module = importlib.import_module(type(model).__module__)
        monkeypatch.setattr(
            module, "apply_rotary_pos_emb", unwrapped(getattr(module, "apply_rotary_pos_emb", None))
        )
        for kind in {type(part) for part in model.modules()}:
            if kind.__name__.endswith("RMSNorm"):
                monkeypatch.setattr(kind, "forward", unwrapped(kind.forward))
        return model

    return make


def unwrapped(function: Any) -> Any:
    """Return what a function of ours stands in place of; the function itself where it is not."""
    if function is None or function.__module__ != fused.__name__:
        return function
    return function.__closure__[0].cell_contents


def gradients(model: Any, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model.to(dtype)(input_ids=IDS, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), IDS.flatten()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    return {"logits": logits.detach(), **found}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "granite"])
def test_values_and_gradients_are_the_librarys(library: Any, architecture: str) -> None:
    model = library(architecture)
    expected = gradients(model)
    fused.fuse(model)
    assert any(type(part).forward.__module__ == fused.__name__ for part in model.modules())
    found = gradients(model)
    assert all(apart(found[name], expected[name]) < 2e-6 for name in expected)
    assert not all(torch.equal(found[name], expected[name]) for name in expected)  # it is used


def test_each_function_alone_is_the_librarys_to_a_millionth(library: Any) -> None:
    model = library("qwen3")
    module: Any = importlib.import_module(type(model).__module__)
    norm, rotary = module.Qwen3RMSNorm.forward, module.apply_rotary_pos_emb
    fused.fuse(model)
    part = model.model.layers[0].self_attn.q_norm
    x = torch.randn(2, 5, 4, 8).requires_grad_()
    k = torch.randn(2, 2, 5, 8).requires_grad_()
    cos, sin = model.model.rotary_emb(x, torch.arange(5)[None] * 7)
    pulls = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)

    def results(norm: Any, rotary: Any) -> list[torch.Tensor]:
        normed = norm(part, x)
        turned = rotary(normed.transpose(1, 2), k, cos, sin)
        inputs = (x, k, part.weight)
        return [normed.detach(), *turned, *torch.autograd.grad(turned, inputs, pulls)]

    expected = results(norm, rotary)
    found = results(module.Qwen3RMSNorm.forward, module.apply_rotary_pos_emb)
    assert max(apart(one, other) for one, other in zip(found, expected, strict=True)) < 1e-6


@pytest.mark.parametrize("architecture", ["gemma", "olmo2", "gpt_neox"])
def test_a_class_with_code_of_its_own_keeps_it(library: Any, architecture: str) -> None:
    model = library(architecture)
    before = {type(part): type(part).forward for part in model.modules()}
    fused.fuse(model)
    assert all(kind.forward is forward for kind, forward in before.items())


def test_another_precision_is_computed_as_the_library_does(library: Any) -> None:
    model = library("llama")
    expected = gradients(copy.deepcopy(model), torch.bfloat16)
    fused.fuse(model)
    found = gradients(model, torch.bfloat16)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_frozen_weights_get_no_gradient_and_the_others_the_same(library: Any) -> None:
    model = library("qwen3")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "up_proj" in name or name.endswith("k_norm.weight")
    expected = gradients(model)
    fused.fuse(model)
    found = gradients(model)
    assert all(apart(found[name], expected[name]) < 2e-6 for name in expected)


def test_a_models_weights_and_config_are_left_alone(library: Any) -> None:
    model = library("qwen3")
    before = copy.deepcopy(model)
    fused.fuse(model)
    assert model.state_dict().keys() == before.state_dict().keys()
    assert model.config.to_dict() == before.config.to_dict()
    assert [vars(part).keys() for part in model.modules()] == [
        vars(part).keys() for part in before.modules()
    ]
