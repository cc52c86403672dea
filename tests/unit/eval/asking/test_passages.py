"""Texts, chats and pairs that are read: what of them is measured, and in which windows."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from eval.asking.loglik import continuation_logprobs, windows
from eval.asking.passages import Passage, read
from eval.comparison.score_rows import compare_scores
from eval.model import Form, LanguageModel
from eval.results import ItemResult
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.encoding.passages import passages_of
from pipeline.data.reading.data_blocks import read_held_out_rows
from pipeline.models.language import wrap
from tests.small_folders import small_tokenizer

CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Two it is."},
]


@pytest.fixture(scope="module")
def module() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def model_of(module: LlamaForCausalLM, form: Form) -> LanguageModel:
    tokenizer = small_tokenizer()
    if form == "document":
        tokenizer.chat_template = None
    return wrap(module, tokenizer, name=form, form=form)


def measured(
    model: LanguageModel, folder: Path, *rows: Any, window: int | None = None
) -> list[ItemResult]:
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_held_out_rows(DataBlock(file="mine.jsonl"), Places(folder), at_most=99)
    return read(model, "mine.jsonl", passages_of(found, model), batch_size=4, window=window)


def nats(model: LanguageModel, before: str, after: str) -> float:
    """What it costs to go on from a rendered text, control tokens and all."""
    ids = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after)]
    return -continuation_logprobs(model, [(ids[0], ids[1])], batch_size=1)[0]


def test_each_message_of_the_assistant_is_measured_after_what_stands_before_it(module, tmp_path):
    model = model_of(module, "chat")
    first, second = measured(model, tmp_path, {"messages": CHAT})
    begun = "<|user|>Hi<|end|><|assistant|>"
    expected = nats(model, begun, "Hello.")
    assert first.score == pytest.approx(expected / math.log(2) / len("Hello."), rel=1e-4)
    whole = f"{begun}Hello.<|end|><|user|>Two?<|end|><|assistant|>"
    expected = nats(model, whole, "Two it is.")
    assert second.score == pytest.approx(expected / math.log(2) / len("Two it is."), rel=1e-4)
    assert [each.weight for each in (first, second)] == [len("Hello."), len("Two it is.")]
    assert [each.group for each in (first, second)] == ["1", "2"]
    assert {each.form for each in (first, second)} == {"chat"}


def test_a_model_without_a_template_reads_a_transcript_of_the_same_items(module, tmp_path):
    base, chat = model_of(module, "document"), model_of(module, "chat")
    read_by_base = measured(base, tmp_path, {"messages": CHAT})
    read_by_chat = measured(chat, tmp_path, {"messages": CHAT})
    assert [each.item for each in read_by_base] == [each.item for each in read_by_chat]
    expected = nats(base, "User: Hi\n\nAssistant:", " Hello.")
    assert read_by_base[0].score == pytest.approx(expected / math.log(2) / len("Hello."), rel=1e-4)
    assert read_by_base[0].form == "document"
    rows = compare_scores({"base": read_by_base, "chat": read_by_chat}, "base")
    assert [row.metric for row in rows] == ["bits_per_byte", "bits_per_byte"]
    assert rows[1].delta == pytest.approx(rows[1].score - rows[0].score)


def test_the_better_response_of_a_pair_is_measured_and_ranked(module, tmp_path):
    model = model_of(module, "chat")
    pair = {"prompt": CHAT[:1], "chosen": CHAT[1:2], "rejected": [{**CHAT[1], "content": "No!"}]}
    bits, ranking = measured(model, tmp_path, pair)
    begun = "<|user|>Hi<|end|><|assistant|>"
    chosen, rejected = nats(model, begun, "Hello."), nats(model, begun, "No!")
    assert bits.score == pytest.approx(chosen / math.log(2) / len("Hello."), rel=1e-4)
    assert (ranking.metric, ranking.score) == ("ranking_accuracy", float(chosen < rejected))
    swapped = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
    assert measured(model, tmp_path, swapped)[1].score == 1 - ranking.score
    assert bits.item == ranking.item


def test_a_completion_is_measured_after_its_prompt_and_a_text_whole(module, tmp_path):
    model = model_of(module, "document")
    (found,) = measured(model, tmp_path, {"prompt": "2 + 2 =", "completion": " 4"})
    assert found.score == pytest.approx(nats(model, "2 + 2 =", " 4") / math.log(2) / 2, rel=1e-4)
    (found,) = measured(model, tmp_path, {"text": "abc"})
    bits = nats(model, "a", "bc") / math.log(2) + math.log2(264)  # nothing predicts the first one
    assert found.score == pytest.approx(bits / 3, rel=1e-4)


def test_rows_that_nothing_can_be_learnt_from_are_left_out(module, tmp_path):
    model = model_of(module, "chat")
    same = {"prompt": CHAT[:1], "chosen": CHAT[1:2], "rejected": CHAT[1:2]}
    better = {**same, "rejected": [{**CHAT[1], "content": "No!"}]}
    assert len(measured(model, tmp_path, same, better)) == 2


@pytest.mark.parametrize("context", [0, 1, 5, 7, 40])
@pytest.mark.parametrize("length", [1, 3, 8, 30])
def test_every_token_is_scored_once_within_the_window(module, context: int, length: int):
    model = model_of(module, "chat")
    before, ids = list(range(100, 100 + context)), list(range(length))
    whole = before + ids
    found = windows(model, before, ids, 8)
    scored = [token for _, some in found for token in some]
    assert scored == (ids if context else ids[1:])
    at = context or 1
    for given, some in found:
        assert given
        assert len(given) + len(some) <= 8
        assert whole[at - len(given) : at + len(some)] == given + some
        at += len(some)


def test_a_long_context_loses_its_beginning_and_nothing_else(module, tmp_path):
    model = model_of(module, "chat")
    long = [{"role": "user", "content": "x" * 300}, {"role": "assistant", "content": "Yes."}]
    (found,) = measured(model, tmp_path, {"messages": long}, window=64)
    kept = nats(model, "x" * (64 - 4 - 2) + "<|end|><|assistant|>", "Yes.")
    assert found.score == pytest.approx(kept / math.log(2) / 4, rel=1e-4)


def test_an_empty_passage_has_no_score(module):
    empty = Passage("0", "", "", [], [])
    (found,) = read(model_of(module, "chat"), "mine", [empty], batch_size=1)
    assert found.score is None
    assert found.reason == "the document is empty"
