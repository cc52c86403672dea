"""Two models are measured on a user's own questions, chats and pairs, without a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.command import Said, command
from tests.small_folders import small_tokenizer

CHAT = [
    {"role": "user", "content": "Say yes."},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "And no?"},
    {"role": "assistant", "content": "No."},
]


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tiny random models, one with a chat template, and data of a user's own."""
    for name, seed in (("base", 0), ("chat", 1)):
        config = LlamaConfig(
            vocab_size=264,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            eos_token_id=1,
        )
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(tmp_path / name)
        tokenizer = small_tokenizer()
        if name == "base":
            tokenizer.chat_template = None
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "mine.csv").write_text("question,answer,id\n2 + 2?,4,a\n3 + 3?,6,b\n4 + 4?,8,c\n")
    lines(tmp_path / "chats.jsonl", [{"messages": CHAT[:2]}, {"messages": CHAT}])
    pair = {"prompt": CHAT[:1], "chosen": CHAT[1:2], "rejected": CHAT[3:]}
    lines(tmp_path / "pairs.jsonl", [pair, {**pair, "prompt": CHAT[:3]}])
    return tmp_path


def test_questions_chats_and_pairs_of_ones_own_are_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")
    said: Said = command(monkeypatch, capsys)(
        *("compare", "./base", "./chat", "--tasks", "qa(file=mine.csv, match=contains)"),
        *("--texts", "chats.jsonl", "--texts", "pairs.jsonl", "--limit", "2"),
    )
    assert said.code == 0, said.err
    found = json.loads((folder / "runs/compare/base-vs-chat/comparison.json").read_text())
    rows = {(row["task"], row["metric"], row["model"]): row for row in found["rows"]}
    task = "qa(file=mine.csv, match=contains)"
    asked = rows[task, "verified_accuracy", "chat"]
    assert (asked["n"], asked["form"], asked["style"]) == (2, "chat", "zero-shot")
    read = rows["chats.jsonl", "bits_per_byte", "chat"]
    assert (read["n"], read["form"]) == (3, "chat")  # messages of the assistant's
    assert rows["chats.jsonl", "bits_per_byte", "base"]["form"] == "document"
    assert read["delta_low"] < read["delta"] < read["delta_high"]
    assert rows["pairs.jsonl", "ranking_accuracy", "chat"]["n"] == 2
    groups = {(each["model"], each["group"], each["n"]) for each in found["groups"]}
    assert {("chat", "1", 2), ("chat", "2", 1)} <= groups
    notes = " ".join(found["notes"])
    assert f"`{task}`: the first 2 of 3 items (`limit`)." in notes
    assert "Not asked few-shot, since they have no rows to show" in notes
    assert "`base` has no chat template: it read the chats of `chats.jsonl` as transcripts" in notes


RECIPE = """\
name: own
stages:
  asked:
    stage: evaluate
    model: ./chat
    tasks: [qa(file=mine.csv, match=MATCH)]
    texts: [{file: chats.jsonl}, {file: pairs.jsonl}]
"""


@pytest.mark.parametrize(
    ("match", "code"), [("number", 0), ("choice", 2), ("json_schema", 2), ("like", 2)]
)
def test_check_reads_ones_own_questions_and_chats(
    folder: Path,
    match: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    (folder / "own.yaml").write_text(RECIPE.replace("MATCH", match))
    said = command(monkeypatch, capsys)("check", "own.yaml")
    assert said.code == code, said.err
    if match == "number":
        assert "3 test; question from `question`, answer from `answer`; not used: `id`" in said.out
        assert "chats.jsonl: 2 rows (chat)" in said.out
    if match == "choice":
        assert "mine.csv:2: there is no column `choices`" in said.err
    if match == "json_schema":
        assert "mine.csv:2: `answer` is no schema: a schema is a mapping" in said.err
    if match == "like":
        assert "own.yaml:6:" in said.err
        assert "write one of match=exact|contains|number|math|choice|regex|json_schema" in said.err


REWARDED = """\
name: own
stages:
  grpo:
    stage: grpo
    model: ./chat
    prompts: {task: "qa(train=asked.jsonl, match=regex)"}
    reward: {verify: all}
    best_of: 0
    batch_size: 4
    training_args: {total_episodes: 8, max_completion_length: 4, num_generations: 2}
"""


def test_a_pattern_of_ones_own_rewards_a_policy_and_one_that_is_none_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "own.yaml").write_text(REWARDED)
    lines(folder / "asked.jsonl", [{"question": f"{n}?", "pattern": "(?s).*"} for n in range(8)])
    run = command(monkeypatch, capsys)
    said = run("run", "own.yaml")
    assert said.code == 0, said.err
    (record,) = folder.glob("runs/**/artifact.json")
    metrics = json.loads(record.read_text())["metrics"]
    assert metrics["objective/scores"] == 1.0, metrics
    lines(folder / "asked.jsonl", [{"question": "?", "pattern": "("}])
    said = run("check", "own.yaml")
    assert said.code == 2
    assert "asked.jsonl:1: `pattern` is no pattern" in said.err
