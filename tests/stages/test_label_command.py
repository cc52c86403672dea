"""`posttrain label`: from a stage's responses to preferences that stages train on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pipeline.cli.app import store_at
from pipeline.feedback.decisions import decisions_path, read_decisions, text_of
from pipeline.feedback.labelling import Work, find_work
from pipeline.feedback.record import open_record
from pipeline.feedback.session import Session
from tests.command import Command, command, the_line
from tests.forked import run_forked, warm
from tests.label_page import hard_rows, write_lines
from tests.small_generating import SAMPLING, write_recipe

RECIPE = f"""\
name: tiny
seed: 5
stages:
  sampled: {{stage: generate, model: ./chat, prompts: {{file: asked.jsonl}}, {SAMPLING}}}
  scored: {{stage: label, data: $sampled, reward: {{use: "mine:vowels"}}}}
  best: {{stage: best_of_n, data: $scored, cut: keep}}
  pairs: {{stage: label, data: $sampled, reward: {{use: "mine:vowels"}}, pairs: all}}
  thumbs: {{stage: label, data: $sampled, reward: {{use: "mine:vowels"}}, thumbs: mean}}
  later: {{stage: generate, model: ./chat, prompts: {{file: asked.jsonl}}, {SAMPLING}, seed: 6}}
  words: {{stage: tokenizer, data: {{task: arithmetic}}, vocab_size: 300}}
"""
TRAINING = """\
name: learnt
stages:
  rm: {stage: reward_model, model: ./chat, data: {file: FILE}, batch_size: 4}
  dpo: {stage: dpo, model: ./chat, data: {file: FILE}, batch_size: 4}
  kto: {stage: kto, model: ./chat, data: {file: FILE}, batch_size: 4}
