"""Model folders that plan, check and adopt refuse in one line, without importing torch."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Command

RECIPE = """\
name: small
stages:
  sft:
    stage: sft
    model: ./model
    data: {file: rows.jsonl}
    LORA
"""
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
SIZES = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 300}
INDEX = json.dumps({"weight_map": {"a.weight": "../secret.safetensors"}})
BAD = {
    "a pointer": ({"model.safetensors": POINTER}, "model.safetensors: is a git-lfs pointer", 2),
    "no object": ({"config.json": "5"}, "config.json: holds a int", 4),
    "endless": (
        {"config.json": json.dumps({**SIZES, "num_hidden_layers": 10**9})},
        "config.json: `num_hidden_layers` is 1e+09, which cannot be",
        2,
    ),
    "elsewhere": ({"model.safetensors.index.json": INDEX}, "names `../secret.safetensors`", 2),
    "a template": (
        {"model.safetensors": POINTER, "chat_template.jinja": "{% for"},
        "git-lfs",
        2,
    ),
}


@pytest.mark.parametrize("command", ["plan", "check", "why"])
@pytest.mark.parametrize(("files", "says", "code"), BAD.values(), ids=BAD)
def test_a_broken_model_is_found_before_anything_runs(
    posttrain: Command, tmp_path: Path, command: str, files: dict[str, str], says: str, code: int
) -> None:
    _write(tmp_path, files)
    began_s = time.process_time()
    said = posttrain(command, "recipe.yaml", *(["sft"] if command == "why" else []))
    assert time.process_time() - began_s < 5
    assert said.code == code
    assert says in said.err
    assert said.err.count("\n") == 1


def test_what_is_adopted_is_looked_at_first(posttrain: Command, tmp_path: Path) -> None:
    _write(tmp_path, {"model.safetensors": POINTER})
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("./model", "a/b@c").replace("LORA", ""))
    said = posttrain("adopt", "recipe.yaml", "sft", "model")
    assert said.code == 2
    assert "is a git-lfs pointer" in said.err
    assert not list(tmp_path.glob("runs/**/config.json"))


@pytest.mark.parametrize("field", ["target_modules: ", "exclude_modules: "])
def test_a_pattern_without_end_is_refused(posttrain: Command, tmp_path: Path, field: str) -> None:
    _write(tmp_path, {})
    lora = "lora: {" + field + "'(([a-z._0-9]+)+)+!'}"
    text = RECIPE.replace("./model", "a/b@c").replace("LORA", lora)
    (tmp_path / "recipe.yaml").write_text(text)
    said = posttrain("plan", "recipe.yaml")
    assert said.code == 2
    assert "recipe.yaml:7:" in said.err
    assert "takes over 2 s" in said.err


def test_a_new_model_that_no_machine_could_make_is_refused(
    posttrain: Command, tmp_path: Path
) -> None:
    text = """\
name: small
stages:
  t: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $t, hidden_size: 32, num_hidden_layers: 99999999}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
    batch_size: 8
"""
    (tmp_path / "recipe.yaml").write_text(text)
    said = posttrain("plan", "recipe.yaml")
    assert said.code == 2
    assert "99,999,999 layers with" in said.err
    assert "TB of memory; this machine has" in said.err


def _write(folder: Path, files: dict[str, str]) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace("LORA", ""))
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    (folder / "model").mkdir()
    for name, text in {"config.json": json.dumps(SIZES), **files}.items():
        (folder / "model" / name).write_text(text)
