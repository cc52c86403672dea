"""Prompts of a user's own, answered by two models side by side, judged by each kind of reward."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from pipeline.report.html.samples import Room, read_samples
from tests.command import command
from tests.report_runs import shown as shown_comparison
from tests.small_folders import small_tokenizer

RECIPE = """\
name: own
stages:
  answers:
    stage: compare
    baseline: ./base
    candidates: ./chat
    prompts: [{file: asked.jsonl}, {task: arithmetic}]
    rewards:
      - {use: "mine:brevity", on: asked.jsonl, weight: 2}
      - {model: ./judge, on: asked.jsonl}
      - {verify: all}
    max_new_tokens: 12
    limit: 5
    gate: {asked.jsonl by brevity: {win_rate_low: 0.0}}
"""
BREVITY = """\
def brevity(prompts, completions, topic, **rest):
    said = [each if isinstance(each, str) else each[0]["content"] for each in completions]
    return [None if name == "skip" else -float(len(text)) for text, name in zip(said, topic)]
"""
ASKED = [
    {
        "messages": [{"role": "user", "content": f"Question {n}?"}],
        "topic": "skip" if n == 4 else "x",
    }
    for n in range(7)
]


def small(**more: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=1,
        initializer_range=0.3,
        **more,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny random models, a random reward model, prompts and a reward function."""
    for seed, name in enumerate(("base", "chat", "judge")):
        torch.manual_seed(seed)
        made: Any = LlamaForCausalLM(small())
        if name == "judge":
            made = LlamaForSequenceClassification(small(num_labels=1, pad_token_id=0))
        made.save_pretrained(tmp_path / name)
        tokenizer = small_tokenizer()
        if name == "base":
            tokenizer.chat_template = None
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ASKED))
    (tmp_path / "mine.py").write_text(BREVITY)
    (tmp_path / "own.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def test_answers_stand_side_by_side_with_what_each_reward_makes_of_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command(monkeypatch, capsys)("run", "own.yaml")
    assert said.code == 0, said.err
    found = json.loads((folder / "runs/own/answers/comparison.json").read_text())
    rows = {(row["task"], row["metric"], row["model"]): row for row in found["rows"]}

    mine = rows["asked.jsonl by brevity", "reward", "./chat"]
    assert (mine["n"], mine["ungraded"], mine["form"]) == (4, 1, "chat")
    assert rows["asked.jsonl by brevity", "reward", "./base"]["form"] == "document"
    won = rows["asked.jsonl by brevity", "win_rate", "./chat"]
    lengths = {
        (item["model"], item["item"]): len(item["response"])
        for item in map(
            json.loads, (folder / "runs/own/answers/items.jsonl").read_text().splitlines()
        )
        if item["task"] == "asked.jsonl by brevity" and item["score"] is not None
    }
    outcomes = [
        0.5 + 0.5 * ((length < lengths["./base", item]) - (length > lengths["./base", item]))
        for (model, item), length in lengths.items()
        if model == "./chat"
    ]
    assert won["score"] == pytest.approx(sum(outcomes) / 4)
    assert won["low"] <= won["score"] <= won["high"]

    judged = rows["asked.jsonl by judge", "reward", "./chat"]
    total = rows["asked.jsonl by all rewards", "reward", "./chat"]
    assert (judged["n"], total["n"]) == (5, 5)
    assert rows["arithmetic by verify", "reward", "./chat"]["n"] == 5

    shown = [each for each in found["written"] if each["source"] == "asked.jsonl"]
    assert [each["prompt"] for each in shown] == [f"Question {n}?" for n in range(5)]
    answer = shown[0]["answers"]["./chat"]
    assert answer["rewards"]["brevity"] == -len(answer["text"])
    expected = 2 * answer["rewards"]["brevity"] + answer["rewards"]["judge"]
    assert answer["rewards"]["all rewards"] == pytest.approx(expected)
    assert shown[4]["answers"]["./chat"]["rewards"]["brevity"] is None
    assert any(
        "it was asked the chats of `asked.jsonl` as transcripts" in n for n in found["notes"]
    )
    assert found["gate"]["ships"] is True


def test_the_report_shows_rewards_for_what_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, capsys)("run", "own.yaml").code == 0
    path = folder / "runs/own/answers"
    comparison = shown_comparison(json.loads((path / "comparison.json").read_text()), "answers")
    samples = read_samples(path, comparison, within=Room(60, 10**6))
    shown = [each for each in samples if each.task == "asked.jsonl by brevity"]
    assert len(shown) == 5
    for sample in shown:
        base, chat = sample.responses
        if base.times:  # the fifth prompt has no reward
            better = float(chat.times.split()[1]) - float(base.times.split()[1])
            assert sample.kind == ("gained" if better > 0 else "lost" if better < 0 else "right")
    assert [bool(each.responses[0].times) for each in shown].count(True) == 4
    assert {each.responses[0].mark for each in shown} == {"not graded"}


def test_a_reward_model_reads_the_conversation_in_its_own_template(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, capsys)("run", "own.yaml").code == 0
    found = json.loads((folder / "runs/own/answers/comparison.json").read_text())
    module = LlamaForSequenceClassification.from_pretrained(folder / "judge").eval()
    tokenizer = small_tokenizer()
    for prompt in found["written"][:5]:
        for answer in prompt["answers"].values():
            text = f"<|user|>{prompt['prompt']}<|end|><|assistant|>{answer['text']}<|end|>"
            if "<|" in answer["text"]:
                continue  # a control token that was spelled out is none to the judge
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                score = module(ids).logits.item()
            assert answer["rewards"]["judge"] == pytest.approx(score, abs=1e-4)


def test_prompts_without_a_reward_are_only_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command(monkeypatch, capsys)(
        *("compare", "./base", "./chat", "--prompts", "asked.jsonl", "--max-new-tokens", "8"),
    )
    assert said.code == 0, said.err
    assert "asked.jsonl: the first 3 answers" in said.out
    assert "Question 0?" in said.out
    found = json.loads((folder / "runs/compare/base-vs-chat/comparison.json").read_text())
    assert [row["score"] for row in found["rows"]] == [None, None]
    assert len(found["written"]) == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mine:brevity", "mine:brevety", "own.yaml:9:"),
        ("on: asked.jsonl, weight", "on: ask.jsonl, weight", "`ask.jsonl` is no source of these"),
        ("{verify: all}", "{verify: facts}", "`facts` is no task of these prompts"),
        (
            "asked.jsonl by brevity",
            "asked.jsonl by judgement",
            "nothing that is measured is called",
        ),
        ("{model: ./judge", "{model: ./judge, name: brevity", "two rewards are called `brevity`"),
    ],
)
def test_a_reward_that_cannot_be_meant_is_refused_by_the_plan(
    folder: Path,
    old: str,
    new: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "own.yaml").write_text(RECIPE.replace(old, new))
    said = command(monkeypatch, capsys)("plan", "own.yaml")
    assert said.code == 2
    assert message in said.err


def test_rewards_without_prompts_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in RECIPE.splitlines() if "prompts:" not in line and "gate" not in line]
    (folder / "own.yaml").write_text("\n".join([*lines, "    tasks: facts\n"]))
    said = command(monkeypatch, capsys)("plan", "own.yaml")
    assert (said.code, "`rewards` judges answers to `prompts`" in said.err) == (2, True)