"""


def num_vowels(text: str) -> int:
    return sum(letter in "aeiou" for letter in text.lower())


def decide_all(work: Work, at_most: int = 40, repeat: float = 0.25) -> None:
    """Prefer what has more vowels; on every seventh pair, the first shown."""
    showings, _ = work.draw(at_most=at_most, repeat=repeat, seed=0)
    with open_record(work.preferences, "me") as record:
        session = Session(showings, record, labeller="me", seed=0)
        while (pair := session.tell()["pair"]) is not None:
            first, second = num_vowels(pair["first"]), num_vowels(pair["second"])
            verdict = "tie" if first == second else "first" if first > second else "second"
            if len(record.decisions) % 7 == 6:
                verdict = "first"
            session.decide(pair["name"], verdict, 3.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipe has run."""
    folder = tmp_path_factory.mktemp("labelled")
    write_recipe(folder, RECIPE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        warm()
        ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code in (0, None), ended.output
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.setenv("COLUMNS", "200")
    return made


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


def test_what_is_decided_by_hand_is_what_reward_model_dpo_and_kto_read(
    folder: Path, posttrain: Command
) -> None:
    work = find_work(["tiny.yaml:sampled"], None, store_at(Path("runs")), {})
    decide_all(work)
    assert work.preferences == Path("tiny-sampled-preferences.jsonl")
    preferred = len(work.preferences.read_text().splitlines())
    assert 10 < preferred < 40
    (folder / "learnt.yaml").write_text(TRAINING.replace("FILE", work.preferences.name))
    checked = posttrain("check", "learnt.yaml")  # what it passes, `run` runs
    assert checked.code == 0, checked
    for stage in ("rm", "dpo"):
        assert f"{stage}: {preferred} of {preferred} rows trained" in checked.out
    assert f"kto: {2 * preferred} of {2 * preferred} rows trained" in checked.out
    assert "dropped" not in checked.out

    decisions = read_decisions(decisions_path(work.preferences))
    first = [one for one in decisions if one.showing == 1]
    again = [one for one in decisions if one.showing == 2]
    assert (len(first), len(again)) == (40, 10)
    before = {one.pair: one for one in first}
    alike = sum(one.chosen == before[one.pair].chosen for one in again)
    right = sum(
        1.0
        if num_vowels(text_of(one.chosen)) > num_vowels(text_of(one.rejected))
        else 0.5 * (num_vowels(text_of(one.chosen)) == num_vowels(text_of(one.rejected)))
        for one in first
        if one.chosen is not None
    )
    said = posttrain("label", "tiny.yaml:sampled", "--summary")
    assert said.code == 0, said
    assert f"40 pairs decided: {preferred} preferences" in said.out
    assert f"agreement with oneself: {alike} pairs of 10 decided alike" in said.out
    agreement = re.search(
        r"agreement with `scored` on (\d+) preferences.*?: (\d\.\d\d) \[", said.out
    )
    assert agreement is not None, said.out
    assert int(agreement[1]) == preferred
    assert float(agreement[2]) == pytest.approx(right / preferred, abs=0.006)
    assert "agreement with `pairs` on" in said.out
    assert "agreement with `thumbs` on" in said.out


def test_two_stages_are_compared_with_each_other_and_the_terminal_names_the_better(
    folder: Path, posttrain: Command
) -> None:
    stages = ["tiny.yaml:sampled", "tiny.yaml:later"]
    work = find_work(stages, None, store_at(Path("runs")), {})
    assert work.preferences == Path("tiny-sampled-later-preferences.jsonl")
    decide_all(work, 12, 0.0)
    decisions = read_decisions(decisions_path(work.preferences))
    assert all(sorted(one.sources) == ["later", "sampled"] for one in decisions)
    wins = sum(
        0.5
        if one.chosen is None
        else float(one.sources[0 if one.verdict == "first" else 1] == "later")
        for one in decisions
    )
    said = posttrain("label", *stages, "--summary")
    assert f"`later` is preferred to `sampled` in {wins / 12:.2f} [" in said.out


def test_a_stages_folder_and_pairs_that_a_judge_made_can_be_labelled(folder: Path) -> None:
    store = store_at(Path("runs"))
    sampled = find_work(["runs/tiny/sampled"], Path("x.jsonl"), store, {})
    named = find_work(["tiny.yaml:sampled"], Path("x.jsonl"), store, {})
    keys = [
        [showing.name for showing in work.draw(at_most=20, repeat=0.1, seed=3)[0]]
        for work in (sampled, named)
    ]
    assert keys[0] == keys[1]
    pairs = find_work(["tiny.yaml:pairs"], Path("pairs-by-hand.jsonl"), store, {})
    decide_all(pairs, 15, 0.0)
    assert "agreement with `pairs` on" in "\n".join(pairs.summary())
    row = json.loads(Path("pairs-by-hand.jsonl").read_text().splitlines()[0])
    assert list(row) == [
        *("prompt", "chosen", "rejected", "source", "topic", "labeller", "when", "seconds")
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tiny.yaml:smapled",), "tiny.yaml: there is no stage `smapled`; did you mean `sampled`?"),
        (("tiny.yaml:words",), "tiny.yaml: `words` makes no rows (tokenizer); name one of"),
        (("tiny.yaml",), "tiny.yaml: is a recipe, not a stage; name one of"),
        (("tiny.yaml:best",), "`best`: no prompt has two different responses; sample"),
        (("none.jsonl",), "none.jsonl: there is no such stage, folder or file; name a stage"),
        (("chat",), "chat: is no folder of a finished stage; name a stage"),
        (("mine.py",), "mine.py: is no file of rows; name a stage"),
        (("asked.jsonl",), "asked.jsonl:1: no column `prompt`; columns found:"),
        (("tiny.yaml:sampled", "runs/tiny/sampled"), "`sampled`: two of these are called so;"),
        (("tiny.yaml:sampled", "--out", "x.txt"), "--out: `x.txt` is not NAME.jsonl; name"),
        (("tiny.yaml:sampled", "--out", "no/x.jsonl"), "--out: there is no folder"),
        (("tiny.yaml:sampled", "--summary", "--open"), "--open: has no meaning with --summary;"),
        (("tiny.yaml:sampled", "--labeller", "\x1b[1m"), "--labeller: is no name of 1 to 100"),
        (("tiny.yaml:sampled", "--repeat", "2"), "posttrain label: invalid value for"),
        (("tiny.yaml:sampled", "--pairs", "0"), "posttrain label: invalid value for"),
        (("taken.jsonl",), "taken.jsonl:1: there is a column `seconds`, and this stage writes"),
        (("nan.jsonl",), "nan.jsonl:1: a column cannot be written as JSON"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, posttrain: Command, arguments: tuple[str, ...], words: str
) -> None:
    for name, column, value in (("taken", "seconds", 1), ("nan", "x", float("nan"))):
        rows = [{"prompt": "q", "completion": text, column: value} for text in "ab"]
        write_lines(folder / f"{name}.jsonl", rows)
    assert words in the_line(posttrain("label", *arguments))


def test_a_stage_that_has_not_run_is_named_with_what_runs_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    posttrain: Command,
) -> None:
    write_recipe(tmp_path, RECIPE)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()  # what saving the models said
    line = the_line(posttrain("label", "tiny.yaml:sampled"))
    assert "`sampled` has not run yet; run `posttrain run tiny.yaml --until sampled`" in line


def test_the_help_tells_the_command_from_the_stage(posttrain: Command) -> None:
    said = posttrain("label", "--help").out
    assert "The stage `label` of a recipe has rewards and judges do it" in " ".join(said.split())


@pytest.mark.enable_socket
def test_the_command_serves_until_ctrl_c_and_tells_what_came_of_it(
    tmp_path: Path, socket_enabled: None
) -> None:
    rows = write_lines(tmp_path / "mine.jsonl", hard_rows())
    code = "import sys; from pipeline.cli import main; sys.argv[0] = 'posttrain'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "label", str(rows), "--pairs", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    deadline_s = time.monotonic() + 60
    while not any("Ctrl-C ends" in line for line in lines) and time.monotonic() < deadline_s:
        lines.append(process.stdout.readline())
    address = re.search(r"http://127\.0\.0\.1:\d+/", "".join(lines))
    assert address is not None
    with urlopen(address[0], timeout=60) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    said: Any = "".join(lines) + out
    assert (process.returncode, err) == (0, "")
    assert "`mine.jsonl`: 20 of 126 pairs, 2 of them twice" in said
    assert "label at http://127.0.0.1:" in said
    assert said.endswith("no pair is decided yet\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl"]
