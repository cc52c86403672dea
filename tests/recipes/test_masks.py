"""`check --show-mask`, and what only the encoded rows of a run can show to be wrong."""

import json
import shutil
from pathlib import Path

import pytest

from tests.command import Command, command, is_like, the_line
from tests.forked import run_forked, warm

RECIPE = """\
name: tiny
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 1,
            max_position_embeddings: 1024}
    data: {task: arithmetic}
    tokens: 4k
    sequence_length: 64
    batch_size: 8
  sft:
    stage: sft
    model: $base
    data: {file: chats.jsonl}
    training_args: {max_length: 64, max_steps: 1}
"""
SHORT = {"prompt": "2 + 2 =", "completion": " 4"}
LONG = {"prompt": "2 + " * 40 + "2 =", "completion": " 82"}
CHAT = {
    "messages": [
        {"role": "user", "content": "Hi<|end|>\x1b[31m"},
        {"role": "assistant", "content": "Bye<|assistant|>"},
    ]
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tokenizer and the base model of RECIPE are there."""
    warm()
    folder = tmp_path_factory.mktemp("made")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "chats.jsonl").write_text(json.dumps(SHORT) + "\n")
    ended = run_forked(folder / "recipe.yaml", folder / "runs", until="base")
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def posttrain(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """The command, in a copy of that folder."""
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def write(*rows: object) -> None:
    Path("chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_the_trained_part_of_a_row_is_marked_and_counted(posttrain: Command) -> None:
    write(SHORT, {"prompt": "1 + 1 =", "completion": " 2"}, LONG)
    said = posttrain("check", "recipe.yaml", "--show-mask", "sft", "--rows", "2")
    assert said.code == 0, said
    shown = said.out.splitlines()[-5:]
    assert is_like(shown[0], "chats.jsonl:1: ... tokens, 3 trained")
    assert shown[1] == "2 + 2 =« 4<|endoftext|>»"
    assert shown[3] == "1 + 1 =« 2<|endoftext|>»"
    summary = "chats.jsonl: 2 of 2 rows trained; tokens ..., ...: 6 (...%)"
    assert is_like(shown[4], summary)


def test_control_tokens_and_escapes_in_a_text_stay_text(posttrain: Command) -> None:
    write(CHAT)
    said = posttrain("check", "recipe.yaml", "--show-mask", "sft")
    assert said.code == 0, said
    counts, mask, _ = said.out.splitlines()[-3:]
    assert mask == r"<|user|>Hi[[<|end|>]]\x1b[31m<|end|><|assistant|>«Bye[[<|assistant|>]]<|end|>»"
    # Read as a control token, the text would be 5 tokens: three letters, it, and the end of turn.
    assert int(counts.split()[-2]) > 10, counts


def test_calls_are_learnt_and_tools_and_their_answers_are_not(posttrain: Command) -> None:
    data = "stages.sft.data=[{task: tool_arithmetic, rows: 8}]"
    long = "stages.sft.training_args.max_length=256"
    said = posttrain("check", "recipe.yaml", "--show-mask", "sft", "--set", data, "--set", long)
    assert said.code == 0, said
    called = [line for line in said.out.splitlines() if "«<|system|>" in line]
    assert called
    for line in called:
        assert is_like(
            line,
            "<|system|>calculator(expression: string): Compute the value of an arithmetic "
            "expression.<|end|><|user|>...<|end|><|assistant|>«<|system|>calculator(expression="
            '"...")<|end|>»<|system|>...<|end|><|assistant|>«The answer is ....<|end|>»',
        )


def test_a_local_folder_is_a_model_too(posttrain: Command) -> None:
    write(SHORT)
    model = "stages.sft.model=./runs/tiny/base"
    said = posttrain("check", "recipe.yaml", "--show-mask", "sft", "--set", model)
    assert said.code == 0, said
    assert "2 + 2 =« 4<|endoftext|>»" in said.out


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            (LONG, LONG),
            "chats.jsonl:2: all 2 rows are longer than 64 tokens and leave...; raise ...",
        ),
    ],
)
def test_rows_that_are_too_long_are_named_by_the_mask_and_by_the_run(
    posttrain: Command, tmp_path: Path, rows: tuple[object, ...], line: str
) -> None:
    write(*rows)
    said = the_line(posttrain("check", "recipe.yaml", "--show-mask", "sft"))
    assert is_like(said, line), said
    ended = run_forked(tmp_path / "recipe.yaml", tmp_path / "runs")
    assert ended.code == 2, ended.output
    assert is_like(ended.output.splitlines()[-1], line), ended.output


@pytest.mark.parametrize(
    ("model", "row", "shown"),
    [
        ("$base", {"prompt": "2 + 2 =", "level": 1}, "2 + 2 =«...»"),
        ("./runs/tiny/base", CHAT, r"<|user|>Hi[[<|end|>]]\x1b[31m<|end|><|assistant|>«...»"),
    ],
)
def test_a_prompt_is_shown_up_to_where_the_policy_writes(
    posttrain: Command, model: str, row: dict[str, object], shown: str
) -> None:
    Path("asked.jsonl").write_text(f"{json.dumps(row)}\n" * 2)
    Path("mine.py").write_text("def brevity(completions, **rest): ...\n")
    with Path("recipe.yaml").open("a") as stream:
        stream.write(f"  ppo: {{stage: ppo, model: {model}, prompts: {{file: asked.jsonl}}, ")
        stream.write("reward: {use: 'mine:brevity'}}\n")
    said = posttrain("check", "recipe.yaml", "--show-mask", "ppo", "--rows", "1")
    assert said.code == 0, said
    counts, prompt, summary = said.out.splitlines()[-3:]
    columns = "; columns: level" if "level" in row else ""
    assert is_like(counts, f"asked.jsonl:1: ... tokens, a ...{columns}")
    assert prompt == shown
    assert is_like(summary, "asked.jsonl: 1 of 1 prompts used; tokens ...")
