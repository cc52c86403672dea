"""Rows laid end to end: nothing is lost, nothing leaks, the loss is that of padded rows."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.data.encoding.examples import IGNORED
from pipeline.training.bins import OWNER, Bins, why_padded
from tests.small_architectures import small

PAD = 0
LENGTHS = (9, 3, 4, 7, 2, 9, 5, 1)


@pytest.fixture
def rows() -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for length in LENGTHS:
        ids = torch.randint(1, 50, (length,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [IGNORED] * (length // 2) + ids[length // 2 :]})
    return made


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def test_every_row_stands_whole_in_one_line(rows) -> None:
    batch = Bins(PAD)(rows)
    assert batch["input_ids"].shape == (5, 9)  # 40 tokens: 8 rows padded would be 72
    for number, row in enumerate(rows):
        place = batch[OWNER] == number
        assert batch["input_ids"][place].tolist() == row["input_ids"]
        assert batch["position_ids"][place].tolist() == list(range(len(row["input_ids"])))
        assert place.any(-1).sum() == 1
    assert (batch["labels"][batch[OWNER] < 0] == IGNORED).all()


def test_the_loss_is_that_of_every_row_alone(rows, model) -> None:
    batch = Bins(PAD)(rows)
    batch.pop(OWNER)
    num_scored = sum(label != IGNORED for row in rows for label in row["labels"][1:])
    together = model(**batch, num_items_in_batch=num_scored).loss
    alone = sum(
        model(
            input_ids=torch.tensor([row["input_ids"]]),
            labels=torch.tensor([row["labels"]]),
            num_items_in_batch=num_scored,
        ).loss
        for row in rows
        if len(row["input_ids"]) > 1
    )
    assert float(together) == pytest.approx(float(alone), abs=1e-6)


def test_rows_stay_padded_where_positions_alone_would_not_keep_them_apart(model) -> None:
    assert why_padded(model, longest=9) is None
    said = why_padded(small("bloom"), longest=9)
    assert said == "since bloom does not keep packed rows apart"
