"""GGUF files of small models, held against transformers by llama.cpp itself."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError
from pipeline.llamacpp import write
from pipeline.llamacpp.agreement import (
    Agreement,
    Prompt,
    check_installed,
    compare_with_llama_cpp,
    make_reference,
)
from pipeline.llamacpp.architectures import context_length
from pipeline.llamacpp.pretokenizers import PRE_TOKENIZERS, match_pre_tokenizer
from pipeline.llamacpp.read import read_gguf
from pipeline.llamacpp.vocabulary import USER_DEFINED, Controls, vocabulary_of
from pipeline.llamacpp.write import check_types, write_gguf
from pipeline.models.language import language_model
from tests.small_llamas import SPECIAL, TEMPLATE, TEXTS, byte_level, save, sentence_pieces

pytestmark = pytest.mark.enable_socket

GPT2, SMOLLM, QWEN2, LLAMA3, TEKKEN = PRE_TOKENIZERS
_LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
MODELS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "llama": (SMOLLM, "llama", {}),
    "llama, tied": (GPT2, "llama", {"tie_word_embeddings": True, "head_dim": 32}),
    "llama with biases": (GPT2, "llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3": (LLAMA3, "llama", {"rope_parameters": _LLAMA3_ROPE}),
    "llama, stretched": (SMOLLM, "llama", {"rope_parameters": _LINEAR_ROPE}),
    "llama 2": ("pieces", "llama", {}),
    "mistral": (TEKKEN, "mistral", {"sliding_window": None}),
    "mistral with a window": ("pieces", "mistral", {"sliding_window": 128}),
    "qwen2": (QWEN2, "qwen2", {}),
    "qwen3": (QWEN2, "qwen3", {"tie_word_embeddings": True}),
    "gemma": ("pieces, no space", "gemma", {"hidden_act": "gelu_pytorch_tanh"}),
}


def _tokenizer(which: Any) -> Any:
    if isinstance(which, str):
        return sentence_pieces(prepend=which == "pieces")
    return byte_level(which)


def _controls(folder: Path, *, is_chat: bool = True) -> Controls:
    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["<s>", "</s>", "<|end|>"])
    ends = tuple(sorted(ids[1:])) if is_chat else (ids[1],)
    return Controls(ids[0], ids[1], None, ids[1], ends, False, TEMPLATE if is_chat else None)


def _write(folder: Path, kind: str, *, is_chat: bool = True) -> Path:
    path = folder / f"model-{kind}.gguf"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    controls = _controls(folder, is_chat=is_chat)
    write_gguf(
        folder, tokenizer, controls, path, name="model", kind=kind, on_progress=lambda *_: None
    )
    return path


def _agreement(
    folder: Path, path: Path, *, is_chat: bool = True, texts: Sequence[str] = TEXTS
) -> Agreement:
    source = StageInput("model", "policy", str(folder))
    model = language_model(source, form="chat" if is_chat else "document", precision="fp32")
    prompts = [Prompt(turns=(("user", text),)) if is_chat else Prompt(text=text) for text in texts]
    context = context_length(json.loads((folder / "config.json").read_text()))
    expected = make_reference(model, prompts, lambda *_: None, context=context)
    return compare_with_llama_cpp(path, path.stem, expected, lambda *_: None)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return save(byte_level(SMOLLM), tmp_path / "llama", "llama")


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_writes_the_tokens_that_transformers_does(tmp_path: Path, name: str) -> None:
    which, kind, fields = MODELS[name]
    folder = save(_tokenizer(which), tmp_path / "model", kind, **fields)
    found = _agreement(folder, _write(folder, "f32"))
    assert found.same_ids == found.prompts >= 3  # one is too long for 128 tokens and a response
    assert found.tokens > 100  # no response that ends at once
    # Two tokens that are as likely may change places: llama.cpp keeps keys and values in fp16.
    assert found.same_tokens >= found.tokens - 3, found
    assert found.loss < 0.01, found


def test_a_text_is_continued_from_the_tokens_it_was_trained_on(llama: Path) -> None:
    found = _agreement(llama, _write(llama, "f32", is_chat=False), is_chat=False)
    assert found.same_ids == 4
    assert found.same_tokens >= found.tokens - 3, found


def test_what_llama_cpp_does_otherwise_is_counted_and_its_cost_measured(llama: Path) -> None:
    rounded = _agreement(llama, _write(llama, "q4_0"))
    assert rounded.same_ids == 4
    assert rounded.equal < 4
    assert 0 < rounded.tokens - rounded.same_tokens < rounded.tokens
    assert rounded.loss > 0
    assert rounded.widest >= rounded.loss * 4 / (rounded.tokens - rounded.same_tokens) - 1e-6
    assert f"{rounded.equal} of 4 greedy responses equal" in rounded.sentence()
    other = shutil.copytree(llama, llama.with_name("other"))
    weights = load_file(other / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert _agreement(llama, _write(other, "f32")).equal < 4


def test_a_tokenizer_under_the_wrong_name_is_seen(llama: Path) -> None:
    tokenizer = json.loads((llama / "tokenizer.json").read_text())
    assert vocabulary_of(tokenizer, 500, "here", is_chat=True).pre == "smollm"
    other = shutil.copytree(llama, llama.with_name("other"))
    cut, in_bytes = QWEN2.steps
    steps = [cut, {**in_bytes, "trim_offsets": True}]
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert _agreement(llama, _write(other, "f32")).same_ids < 4


def test_a_file_is_read_back_as_the_same_model_and_tokenizer(llama: Path) -> None:
    module, tokenizer = read_gguf(_write(llama, "f32"))
    stored = load_file(llama / "model.safetensors")
    for name, weights in module.state_dict().items():
        assert torch.equal(weights, stored[name]), name
    before = AutoTokenizer.from_pretrained(llama)
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == before(text)["input_ids"]
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "</s>"
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    assert match_pre_tokenizer(described).name == "smollm"  # to transformers this name says nothing


def test_tensors_whose_rows_are_no_whole_blocks_stay_f16_and_are_counted(tmp_path: Path) -> None:
    folder = save(byte_level(GPT2), tmp_path / "model", "llama", intermediate_size=80)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    path = tmp_path / "model.gguf"
    written = write_gguf(
        folder, tokenizer, _controls(folder), path, name="m", kind="q8_0",
        on_progress=lambda *_: None,
    )  # fmt: skip
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    assert written.kept_f16 == 2
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"
    assert types["output_norm.weight"] == "F32"


def test_rounding_is_that_of_the_type(llama: Path) -> None:
    stored = load_file(llama / "model.safetensors")["model.embed_tokens.weight"].numpy()
    reach = np.abs(stored).max()
    for kind, most in (("f16", 2**-11), ("bf16", 2**-8), ("q8_0", 1 / 127)):
        tensors = {each.name: each for each in GGUFReader(_write(llama, kind)).tensors}
        held = tensors["token_embd.weight"]
        found = dequantize(held.data, held.tensor_type)
        assert 0 < np.abs(found - stored).max() <= most * reach


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("gpt2", {}, "a GGUF of a `gpt2` cannot be written"),
        ("llama", {"hidden_act": "gelu"}, "its activation is `gelu`"),
        ("qwen3", {"attention_bias": True}, "its attention has biases"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, "a sliding window"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
         "scaled by `dynamic`"),
    ],
)  # fmt: skip
def test_what_would_be_another_model_there_is_refused(
    tmp_path: Path, kind: str, fields: dict[str, Any], said: str
) -> None:
    folder = save(byte_level(GPT2), tmp_path / "model", kind, **fields)
    with pytest.raises(PosttrainError, match=said):
        _write(folder, "f16")
    assert not list(folder.glob("*.gguf"))


def test_a_tokenizer_that_llama_cpp_would_apply_otherwise_is_refused(llama: Path) -> None:
    described = json.loads((llama / "tokenizer.json").read_text())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "none of gpt-2, smollm"),
        ({"normalizer": {"type": "Lowercase"}}, r"changes texts \(Lowercase\)"),
        ({"model": {"type": "Unigram", "vocab": []}}, "is a Unigram, not BPE"),
        ({"added_tokens": [{"id": 0, "content": "<s>", "special": True, "rstrip": True}]},
         "takes in the white space"),
    ]  # fmt: skip
    for change, said in changes:
        with pytest.raises(PosttrainError, match=said):
            vocabulary_of({**described, **change}, 500, "here", is_chat=True)
    pieces = json.loads(sentence_pieces().backend_tokenizer.to_str())
    merges = pieces["model"]["merges"]
    way = next(pair for pair in merges if "".join(pair) == "\u2581the")
    without = [pair for pair in merges if pair != way]
    for changed in (without, [*without, way], merges[1:]):
        pieces["model"]["merges"] = changed
        with pytest.raises(PosttrainError, match="do not come from SentencePiece"):
            vocabulary_of(pieces, 500, "here", is_chat=True)


def test_a_weight_beyond_f16_is_named(llama: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PosttrainError, match=r"`blk.1.ffn_up.weight` has a weight beyond 65504"):
        _write(llama, "f16")
    _write(llama, "bf16")


def test_types_and_a_missing_package_are_told_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert check_types(["F16", "q8_0", "f16"]) == ("f16", "q8_0")
    with pytest.raises(PosttrainError, match=r"`q4_k_m` is no type.*llama-quantize"):
        check_types(["q4_k_m"])
    monkeypatch.setattr(write, "find_spec", lambda _: None)
    with pytest.raises(PosttrainError, match=r"`gguf`, which is not.*'posttrain\[gguf\]'"):
        check_types(["f16"])
    check_installed()
    monkeypatch.setattr("pipeline.llamacpp.agreement.find_spec", lambda _: None)
    with pytest.raises(PosttrainError, match=r"`xllamacpp` .* not installed.*'posttrain\[gguf\]'"):
        check_installed()


def test_an_added_token_without_a_row_is_left_out_and_rows_without_a_token_are_filled(
    llama: Path,
) -> None:
    described = json.loads((llama / "tokenizer.json").read_text())
    described["added_tokens"].append({"id": 505, "content": "<pad>", "special": True})
    found = vocabulary_of(described, 410, "here", is_chat=True)
    assert len(found.tokens) == len(found.types) == 410
    assert "<pad>" not in found.tokens
    assert found.tokens[409] == "[PAD409]"
    assert [found.types[number] for number in (0, 10, 409)] == [3, 1, 5]
    assert found.tokens[: len(SPECIAL)] == list(SPECIAL)


def test_added_words_are_read_whole_by_both(tmp_path: Path) -> None:
    tokenizer = byte_level(LLAMA3)
    tokenizer.add_tokens(["<think>", "Section 5A"])
    folder = save(tokenizer, tmp_path / "model", "llama")
    path = _write(folder, "f32")
    types = GGUFReader(path).fields["tokenizer.ggml.token_type"].contents()
    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["<think>", "Section 5A"])
    assert [types[number] for number in ids] == [USER_DEFINED, USER_DEFINED]
    texts = ("Under Section 5A of it, <think>12 Section 5</think>", " Section 5A<think>")
    found = _agreement(folder, path, texts=texts)
    assert found.same_ids == found.prompts == 2
