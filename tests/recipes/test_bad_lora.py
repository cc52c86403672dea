"""Adapters that cannot work, refused at `plan`: exit code 2 and one line, importing no torch."""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line

RECIPE = """\
name: bad
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
  first: {stage: sft, model: MODEL, data: {task: arithmetic}, lora: FIRST}
  second: {stage: dpo, model: $first, data: {task: arithmetic}, lora: SECOND}
"""
TOKENS = "{trainable_token_indices: [3]}"
PLAIN = "{r: 4}"
CASES = [
    ("$base", "{use_dora: true}", PLAIN, "with `use_dora`, the adapter it is built on cannot be"),
    ("$base", PLAIN, "{target_parameters: [x]}", "with `target_parameters`, this adapter cannot"),
    ("$base", TOKENS, PLAIN, "`trainable_token_indices` changes tied output embeddings too"),
    ("./tied", TOKENS, PLAIN, "`trainable_token_indices` changes tied output embeddings too"),
    ("$base", "{target_modules: [q_proj, lm_head]}", PLAIN, "so an adapter on it learns nothing"),
    ("./moe", PLAIN, PLAIN, "this adapter reaches the fused experts of qwen3_moe"),
    ("./moe", PLAIN, "{target_modules: [q_proj]}", "built on reaches the fused experts of qwen3_"),
    ("./dora", PLAIN, PLAIN, "with `use_dora`, the adapter it is built on cannot be made one"),
    (
        "$base",
        "{modules_to_save: [embed_tokens]}",
        "{target_modules: [embed_tokens]}",
        "`embed_tokens` is trained whole by one adapter and by rank by the other",
    ),
]


@pytest.mark.parametrize(("model", "first", "second", "said"), CASES)
def test_an_adapter_that_cannot_work_is_refused_at_plan(
    model: str, first: str, second: str, said: str, tmp_path: Path, posttrain: Command
) -> None:
    for name, file, given in (
        ("tied", "config.json", {"tie_word_embeddings": True}),
        ("dora", "config.json", {}),
        ("moe", "config.json", {"model_type": "qwen3_moe"}),
        ("dora", "adapter_config.json", {"use_dora": True, "base_model_name_or_path": "../tied"}),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(json.dumps(given))
    text = RECIPE.replace("MODEL", model).replace("FIRST", first).replace("SECOND", second)
    (tmp_path / "bad.yaml").write_text(text)
    assert is_like(the_line(posttrain("plan", "bad.yaml")), f"bad.yaml:...{said}...")
