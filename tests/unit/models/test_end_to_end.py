"""Rows laid end to end: what a network gives for each is what it gives for that row alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from pipeline.models import end_to_end
from pipeline.models.end_to_end import lays_end_to_end, rows_of_passes
from pipeline.rl.actor import last_hidden
from pipeline.rl.sequences import Sequences

SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]
COMPLETIONS = [[20, 21, 22, 23, 24], [25, 26], [27], [28, 29, 30]]


def qwen(**kwargs: Any) -> Any:
    """Return a network whose queries share keys, four to two."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, **HEADS, **ENDS, **kwargs)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(**shape, **ENDS)).eval()


def mistral(window: int | None) -> Any:
    torch.manual_seed(0)
    config = MistralConfig(**SHAPE, **HEADS, **ENDS, sliding_window=window)
    return MistralForCausalLM(config).eval()


def batch() -> Sequences:
    return Sequences.of(PROMPTS, COMPLETIONS, pad=0, device=torch.device("cpu"))


@pytest.mark.parametrize("make", [qwen, gpt2, lambda: mistral(None)])
def test_hidden_states_and_gradients_are_those_of_each_row_alone(make: Any) -> None:
    network = make().base_model
    assert lays_end_to_end(network)
    rows = [[*p, *c] for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    alone = [network(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
    weights = [torch.randn(hidden.shape) for hidden in alone]
    torch.stack([(h * w).sum() for h, w in zip(alone, weights, strict=True)]).sum().backward()
    expected = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()

    hidden = last_hidden(network, batch())
    for found, row in zip(hidden, alone, strict=True):
        torch.testing.assert_close(found[: len(row)], row, atol=1e-5, rtol=0)
    parts = [(found[: len(w)] * w).sum() for found, w in zip(hidden, weights, strict=True)]
    torch.stack(parts).sum().backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            parameter.grad,
            expected[name],
            atol=1e-4,
            rtol=1e-4,
            msg=lambda said, of=name: of + said,
        )


def test_a_network_is_left_as_it_was() -> None:
    model = qwen().train()
    last_hidden(model.base_model, batch())
    assert model.config._attn_implementation == "sdpa"
    assert all(part.training for part in model.modules())
    padded = model(input_ids=torch.tensor([PROMPTS[0]])).logits
    assert padded.shape == (1, 3, 64)


def test_networks_in_which_rows_would_see_each_other_are_padded() -> None:
    mamba = MambaForCausalLM(MambaConfig(**SHAPE, state_size=4, **ENDS))
    assert not lays_end_to_end(mamba.base_model)
    assert not lays_end_to_end(mistral(4).base_model)  # layers that see the last 4 tokens alone
    eager = qwen()
    eager.set_attn_implementation("eager")
    assert not lays_end_to_end(eager.base_model)
    checkpointed = qwen()
    checkpointed.activation_checkpointing_enable()
    assert not lays_end_to_end(checkpointed.base_model)


def test_a_network_whose_attention_does_not_ask_ours_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one with an attention of its own would: rows in a line then see each other."""
    table: Any = end_to_end.ALL_ATTENTION_FUNCTIONS
    monkeypatch.setattr(table, "register", lambda name, attend: None)
    monkeypatch.setitem(table._global_mapping, "end_to_end", end_to_end.sdpa_attention_forward)
    assert not lays_end_to_end(qwen().base_model)


def test_few_rows_are_padded_together_and_more_laid_end_to_end() -> None:
    rows = list(range(20))
    assert [len(each) for each in rows_of_passes(rows, [qwen()])] == [16, 4]
    assert [len(each) for each in rows_of_passes(rows, [qwen(), mistral(4)])] == [4] * 5
    assert rows_of_passes([], [qwen()]) == []
