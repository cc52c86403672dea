"""Which models keep rows in one line apart; what becomes of the others' rows."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from pipeline.data.documents import Documents
from pipeline.data.encoding.packing import pack
from pipeline.data.encoding.padding import pad
from pipeline.models.probe import keeps_rows_apart
from pipeline.training.bins import Bins
from tests.small_architectures import PAD, VOCAB, small

# Learned and rotary positions, local and sliding windows (of 6 tokens), experts.
APART = (
    *("llama", "gpt2", "gpt_neo", "gptj", "gpt_neox", "gemma2", "gemma3_text", "phi3", "cohere2"),
    *("mistral", "mixtral", "qwen3_moe", "gpt_bigcode", "starcoder2", "stablelm", "llama4_text"),
)
# Alibi, positions from the mask or from nowhere, states and convolutions; one that sees both ways.
SEES = (
    *("opt", "bloom", "falcon", "mpt", "gpt_oss", "xglm", "biogpt", "openai-gpt", "falcon_h1"),
    *("minimax", "mamba", "mamba2", "qwen3_next", "lfm2", "jamba", "recurrent_gemma", "bert"),
)
LENGTHS = (9, 7, 16, 3, 5, 12)


def documents() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(3, VOCAB, length, dtype=np.int32) for length in LENGTHS]


def loss_alone(module, document: np.ndarray) -> torch.Tensor:
    """The sum over a document's tokens, from a plain forward pass of it alone."""
    ids = torch.from_numpy(document).long()
    logits = module(input_ids=ids[None], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="sum")


def batch_of(rows) -> dict[str, torch.Tensor]:
    dataset = rows.dataset()
    found = [dataset[number] for number in range(len(dataset))]
    return rows.collate([{k: v for k, v in row.items() if k != "row"} for row in found])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", APART)
def test_models_that_make_block_masks_keep_rows_apart(architecture, dtype) -> None:
    assert keeps_rows_apart(small(architecture).to(dtype), line_length=16)


@pytest.mark.parametrize("scale", [1.0, 4.0])  # as initialised, where most leaks are small
@pytest.mark.parametrize("architecture", SEES)
def test_models_that_see_over_the_border_are_found(architecture, scale) -> None:
    module = small(architecture, scale=scale)
    assert not keeps_rows_apart(module, line_length=16)
    assert not keeps_rows_apart(module.to(torch.bfloat16), line_length=16)


@pytest.mark.parametrize("architecture", [each for each in SEES if each != "bert"])
def test_a_padded_document_has_the_logits_and_the_loss_that_it_has_alone(architecture) -> None:
    module = small(architecture)
    given = documents()
    batch = batch_of(pad(Documents.of(given), sequence_length=16, pad_token_id=PAD))
    num_scored = sum(len(each) - 1 for each in given)
    with torch.no_grad():
        output = module(**batch, num_items_in_batch=num_scored)
        for row, document in enumerate(given):
            ids = torch.from_numpy(document).long()[None]
            alone = module(input_ids=ids, use_cache=False).logits[0]
            # Rounding of fp32; a leak is 0.06 and more at this scale.
            assert (output.logits[row, : len(document)] - alone).abs().max() < 1e-4
        expected = sum(loss_alone(module, each) for each in given) / num_scored
    assert float(output.loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gpt_neo", "qwen3_moe"])
def test_the_loss_is_the_same_packed_padded_and_in_bins(architecture) -> None:
    module = small(architecture)
    given = [*documents(), np.arange(3, 43, dtype=np.int32)]  # longer than a row: three parts
    padded = pad(Documents.of(given), sequence_length=16, pad_token_id=PAD)
    packed = pack(Documents.of(given), sequence_length=16, pad_token_id=PAD)
    assert padded.num_loss_tokens == packed.num_loss_tokens
    lines = [{"input_ids": part.tolist(), "labels": part.tolist()} for part in padded.parts]
    batches = [batch_of(padded), batch_of(packed), Bins(PAD)(lines)]
    batches[2].pop("owner")
    with torch.no_grad():
        losses = [
            float(module(**batch, num_items_in_batch=packed.num_loss_tokens).loss)
            for batch in batches
        ]
        alone = sum(float(loss_alone(module, part)) for part in padded.parts)
    assert losses == pytest.approx([alone / packed.num_loss_tokens] * 3, rel=1e-5)


def test_an_adapter_changes_nothing_and_neither_does_the_question() -> None:
    for architecture, expected in (("llama", True), ("opt", False)):
        module = get_peft_model(
            small(architecture),
            LoraConfig(target_modules=["q_proj"], init_lora_weights=False, lora_dropout=0.5),
        ).train()
        frozen = next(each for each in module.modules() if isinstance(each, torch.nn.Embedding))
        frozen.eval()
        state = torch.get_rng_state()
        assert keeps_rows_apart(module, line_length=16) == expected
        assert torch.equal(torch.get_rng_state(), state)
        assert module.training
        assert not frozen.training
        assert all(each.training for each in module.modules() if each is not frozen)


def test_a_model_in_which_no_row_can_be_seen_yet_is_not_trusted() -> None:
    module = small("llama")
    with torch.no_grad():
        for layer in module.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    assert not keeps_rows_apart(module, line_length=16)


def test_lines_longer_than_a_chunk_of_attention_are_not_packed() -> None:
    module = small("llama4_text", attention_chunk_size=16)
    assert keeps_rows_apart(module, line_length=16)
    assert not keeps_rows_apart(module, line_length=17)


def test_a_leak_of_a_hundredth_is_a_leak() -> None:
    module = small("llama")

    def mixes_in_the_token_before(_: object, __: object, embedded: torch.Tensor) -> torch.Tensor:
        return embedded + 0.01 * torch.nn.functional.pad(embedded, (0, 0, 1, 0))[:, :-1]

    with module.get_input_embeddings().register_forward_hook(mixes_in_the_token_before):
        assert not keeps_rows_apart(module, line_length=16)
    assert keeps_rows_apart(module, line_length=16)


def test_flash_attention_does_not_pack_several_lines() -> None:
    module = small("llama")
    module.config._attn_implementation = "flash_attention_2"
    assert not keeps_rows_apart(module, line_length=16)


def test_positions_as_few_as_a_shortest_row_are_enough_to_ask() -> None:
    assert keeps_rows_apart(small("gpt2", max_position_embeddings=8, n_positions=8), line_length=8)


def test_a_document_of_one_token_gets_no_row_of_its_own() -> None:
    rows = pad(
        Documents.of([np.array([5]), np.arange(3, 20)]), sequence_length=16, pad_token_id=PAD
    )
    assert [len(part) for part in rows.parts] == [16]
    assert rows.padding_share == 0
