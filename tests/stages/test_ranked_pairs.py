"""Reward models ranked on pairs: `evaluate` and `compare` with `pairs:`, through the command."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tests.command import Command, command, refuse_heavy_imports, the_line
from tests.small_folders import small_tokenizer

RECIPE = """\
name: tiny
stages:
  judged:
    stage: evaluate
    model: ./one
    pairs:
      - {file: bench.jsonl}
      - {file: second.jsonl}
      - {task: arithmetic, rows: 24}
  versus:
    stage: compare
    baseline: $judged
    candidates: ./two
    pairs:
      - {file: bench.jsonl}
      - {file: second.jsonl}
      - {task: arithmetic, rows: 24}
"""
_SIDES = ("chosen", "rejected")
SUBSETS = ("hep-go", "hep-js", "math-prm")


def bench() -> list[dict[str, Any]]:
    """Pairs in the form of RewardBench 1: one too long, one without a response."""
    rows = [
        {
            "id": n,
            "prompt": f"Question {n}?",
            **dict(
                zip(_SIDES if n % 5 % 2 else _SIDES[::-1], (f"Answer {n}", f"No {n}!"), strict=True)
            ),
            "subset": SUBSETS[n % 3],
        }
        for n in range(30)
    ]
    rows[4]["chosen"] = "long " * 100
    rows[5]["rejected"] = " "
    return rows


def second() -> list[dict[str, Any]]:
    """Prompts with one chosen response and three rejected ones, as RewardBench 2 has them."""
    return [
        {"prompt": f"Q{n}", "chosen": [f"a{n}"], "rejected": ["b", f"c{n}", "dd"], "subset": "Math"}
        for n in range(12)
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


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two random reward models, a language model, and pairs."""
    for seed, name in enumerate(("one", "two", "policy")):
        torch.manual_seed(seed)
        made: Any = LlamaForCausalLM(small())
        if name != "policy":
            made = LlamaForSequenceClassification(small(num_labels=1, pad_token_id=0))
        made.save_pretrained(tmp_path / name)
        small_tokenizer().save_pretrained(tmp_path / name)
    write_lines(tmp_path / "bench.jsonl", bench())
    write_lines(tmp_path / "second.jsonl", second())
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


def by_hand(folder: Path, model: str, prompt: str, response: str) -> float:
    """Return a score of the text that the template writes, without any code of ours."""
    tokenizer = small_tokenizer()
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
    module = LlamaForSequenceClassification.from_pretrained(folder / model).eval()
    with torch.no_grad():
        return float(module(**{k: ids[k] for k in ("input_ids", "attention_mask")}).logits[0, 0])


def items_of(folder: Path, stage: str, task: str) -> list[dict[str, Any]]:
    lines = (folder / "runs/tiny" / stage / "items.jsonl").read_text().splitlines()
    return [item for item in map(json.loads, lines) if item["task"] == task]


def test_a_reward_model_ranks_pairs_as_its_scores_say(folder: Path, posttrain: Command) -> None:
    said = posttrain("run", "tiny.yaml")
    assert said.code == 0, said.err

    items = items_of(folder, "judged", "bench.jsonl")
    rows = [row for n, row in enumerate(bench()) if n != 5]
    assert len(items) == 29
    for item, row in zip(items[:10], rows, strict=False):
        if item["score"] is None:
            assert row["chosen"].startswith("long")
            continue
        margin = by_hand(folder, "one", row["prompt"], row["chosen"])
        margin -= by_hand(folder, "one", row["prompt"], row["rejected"])
        assert item["score"] == float(margin > 0), item
        assert item["group"] == row["subset"]
        assert item["confidence"] == pytest.approx(1 / (1 + 2.718281828 ** -abs(margin)), abs=1e-4)

    report = json.loads((folder / "runs/tiny/judged/pairs.json").read_text())["./one"]
    first = report["bench.jsonl"]
    graded = [item for item in items if item["score"] is not None]
    assert (first["n"], first["rows"], first["too_long"]) == (28, 30, 1)
    assert first["unusable"] == {"a response is empty": 1}
    assert first["accuracy"] == pytest.approx(sum(item["score"] for item in graded) / 28)
    for subset in SUBSETS:
        own = [item["score"] for item in graded if item["group"] == subset]
        assert first["by_subset"][subset]["accuracy"] == pytest.approx(sum(own) / len(own))
    weights = {"hep-go": 164, "hep-js": 164, "math-prm": 984}
    total = sum(first["by_subset"][name]["accuracy"] * n for name, n in weights.items())
    assert first["sections"]["Reasoning"]["accuracy"] == pytest.approx(total / 1312)
    assert 0 <= first["calibration_error"] <= 1

    contests = items_of(folder, "judged", "second.jsonl")
    assert len(contests) == report["second.jsonl"]["n"] == 12
    for item, row in zip(contests, second(), strict=True):
        scores = [
            by_hand(folder, "one", row["prompt"], text)
            for text in (*row["chosen"], *row["rejected"])
        ]
        assert item["score"] == float(scores[0] == max(scores))
    assert report["second.jsonl"]["pairs"] == 36
    assert report["arithmetic"]["by_subset"]

    compared = json.loads((folder / "runs/tiny/versus/comparison.json").read_text())
    rows_of = {(row["task"], row["model"]): row for row in compared["rows"]}
    ours = rows_of["bench.jsonl", "./two"]
    assert ours["metric"] == "preference_accuracy"
    assert ours["delta_low"] <= ours["delta"] <= ours["delta_high"]
    assert ours["delta"] == pytest.approx(ours["score"] - rows_of["bench.jsonl", "./one"]["score"])
    assert ours["ungraded"] == 1
    assert {row["group"] for row in compared["groups"] if row["task"] == "bench.jsonl"} == set(
        SUBSETS
    )
    assert "warning: bench.jsonl: 2 of 30 left out: 1 too long, 1 a response is empty" in said.out
    assert "mean of 3 sources" in said.out
    said = posttrain("report", "tiny.yaml")
    assert said.code == 0, said.err
    page = (folder / "runs/tiny/report.html").read_text()
    section = page[page.index('id="ranked"') :]
    section = section[: section.index("</section>")]
    # Two models on three sources: what the comparison repeats of the evaluation stands once.
    assert section.count("<article") == 6
    assert section.count("<h4>Calibration</h4>") + section.count("expected calibration error") >= 6
    for subset in SUBSETS:
        assert f'<th scope="row">{subset}</th>' in section
    assert "Reasoning (section), without 4 of its subsets" in section
    assert "2 of 30 left out: 1 too long, 1 a response is empty" in section
    assert "12 prompts (36 pairs)" in section

    both = json.loads((folder / "runs/tiny/versus/pairs.json").read_text())
    assert both["./one"] == report
    assert set(both) == {"./one", "./two"}


