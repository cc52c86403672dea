"""The stage `distill` through the command line: what it leaves, and what `check` refuses where."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, Said, command

_MODEL = "{architecture: llama, tokenizer: $tokenizer, hidden_size: %d, intermediate_size: 32, "
_MODEL += "num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 192}"
_BASE = "stage: pretrain, data: {task: arithmetic}, tokens: 4k, sequence_length: 64"
_ARGUMENTS = "{max_steps: 2, max_completion_length: 8, learning_rate: 1e-3}"
_RECIPE = f"""
name: tiny
stages:
  tokenizer: {{stage: tokenizer, data: {{task: arithmetic}}, vocab_size: 300}}
  large: {{{_BASE}, model: {_MODEL % 24}}}
  small: {{{_BASE}, model: {_MODEL % 16}}}
  told:
    stage: generate
    model: $large
    prompts: {{task: arithmetic, rows: 24}}
    num_samples: 1
    max_new_tokens: 8
  asked:
    stage: distill
    model: $small
    teacher: $large
    prompts: {{task: arithmetic, rows: 40}}
    batch_size: 8
    training_args: {_ARGUMENTS}
  given:
    stage: distill
    model: $small
    teacher: $large
    data: $told
    batch_size: 8
    training_args: {_ARGUMENTS}
"""


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A folder in which the recipe has run, and what that said."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yaml").write_text(_RECIPE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        from tests.forked import run_forked, warm

        warm()
        ended = run_forked(folder / "tiny.yaml", folder / "runs")
    return folder, Said(ended.code or 0, ended.output, "")


def metrics_of(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "runs" / "tiny" / stage / "artifact.json").read_text())["metrics"]


def test_the_distance_to_the_teacher_is_measured_before_and_after(made: tuple[Path, Said]) -> None:
    folder, said = made
    assert said.code == 0, said.out
    metrics = metrics_of(folder, "asked")
    assert metrics["prompts_used"] == 40
    assert metrics["teacher_kl_before"] > 0
    assert metrics["teacher_kl"] != metrics["teacher_kl_before"]
    logged = (folder / "runs" / "tiny" / "asked" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in logged]
    gaps = [line["teacher/divergence"] for line in lines if "objective/kl" in line]
    assert len(gaps) == 2
    assert min(gaps) > 0


def test_rows_of_the_teachers_are_learnt_with_the_tokens_that_sft_would_train(
    made: tuple[Path, Said],
) -> None:
    folder, _ = made
    metrics = metrics_of(folder, "given")
    rows = (folder / "runs" / "tiny" / "told" / "rows.jsonl").read_text().splitlines()
    assert metrics["rows_used"] == len(rows)
    assert metrics["trained_tokens"] > len(rows)
    logged = (folder / "runs" / "tiny" / "given" / "metrics.jsonl").read_text().splitlines()
    shares = [json.loads(line).get("objective/given_share") for line in logged]
    assert [share for share in shares if share is not None] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("asked.training_args.lmbda", "0.5", "`prompts` have none"),
        ("asked.training_args.beta", "2", "`beta` is 2; it must be at most 1"),
        ("asked.training_args.gamma", "0.5", "a divergence has none"),
        ("asked.training_args.num_generations", "4", "is to compare rewards"),
        ("asked.teacher", "$small", "the teacher is the student itself"),
        ("asked.missing_eos_penalty", "1", "there is no `reward`"),
        ("given.reward", "{verify: all}", "`reward` is for responses to `prompts`"),
        ("given.training_args.loss_type", "policy_gradient", "leave `lmbda` out"),
        ("given.prompts", "{task: arithmetic}", "this has both of them"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_check(
    key: str,
    value: str,
    message: str,
    tmp_path: Path,
    posttrain: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(_RECIPE)
    said = posttrain("check", "tiny.yaml", "--set", f"stages.{key}={value}")
    assert said.code == 2
    assert message in f"{said.out} {said.err}".replace("\n", " ")


def test_a_teacher_with_another_tokenizer_is_refused_where_it_is_named(
    made: tuple[Path, Said], tmp_path: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = (made[0] / "runs" / "tiny" / "large").resolve()
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(_RECIPE.replace("vocab_size: 300", "vocab_size: 310"))
    assert posttrain("run", "tiny.yaml", "--until", "small").code == 0
    place = _RECIPE.splitlines().index("    teacher: $large") + 1
    text = Path("tiny.yaml").read_text().replace("teacher: $large", f"teacher: {large}", 1)
    Path("tiny.yaml").write_text(text)
    said = posttrain("check", "tiny.yaml")
    assert said.code == 2
    told = f"{said.out} {said.err}".replace("\n", " ")
    assert f"tiny.yaml:{place}:14" in told
    assert "has another vocabulary" in told
