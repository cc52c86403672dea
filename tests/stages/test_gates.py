"""Comparing through the real command: samples, divergence, gates, and models without a recipe."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.command import Command, command, is_like, the_line
from tests.conftest import TINY

ASKED = """\
  base_said: {stage: evaluate, model: $base, tasks: arithmetic, limit: 12, temperature: 1.0,
              samples: 2, styles: zero-shot}
  sft_said: {stage: evaluate, model: $sft, tasks: arithmetic, limit: 12, temperature: 1.0,
             samples: 2, styles: zero-shot}
  compare:
    stage: compare
    baseline: $base_said
    candidates: $sft_said
    gate:
      arithmetic choice_accuracy: {score_high: 1.0}
      arithmetic verified_accuracy zero-shot: {delta_low: 0.9}
  greedy:
    stage: compare
    baseline: $base
    candidates: $sft
    tasks: [facts, "worked:Worked"]
    texts: {file: text.txt, separator: "\\n"}
    limit: 8
    styles: [zero-shot, few-shot, chain-of-thought]
    shots: [1, 2]
    gate: {text_bpb: {delta_high: 50}}
  moved: {stage: compare, baseline: $sft, candidates: $base, tasks: arithmetic, limit: 8,
          temperature: 1.0, styles: zero-shot, kl_to: $sft}
"""

WORKED = """\
from dataclasses import replace

from eval.tasks.arithmetic import Arithmetic


