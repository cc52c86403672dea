"""The cache that grows in place, rows that are dropped or joined, and the draw."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer

import eval.asking.decoding as decoding
from eval.asking.decoding import Decoding, GrowingLayer, draw_tokens, join_decodings
from tests.small_architectures import small

PROMPTS = {7: [5, 6, 7], 3: [8], 9: [9, 10, 11, 12, 13], 1: [14, 15]}


def random_states(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, tokens, 8), torch.randn(rows, 2, tokens, 16)


def test_a_layer_that_grows_in_place_holds_what_one_that_copies_holds(monkeypatch) -> None:
    monkeypatch.setattr(decoding, "_ROOM", 3)
    torch.manual_seed(0)
    states = random_states(5, 4)
    grows, copies = GrowingLayer(*states), DynamicLayer()
    copies.update(*states)

    def same() -> None:
        assert copies.keys is not None
        assert copies.values is not None
        assert torch.equal(grows.keys, copies.keys)
        assert torch.equal(grows.values, copies.values)
        assert grows.get_seq_length() == copies.get_seq_length()
        assert grows.get_mask_sizes(1) == copies.get_mask_sizes(1)

    for tokens in (1, 1, 3, 1):
        new = random_states(5, tokens)
        for kept, expected in zip(grows.update(*new), copies.update(*new), strict=True):
            assert torch.equal(kept, expected)
        same()
    going_on = torch.tensor([0, 4, 2])
    grows.keep(going_on, moved=torch.tensor([1]))
    copies.reorder_cache(going_on)
    same()
    for order in ([2, 0, 0, 1], [3, 1]):
        grows.reorder_cache(torch.tensor(order))
        copies.reorder_cache(torch.tensor(order))
        same()
        new = random_states(len(order), 1)
        grows.update(*new)
        copies.update(*new)
        same()


def written_logits(module, going_on_by_step, *, parts=(PROMPTS,)) -> list[torch.Tensor]:
    with torch.no_grad():
        (whole,) = join_decodings([Decoding(module, part, 8) for part in parts])
        found = [whole.logits]
        for step, going_on in enumerate(going_on_by_step):
            # Every row writes a token of its own, whatever place it has.
            tokens = torch.tensor([20 + (row + step) % 7 for row in whole.rows])
            whole.advance(tokens, going_on)
            found.append(whole.logits)
    return found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["tiny", "tiny_gpt2_with_many_endings"])
def test_growing_in_place_changes_no_bit_of_the_logits(request, monkeypatch, name, attention):
    module = request.getfixturevalue(name).module
    module.set_attn_implementation(attention)
    steps = [[0, 1, 2, 3], [0, 1, 3], [0, 2], [0, 1], [1]]
    growing = written_logits(module, steps)
    monkeypatch.setattr(decoding, "_make_room", lambda cache: None)
    for one, other in zip(growing, written_logits(module, steps), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["tiny", "tiny_gpt2_with_many_endings"])
def test_parts_that_are_joined_go_on_as_if_they_had_begun_together(request, name) -> None:
    module = request.getfixturevalue(name).module
    steps = [[0, 1, 2, 3], [0, 3, 2], [2, 1]]
    together = written_logits(module, steps)
    rows = list(PROMPTS.items())
    apart = written_logits(module, steps, parts=(dict(rows[:1]), dict(rows[1:3]), dict(rows[3:])))
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_one_run_of_a_prompt_serves_all_rows_that_ask_for_it(tiny) -> None:
    with torch.no_grad():
        spread = Decoding(tiny.module, dict(enumerate([[5, 6, 7], [8]])), 4)
        spread.spread([[11, 12], [13]])
        assert spread.rows == [11, 12, 13]
        spread.advance(torch.tensor([20, 21, 22]), [0, 1, 2])
        for row, ids in enumerate(([5, 6, 7, 20], [5, 6, 7, 21], [8, 22])):
            expected = tiny.module(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(spread.logits[row], expected, atol=1e-4, rtol=1e-5)


def test_a_token_without_probability_is_never_drawn() -> None:
    probabilities = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0]).repeat(6, 1)
    uniform = torch.tensor([0.0, 0.29999, 0.30001, 0.5, 0.9999999, 1.0]).unsqueeze(-1)
    assert draw_tokens(probabilities, uniform).squeeze(-1).tolist() == [1, 1, 3, 3, 3, 3]


@pytest.mark.parametrize("architecture", ["mamba", "mamba2"])
def test_a_model_without_a_cache_continues_each_row_as_if_alone(architecture: str) -> None:
    module = small(architecture)
    steps = [[0, 1, 2, 3], [3, 1, 0], [1, 0], [0, 1]]
    with torch.no_grad():
        whole = Decoding(module, PROMPTS, 8)
        rows = {row: list(prompt) for row, prompt in PROMPTS.items()}
        for step, going_on in enumerate([*steps, []]):
            for row, logits in zip(whole.rows, whole.logits, strict=True):
                alone = module(input_ids=torch.tensor([rows[row]])).logits[0, -1]
                assert torch.allclose(logits, alone, atol=1e-4, rtol=1e-4)
            tokens = torch.tensor([20 + (row + step) % 7 for row in whole.rows])
            for row, token in zip(whole.rows, tokens.tolist(), strict=True):
                rows[row].append(token)
            if going_on:
                whole.advance(tokens, going_on)
    assert len(whole.rows) == 2


def test_a_model_without_a_cache_spreads_a_prompt_over_rows() -> None:
    module = small("mamba")
    with torch.no_grad():
        whole = Decoding(module, {0: [5, 6, 7], 1: [8]}, 8)
        whole.spread([[10, 11], [12]])
        assert whole.rows == [10, 11, 12]
        whole.advance(torch.tensor([20, 21, 22]), [0, 1, 2])
        for logits, row in zip(whole.logits, [[5, 6, 7, 20], [5, 6, 7, 21], [8, 22]], strict=True):
            alone = module(input_ids=torch.tensor([row])).logits[0, -1]
            assert torch.allclose(logits, alone, atol=1e-4, rtol=1e-4)
