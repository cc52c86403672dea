"""Packed documents do not see each other, and nothing is lost."""

import random
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.data.documents import IGNORED, Documents
from pipeline.data.encoding.packing import pack
from pipeline.errors import PosttrainError

PAD = 0


def documents(lengths: list[int]) -> list[np.ndarray]:
    """Documents of different tokens, none of them PAD."""
    generator = np.random.default_rng(7)
    return [generator.integers(1, 64, length, dtype=np.int32) for length in lengths]


def unpacked(packed) -> list[tuple[int, ...]]:
    """The documents in packed rows, by a loop over their positions; padding left out."""
    found: list[tuple[int, ...]] = []
    for number in range(len(packed)):
        ids, positions, labels, _ = packed.row(number)
        for place in range(len(ids)):
            if positions[place] == 0:
                found.append(())
            found[-1] += (int(ids[place]),)
            is_first_or_padding = positions[place] == 0 or ids[place] == PAD
            assert labels[place] == (IGNORED if is_first_or_padding else ids[place])
    return [each for each in found if PAD not in each]


def test_every_document_is_in_one_row_whole() -> None:
    chance = random.Random(3)
    given = documents([chance.randint(1, 40) for _ in range(500)])
    packed = pack(Documents.of(given), sequence_length=40, pad_token_id=PAD)
    assert sorted(unpacked(packed)) == sorted(tuple(each.tolist()) for each in given)
    assert packed.num_loss_tokens == sum(len(each) - 1 for each in given)
    assert packed.padding_share < 0.05
    num_padding = sum(int((packed.row(row)[0] == PAD).sum()) for row in range(len(packed)))
    assert num_padding == 40 * len(packed) - sum(map(len, given))


def test_a_document_longer_than_a_row_is_split_and_none_of_it_lost() -> None:
    (long, short) = documents([95, 6])
    packed = pack(Documents.of([long, short]), sequence_length=20, pad_token_id=PAD)
    parts = [tuple(long[at : at + 20].tolist()) for at in range(0, 95, 20)]
    assert sorted(unpacked(packed)) == sorted([*parts, tuple(short.tolist())])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_of_a_packed_document_are_those_of_the_document_alone(attention: str) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=attention,
    )
    model = LlamaForCausalLM(config).eval()
    given = documents([9, 5, 7, 1, 1, 12, 3, 16])
    packed = pack(Documents.of(given), sequence_length=16, pad_token_id=PAD)
    assert packed.padding_share > 0
    dataset = packed.dataset()
    batch = packed.collate([dataset[number] for number in range(len(dataset))])
    assert batch.pop("row").tolist() == list(range(len(dataset)))
    assert set(batch) == {"input_ids", "position_ids", "labels", "use_cache"}
    ids, positions = batch["input_ids"], batch["position_ids"]
    compared = 0
    with torch.no_grad():
        logits = model(**batch).logits
        for row in range(len(dataset)):
            begins = [*(positions[row] == 0).nonzero().flatten().tolist(), 16]
            for begin, end in pairwise(begins):
                alone = model(ids[row : row + 1, begin:end]).logits[0]
                assert (logits[row, begin:end] - alone).abs().max() <= 1e-5
                compared += 1
    assert compared > len(given)  # the padding of a row, too


def test_the_loss_of_packed_rows_is_that_of_the_documents_alone() -> None:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model = LlamaForCausalLM(config).eval()
    given = documents([9, 5, 7, 12, 3, 16])
    packed = pack(Documents.of(given), sequence_length=16, pad_token_id=PAD)
    dataset = packed.dataset()
    with torch.no_grad():
        loss = model(**packed.collate([dataset[number] for number in range(len(dataset))])).loss
        total = 0.0
        for each in given:
            ids = torch.from_numpy(each).long()[None]
            total += float(model(input_ids=ids, labels=ids).loss) * (len(each) - 1)
    assert float(loss) == pytest.approx(total / packed.num_loss_tokens, abs=1e-5)


def test_packing_is_the_same_each_time_and_quick() -> None:
    chance = random.Random(3)
    given = documents([chance.randint(5, 25) for _ in range(30_000)])
    began_s = time.monotonic()
    packed = pack(Documents.of(given), sequence_length=256, pad_token_id=PAD)
    took_s = time.monotonic() - began_s
    again = pack(Documents.of(given), sequence_length=256, pad_token_id=PAD)
    assert np.array_equal(packed.owners, again.owners)
    assert np.array_equal(packed.ends, again.ends)
    assert packed.padding_share < 0.02
    assert took_s < 20  # measured: 0.4 s


@pytest.mark.parametrize(("longest", "length"), [(30, 64), (300, 64), (50, 200)])
def test_rows_are_those_of_trl_down_to_the_order(longest: int, length: int) -> None:
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    chance = random.Random(longest)
    given = documents([chance.randint(0, longest) for _ in range(9_000)])
    packed = pack(Documents.of(given), sequence_length=length, pad_token_id=PAD)
    theirs = pack_dataset(
        Dataset.from_dict({"input_ids": given}),
        length,
        strategy="bfd_split",
        map_kwargs={"batch_size": 8_192, "keep_in_memory": True},
    )
    assert len(theirs) == len(packed)
    for number in range(len(packed)):
        ids, positions, _, filled = packed.row(number)
        row = theirs[number]
        assert ids[:filled].tolist() == row["input_ids"]
        begins = (positions[:filled] == 0).nonzero().flatten().tolist()
        assert np.diff([*begins, filled]).tolist() == row["seq_lengths"]


def test_nothing_to_pack_is_an_error() -> None:
    with pytest.raises(PosttrainError, match="no documents to pack"):
        pack(Documents.of([np.array([], dtype=np.int32)]), sequence_length=8, pad_token_id=PAD)