WRONG = [
    ("model: ./policy\n    pairs: [{file: bench.jsonl}]", "model: `./policy` is a language model"),
    (
        "model: ./one\n    tasks: arithmetic",
        "model: `./one` is a reward model, which answers nothing",
    ),
    (
        "model: ./one\n    tasks: arithmetic\n    pairs: [{file: bench.jsonl}]",
        "`pairs` is ranked by a reward model, and `tasks` is asked of a model that answers",
    ),
    ("model: ./one\n    pairs: [{file: bench.jsonl, dedup: exact}]", "leave `dedup` out"),
    ("model: ./one\n    pairs: [{file: gone.jsonl}]", "`gone.jsonl` does not exist"),
    (
        "model: ./one\n    pairs: [{file: bench.jsonl}, {file: bench.jsonl, rows: 5}]",
        "`pairs` has two of the name `bench.jsonl`",
    ),
    ("model: ./one\n    pairs: [{file: empty.jsonl}]", "`chosen` is an empty list"),
    ("model: ./one\n    pairs: [{file: blank.jsonl}]", "every row of `blank.jsonl` is dropped"),
]


@pytest.mark.parametrize(("keys", "words"), WRONG)
def test_what_cannot_be_ranked_is_said_by_check(
    folder: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch, keys: str, words: str
) -> None:
    refuse_heavy_imports(monkeypatch)
    write_lines(folder / "empty.jsonl", [{"prompt": "x", "chosen": [], "rejected": ["b"]}])
    write_lines(folder / "blank.jsonl", [{"prompt": "x", "chosen": "", "rejected": "b"}])
    (folder / "bad.yaml").write_text(
        f"name: bad\nstages:\n  judged:\n    stage: evaluate\n    {keys}\n"
    )
    line = the_line(posttrain("check", "bad.yaml"))
    assert re.match(r"(bad\.yaml|empty\.jsonl):\d+", line), line
    assert words.rpartition("model: ")[2] in line


def test_stages_of_the_wrong_kind_are_told_apart(folder: Path, posttrain: Command) -> None:
    (folder / "bad.yaml").write_text(
        "name: bad\nstages:\n"
        "  sft: {stage: sft, model: ./policy, data: {task: arithmetic}}\n"
        "  rank: {stage: compare, baseline: ./one, candidates: $sft, pairs: {file: bench.jsonl}}\n"
    )
    line = the_line(posttrain("check", "bad.yaml"))
    assert "`$sft` is a language model, and `pairs` are ranked by a reward model" in line
    assert line.startswith("bad.yaml:4:")


def test_pairs_that_are_all_too_long_end_in_one_line(folder: Path, posttrain: Command) -> None:
    write_lines(folder / "bench.jsonl", [{"prompt": "x", "chosen": "y " * 300, "rejected": "b"}])
    said = posttrain("run", "tiny.yaml", "--until", "judged")
    assert "none of 1 pairs of `bench.jsonl` can be ranked" in the_line(said)


def test_a_reward_model_is_asked_as_it_was_trained_and_others_as_their_template_writes(
    folder: Path,
) -> None:
    """ChatML writes a line break behind the end of a turn, which no stage of ours trains on."""
    from pipeline.config.stage import StageInput
    from pipeline.data.reading.records import Message
    from pipeline.rewards.reads_texts import Answered, TextScorer

    tokenizer = small_tokenizer()
    assert isinstance(tokenizer.chat_template, str)
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|end|>' }}", "'<|end|>\n' }}")
    tokenizer.save_pretrained(folder / "two")
    answered = Answered("here", (Message("user", "Hi?"),), Message("assistant", "Hello."))
    source = StageInput("two", "reward_model", str(folder / "two"))
    (theirs,) = TextScorer(source).encode([answered])
    (folder / "two" / "artifact.json").write_text("{}")
    (ours,) = TextScorer(source).encode([answered])
    assert tokenizer.decode(theirs.ids).endswith("Hello.<|end|>\n")
    assert tokenizer.decode(ours.ids).endswith("Hello.<|end|>")
    assert sum(ours.trained) == len("Hello.") + 1
