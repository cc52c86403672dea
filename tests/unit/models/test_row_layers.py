"""A layer as one function: upstream's values and gradients on rows end to end, else its code."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from pipeline.models import end_to_end, row_layers
from pipeline.models.end_to_end import attending_row_by_row, lays_end_to_end
from pipeline.models.row_layers import layer_on_rows
from tests.small_architectures import small

LENGTHS = [5, 1, 7, 3]
FIRSTS = [2, 0, 6, 0]
PLACES = torch.cat([torch.arange(length) for length in LENGTHS])[None]
IDS = torch.randint(3, 40, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))


def network(architecture: str, **fields: Any) -> Any:
    fields = {"num_key_value_heads": 4, **fields}
    made = small(architecture, scale=2.0, **fields).base_model.train()
    for name, parameter in made.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return made


def results(
    model: Any, weights: torch.Tensor, firsts: list[int] | None = None
) -> dict[str, torch.Tensor]:
    model.zero_grad()
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    with attending_row_by_row(model, LENGTHS, firsts):
        asked = {"inputs_embeds": embedded, "position_ids": PLACES, "use_cache": False}
        hidden = model(**asked).last_hidden_state
    (hidden * weights).sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    hidden = torch.where(weights == 0, 0.0, hidden.detach())
    return {"hidden": hidden, "embedded": embedded.grad, **found}


def compared(model: Any, monkeypatch: pytest.MonkeyPatch, firsts: list[int] | None = None) -> float:
    """Return the largest difference to upstream's layers, of each tensor's largest number."""
    weights = torch.randn(1, sum(LENGTHS), 32, generator=torch.Generator().manual_seed(2))
    for row, first in zip(weights[0].split(LENGTHS), firsts or [0] * len(LENGTHS), strict=True):
        row[:first] = 0
    found = results(model, weights, firsts)
    with monkeypatch.context() as patch:
        patch.setattr(row_layers, "_KINDS", {})
        expected = results(model, weights)
    assert found.keys() == expected.keys()
    return max(float((found[n] - e).abs().max() / e.abs().max()) for n, e in expected.items())


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_values_and_gradients_are_upstreams(
    architecture: str, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(architecture, num_key_value_heads=key_heads)
    assert lays_end_to_end(model)
    assert layer_on_rows(model.layers[0], LENGTHS) is not None
    assert 0 < compared(model, monkeypatch) < 3e-6  # 0 would be upstream's code


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_of_the_last_layer_what_is_read_alone_is_computed_to_the_same_gradients(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(architecture, num_key_value_heads=2)
    assert 0 < compared(model, monkeypatch, FIRSTS) < 3e-6
    with attending_row_by_row(model, LENGTHS, FIRSTS):
        asked = {"input_ids": IDS, "position_ids": PLACES, "use_cache": False}
        rows = model(**asked).last_hidden_state[0].split(LENGTHS)
    assert [int((row == 0).all(-1).sum()) for row in rows] == FIRSTS


def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = network("qwen3")
    for name, parameter in model.named_parameters():
        trained = "q_proj", "k_norm", "down", "post_attention"
        parameter.requires_grad = any(part in name for part in trained)
    assert compared(model, monkeypatch) < 3e-6


def test_a_layer_is_left_as_it_was() -> None:
    model = network("llama")
    before = [set(vars(layer)) for layer in model.layers]
    with attending_row_by_row(model, LENGTHS):
        assert all("forward" in vars(layer) for layer in model.layers)
    assert [set(vars(layer)) for layer in model.layers] == before


def test_where_many_probabilities_would_be_kept_layers_keep_their_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Upstream's attention keeps none; rows of hundreds of tokens in many layers have gigabytes."""
    model = network("llama")
    config: Any = model.config
    number = config.num_attention_heads * config.num_hidden_layers * sum(n * n for n in LENGTHS)

    def are_taken() -> bool:
        with attending_row_by_row(model, LENGTHS):
            return all("forward" in vars(layer) for layer in model.layers)

    monkeypatch.setattr(end_to_end, "_KEPT_ELEMENTS", number)
    assert are_taken()
    monkeypatch.setattr(end_to_end, "_KEPT_ELEMENTS", number - 1)
    assert not are_taken()


def test_layers_with_more_to_them_keep_their_forward() -> None:
    def is_taken(model: Any, lengths: list[int] = LENGTHS) -> bool:
        return layer_on_rows(model.layers[0], lengths) is not None

    assert is_taken(network("llama"))
    assert not is_taken(network("llama"), [600])  # as many probabilities as its square
    assert not is_taken(network("mistral"))
    assert not is_taken(network("llama", attention_bias=True))
    assert not is_taken(network("llama", hidden_act="gelu"))
    dropping = network("llama", attention_dropout=0.1)
    assert not is_taken(dropping)
    assert is_taken(dropping.eval())
    hooked = network("llama")
    hooked.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    assert not is_taken(hooked)
    assert not is_taken(network("llama").bfloat16())
    adapted: Any = get_peft_model(small("llama", num_key_value_heads=4), LoraConfig())
    assert not is_taken(adapted.get_base_model().base_model)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_under_autocast_a_layer_is_no_further_from_fp32_than_upstreams(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(architecture)
    weights = torch.randn(1, sum(LENGTHS), 32, generator=torch.Generator().manual_seed(2))
    exact = results(model, weights)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(model, weights)
        with monkeypatch.context() as patch:
            patch.setattr(row_layers, "_KINDS", {})
            upstream = results(model, weights)

    def error(of: dict[str, torch.Tensor]) -> float:
        apart = (((of[n].float() - e).norm() / e.norm()) for n, e in exact.items())
        return statistics.fmean(map(float, apart))

    assert found["hidden"].dtype == upstream["hidden"].dtype
    assert 1e-4 < error(found) < 1.2 * error(upstream)


def test_under_another_autocast_a_layer_is_upstreams(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("llama")
    with torch.autocast("cpu", torch.float16):
        assert compared(model, monkeypatch) == 0
