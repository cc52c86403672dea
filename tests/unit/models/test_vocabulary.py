"""Tokens that a model's embedding has no row for: refused where they are read, else no matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError
from pipeline.model_files.folder import check_folder
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.models.new import new_policy
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.sampling import sampling_of
from tests.small_folders import TEMPLATE, small_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast


def _model(rows: int, **fields: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    module = LlamaForCausalLM(config)
    for name, value in fields.items():
        setattr(module.config, name, value)
    return module


def _saved(folder: Path, tokenizer: PreTrainedTokenizerFast, **fields: int) -> StageInput:
    _model(len(small_tokenizer()), **fields).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return StageInput("the model", "policy", str(folder))


def _with_padding() -> PreTrainedTokenizerFast:
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return tokenizer


def test_padding_without_a_row_becomes_a_token_that_has_one(tmp_path: Path) -> None:
    source = _saved(tmp_path, _with_padding())
    tokenizer = load_tokenizer(source)
    assert len(tokenizer) == len(small_tokenizer()) + 1
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    check_folder(tmp_path)


def test_padding_that_has_a_row_stays(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.pad_token = "<|begin|>"
    assert load_tokenizer(_saved(tmp_path, tokenizer)).pad_token == "<|begin|>"


def test_a_config_whose_padding_has_no_row_can_be_loaded(tmp_path: Path) -> None:
    source = _saved(tmp_path, _with_padding(), pad_token_id=len(small_tokenizer()))
    ids = torch.tensor([[5, 6, 7]])
    expected = _model(len(small_tokenizer()))(ids).logits
    assert torch.equal(load_policy(source)(ids).logits, expected)


@pytest.mark.parametrize("special", [True, False])
def test_a_token_of_the_template_without_a_row_is_named(tmp_path: Path, special: bool) -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<|turn|>"], special_tokens=special)
    tokenizer.chat_template = TEMPLATE.replace("<|end|>", "<|turn|>")
    rows = len(small_tokenizer())
    with pytest.raises(PosttrainError) as caught:
        load_tokenizer(_saved(tmp_path, tokenizer))
    line = str(caught.value)
    assert f"`<|turn|>` has the id {rows}, and the embedding {rows} rows" in line
    assert f"{rows + 1} tokens" in line
    assert "resize_token_embeddings" in line
    with pytest.raises(PosttrainError) as at_plan:
        check_folder(tmp_path)
    assert str(at_plan.value).endswith(line.partition(": ")[2])


def test_a_token_that_the_template_puts_together_is_found(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<|user#|>"], special_tokens=True)
    tokenizer.chat_template = TEMPLATE.replace("+ '|>' + m['content']", "+ '#|>' + m['content']")
    with pytest.raises(PosttrainError, match="user#"):
        load_tokenizer(_saved(tmp_path, tokenizer))


def test_a_word_without_a_row_is_named(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<dog>"])
    with pytest.raises(PosttrainError, match="`<dog>`"):
        load_tokenizer(_saved(tmp_path, tokenizer))
    with pytest.raises(PosttrainError, match="`<dog>`"):
        check_folder(tmp_path)


def test_a_special_token_that_is_never_read_needs_no_row(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)  # as Gemma 3 1B has it
    assert "<image>" in load_tokenizer(_saved(tmp_path, tokenizer)).get_vocab()
    check_folder(tmp_path)


def test_ppo_forbids_no_other_token_for_padding_without_a_row(tmp_path: Path) -> None:
    args = PPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    rows = len(small_tokenizer())
    how = sampling_of(_model(rows), _with_padding(), args)
    assert how.forbidden_ids == ()
    assert how.pad_token_id < rows
    resized = sampling_of(_model(rows + 1), _with_padding(), args)
    assert resized.forbidden_ids == (rows,)


def test_a_new_model_has_a_row_for_each_token() -> None:
    with pytest.raises(ValueError, match="`vocab_size` 100 is less"):
        new_policy("llama", {"vocab_size": 100}, small_tokenizer())