class Worked(Arithmetic):
    name = "worked"

    def examples(self, split):
        for example in super().examples(split):
            worked = "Step by step. " + example.document
            yield replace(
                example, worked_document=worked, worked_continuation=example.continuation
            )
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, run as far as it goes, and what the command said."""
    folder = tmp_path_factory.mktemp("gates")
    (folder / "tiny.yaml").write_text(TINY + ASKED)
    (folder / "worked.py").write_text(WORKED)
    (folder / "text.txt").write_text("One line of text.\nAnother line.\nA third, a longer one.\n")
    said, complaint = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complaint),
    ):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", ["posttrain", "run", "tiny.yaml"])
        with pytest.raises(SystemExit) as leaving:
            main()
    (folder / "said.txt").write_text(said.getvalue())
    (folder / "complaint.txt").write_text(f"{leaving.value.code}: {complaint.getvalue()}")
    return folder


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: Path
) -> Command:
    """Return a function that runs `posttrain ARGUMENTS` in the folder of the finished recipe."""
    monkeypatch.chdir(finished)
    monkeypatch.setenv("COLUMNS", "160")
    return command(monkeypatch, capsys)


def _comparison(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text())


def test_a_gate_that_fails_ends_a_whole_run_with_code_1_each_time(finished: Path, call) -> None:
    first = (finished / "complaint.txt").read_text()
    assert first.endswith("DO NOT SHIP: compare: sft; the tables say which bounds fail\n")
    assert first.startswith("1: ")
    assert (finished / "runs/tiny/greedy/artifact.json").is_file()  # the stage after it ran too
    again = call("run", "tiny.yaml")
    assert again.code == 1
    assert again.err == first.splitlines()[-1].removeprefix("1: ") + "\n"
    assert again.out.count("cached") == 8
    said = " ".join(again.out.split())
    assert re.search(r"SHIP rests on .*arithmetic choice_accuracy: score at most 1", said)
    failed = r"sft DO NOT SHIP: fails arithmetic verified_accuracy zero-shot \([-+.\d]+\)"
    assert re.search(failed, said)


def test_a_gate_that_holds_ships_with_code_0(call, finished: Path) -> None:
    said = call("run", "tiny.yaml", "--stage", "greedy")
    assert said.code == 0, said.err
    assert "sft SHIP" in said.out
    assert _comparison(finished / "runs/tiny/greedy")["gate"]["ships"] is True


def test_the_verdict_stands_in_the_file(finished: Path) -> None:
    (verdict,) = _comparison(finished / "runs/tiny/compare")["gate"]["verdicts"]
    assert (verdict["model"], verdict["ships"]) == ("sft", False)
    assert [condition["holds"] for condition in verdict["conditions"]] == [True, False]


def test_samples_give_pass_at_k_and_the_divergence_from_the_parent(finished: Path) -> None:
    found = _comparison(finished / "runs/tiny/compare")
    rows = {(row["metric"], row["style"], row["model"]): row for row in found["rows"]}
    assert rows["pass@2", "zero-shot", "sft"]["samples"] == 2
    once = rows["verified_accuracy", "zero-shot", "sft"]["score"]
    assert once <= rows["pass@2", "zero-shot", "sft"]["score"] <= 2 * once
    items = (finished / "runs/tiny/compare/items.jsonl").read_text().splitlines()
    written = [item for item in map(json.loads, items) if item["metric"] == "verified_accuracy"]
    assert len(written) == 2 * 2 * 12  # models x samples x items
    (divergence,) = found["divergence"]
    assert (divergence["model"], divergence["trained_from"]) == ("sft", "base")
    assert divergence["n"] == 24
    assert divergence["kl"] > 0.5  # the base model has never seen the chat template


def test_divergence_is_measured_to_the_model_that_is_named(finished: Path) -> None:
    found = _comparison(finished / "runs/tiny/moved")["divergence"]
    own, base = sorted(found, key=lambda row: row["model"], reverse=True)
    assert {row["trained_from"] for row in found} == {"sft"}
    assert (own["model"], own["kl"]) == ("sft", pytest.approx(0.0, abs=1e-4))
    assert base["kl"] > 0.5
    assert base["gold"] is not None


def test_each_style_and_number_of_shots_has_a_row(finished: Path) -> None:
    found = _comparison(finished / "runs/tiny/greedy")
    asked = [
        (row["model"], row["style"], row["shots"])
        for row in found["rows"]
        if (row["task"], row["metric"]) == ("worked", "verified_accuracy")
    ]
    few = [("zero-shot", 0), ("few-shot", 1), ("few-shot", 2)]
    assert asked == [
        *(("base", *way) for way in [*few, ("chain-of-thought", 1)]),
        *(("sft", *way) for way in [*few, ("chain-of-thought", 0)]),
    ]
    columns = found["styles"]["columns"]
    assert [(column["style"], column["shots"]) for column in columns][-1] == (
        "chain-of-thought",
        None,
    )
    notes = " ".join(found["notes"])
    assert "differences" in notes
    assert "Not asked by chain of thought, since they work nothing out: `facts`." in notes
    assert "greedy responses are no estimate of it" in notes
    assert found["divergence"] == []
    assert {row["task"] for row in found["calibration"]} == {"worked", "facts"}


def test_two_stages_are_compared_without_a_recipe_as_with_one(call, finished: Path) -> None:
    said = call(
        *("compare", "tiny.yaml:base", "tiny.yaml:sft", "--tasks", "facts,worked:Worked"),
        *("--texts", "text.txt", "--separator", r"\n", "--limit", "8", "--shots", "1,2"),
        *("--styles", "zero-shot,few-shot,chain-of-thought", "--seed", "3"),
    )
    assert said.code == 0, said.err
    assert f"results: {finished}/runs/compare/base-vs-sft" in said.out
    ours = _comparison(finished / "runs/compare/base-vs-sft")
    theirs = _comparison(finished / "runs/tiny/greedy")
    assert (ours["baseline"], ours["models"]) == ("base", ["base", "sft"])
    assert ours["gate"] is None
    for table in ("rows", "styles", "groups", "flips", "calibration"):
        assert ours[table] == theirs[table]
    # Nothing is left beside it, and nothing in the way of another time.
    assert [path.name for path in (finished / "runs/compare").iterdir()] == ["base-vs-sft"]


def test_the_result_goes_where_it_is_asked_to_and_can_be_json(call, tmp_path: Path) -> None:
    arguments = (
        "compare",
        "runs/tiny/base",
        "runs/tiny/sft",
        "--tasks",
        "arithmetic(max_digits=3)",
    )
    for _ in range(2):  # an earlier comparison is replaced
        said = call(
            *(*arguments, "--limit", "3", "--styles", "zero-shot", "--out", str(tmp_path / "out")),
            *("--temperature", "1", "--samples", "2", "--json"),
        )
        assert said.code == 0, said.err
    printed = json.loads(said.out)
    assert printed == _comparison(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("comparison.json", "items.jsonl", "log.txt", "stage.json"),
    }
    assert {row["task"] for row in printed["rows"]} == {"arithmetic(max_digits=3)"}
    assert printed["divergence"][0]["trained_from"] == "base"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("runs/tiny/base",), "posttrain compare: takes two models or more; name another one"),
        (("runs/tiny/base", "runs/tiny/base"), "runs/tiny/base: is named twice; ..."),
        (("runs/tiny/base", "nowhere"), "nowhere: ..."),
        (("runs/tiny/base", "tiny.yaml:sftt"), "tiny.yaml: there is no stage `sftt`; ...`sft`..."),
        (("runs/tiny/base", "runs/tiny/sft", "--tasks", "arithmetik"), "--tasks: unknown task..."),
        (("runs/tiny/base", "runs/tiny/sft"), "compare: there is nothing to ask the models; ..."),
        (
            ("runs/tiny/base", "runs/tiny/sft", "--tasks", "facts", "--samples", "2"),
            "posttrain compare: `samples` of greedy responses are all the same; ...",
        ),
        (
            ("runs/tiny/base", "runs/tiny/sft", "--tasks", "facts", "--shots", "2,x"),
            "--shots: `x` is not a whole number; write --shots 1,3,5",
        ),
        (
            ("runs/tiny/base", "runs/tiny/sft", "--tasks", "facts", "--styles", "zero"),
            "--styles: ...",
        ),
        (
            ("runs/tiny/base", "runs/tiny/sft", "--tasks", "facts", "--out", "."),
            "...: is there and holds no comparison, so it is not replaced; ...",
        ),
        (
            ("runs/tiny/base", "runs/tiny/sft", "--tasks", "facts", "--shots", "3000"),
            "posttrain compare: `shots` 3000 is more than the 256 examples ...; write fewer",
        ),
        (
            ("runs/tiny/base", "runs/tiny/sft", "--texts", "none.txt"),
            "...none.txt...",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(call, arguments, line: str) -> None:
    assert is_like(the_line(call("compare", *arguments)), line)


@pytest.mark.parametrize(
    ("before", "after", "at", "words"),
    [
        (
            "arithmetic choice_accuracy:",
            "arithmetik:",
            "arithmetik",
            "nothing that is measured is called `arithmetik`; did you mean...",
        ),
        (
            "arithmetic choice_accuracy:",
            "arithmetic accuracy:",
            "arithmetic accuracy",
            "`arithmetic` has no metric `accuracy`; ...verified_accuracy...pass@2",
        ),
        (
            "choice_accuracy: {score_high",
            "choice_accuracy few-shot: {score_high",
            "arithmetic choice_accuracy few-shot",
            "the style `few-shot` is not asked",
        ),
        (
            "choice_accuracy: {score_high",
            "win_rate: {delta_high",
            "arithmetic win_rate",
            "`arithmetic win_rate` has no `delta_high`: a win rate is...",
        ),
        ("{score_high: 1.0}", "{}", "{}", "...there is no bound: give one of `delta_low`..."),
        ("{score_high: 1.0}", "{score: 1.0}", "score: 1.0", "unknown key `score`..."),
        (
            "text_bpb",
            "words_bpb",
            "words_bpb",
            "nothing that is measured is called `words_bpb`...",
        ),
        (
            "temperature: 1.0,\n              samples",
            "\n              samples",
            "2, styles",
            "`samples` of greedy responses are all the same; ...",
        ),
        (
            "temperature: 1.0, styles: zero-shot, kl_to",
            "styles: zero-shot, kl_to",
            "$sft}",
            "`kl_to` is measured on sampled answers to `tasks`: ...",
        ),
        ("samples: 2, styles", "samples: 2, pass_at: 3, styles", "3, styles", "`pass_at` 3..."),
        (
            "shots: [1, 2]",
            "shots: [1, 1]",
            "[1, 1]",
            "`shots` has an entry twice; keep one of them",
        ),
    ],
)
def test_a_gate_or_setting_that_means_nothing_is_found_before_anything_runs(
    call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    at: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert before in TINY + ASKED
    text = (TINY + ASKED).replace(before, after, 1)
    (tmp_path / "tiny.yaml").write_text(text)
    (tmp_path / "worked.py").write_text(WORKED)
    (tmp_path / "text.txt").write_text("One line.\n")
    until = text[: text.index(at)]
    place = f"{until.count(chr(10)) + 1}:{len(until) - until.rfind(chr(10))}"
    assert is_like(the_line(call("plan", "tiny.yaml")), f"tiny.yaml:{place}: {words}")
