"""Responses judged and revised through a server on this machine: kills, the cache, failures."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command
from tests.forked import run_forked, warm
from tests.judge_server import FAILING, JudgeServer, judge_server
from tests.made_rows import metrics_of, rows_of

pytestmark = pytest.mark.enable_socket
_PROMPTS = 6  # of three responses each, and as many pairs
_OF_PAIRS = 2 * 3 * _PROMPTS  # requests: both orders
_OF_PROBES = 2 * 5 * _PROMPTS
RECIPE = """\
name: tiny
seed: 5
stages:
  pairs:
    stage: label
    data: {file: responses.jsonl}
    judge:
      endpoint: &server {url: "URL", model: m, at_once: 2, retries: 0, key: JUDGE_KEY}
      licence: off
    pairs: all
  scored: {stage: label, data: {file: responses.jsonl}, judge: {endpoint: *server, licence: off}}
  revised:
    stage: label
    data: {file: responses.jsonl}
    revise: {endpoint: *server, principles: principles.yaml, rounds: 2}
  revised_pairs:
    stage: label
    data: {file: responses.jsonl}
    judge: {endpoint: *server, principles: principles.yaml, licence: off}
    revise: {endpoint: *server, principles: [Be kind.]}
    pairs: best_worst
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    """A running server, and a recipe that names it in the present folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-0123456789")
    with judge_server(tmp_path, delay_s=0.004) as running:
        write(tmp_path, running.url)
        yield running


def write(
    folder: Path,
    url: str,
    *,
    prompts: int = _PROMPTS,
    responses: tuple[str, ...] = ("short", "longer", "longest!"),
) -> None:
    rows = [
        {"prompt": f"Question {number}?", "completion": f"{text} {number % 7 * 'x'}".strip()}
        for number in range(prompts)
        for text in responses
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "responses.jsonl").write_text("".join(lines))
    (folder / "principles.yaml").write_text("- Be kind.\n- Be brief.\n")
    (folder / "tiny.yaml").write_text(RECIPE.replace("URL", url))


def made(runs: Path, stage: str) -> str:
    return hashlib.sha256((runs / "tiny" / stage / "rows.jsonl").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("prompts", "kills"), [(_PROMPTS, 2), pytest.param(24, 6, marks=pytest.mark.slow)]
)
def test_a_killed_stage_goes_on_and_what_was_answered_is_never_asked_again(
    tmp_path: Path, server: JudgeServer, prompts: int, kills: int
) -> None:
    warm()
    write(tmp_path, server.url, prompts=prompts)
    recipe, moments = tmp_path / "tiny.yaml", random.Random(1)
    whole = tmp_path / "whole"
    ended = run_forked(recipe, whole)
    assert ended.code == 0, ended.output
    stages = ("pairs", "scored", "revised", "revised_pairs")
    num_whole = server.num_asked
    assert set(server.counts().values()) == {1}
    server.asked.write_text("")
    runs, num_kills = tmp_path / "runs", 0
    for share in sorted(moments.random() for _ in range(kills)):
        due = round(share * num_whole)

        def is_due(_: float, due: int = due) -> bool:
            return server.num_asked >= due

        num_kills += run_forked(recipe, runs, signal_when=is_due).code is None
    ended = run_forked(recipe, runs)
    assert ended.code == 0, ended.output
    assert num_kills > kills / 2
    # What was on its way when the process died comes in again: two requests, and two answers that
    # were not on the disk yet.
    assert num_whole <= server.num_asked <= num_whole + 4 * num_kills
    assert len(server.counts()) == num_whole
    for stage in stages:
        assert made(runs, stage) == made(whole, stage)


def test_a_replay_asks_nothing_and_makes_the_same_without_the_server(
    tmp_path: Path, posttrain: Command
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("JUDGE_KEY", "sk-secret-0123456789")
        with judge_server(tmp_path) as running:
            write(tmp_path, running.url)
            said = posttrain("run", "tiny.yaml")
            assert said.code == 0, said.err
            num_asked = running.num_asked
        before = {stage: made(tmp_path / "runs", stage) for stage in ("pairs", "revised_pairs")}
        again = posttrain("run", "tiny.yaml", "--force")
        assert again.code == 0, again.err
        assert running.num_asked == num_asked
        assert before == {stage: made(tmp_path / "runs", stage) for stage in before}
        spent, num_asked = metrics_of(tmp_path, "pairs")["judges"]["m"], _OF_PAIRS + _OF_PROBES
        assert (spent["asked"], spent["cached"], spent["sent"]) == (num_asked, num_asked, 0)
        secret = [
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and b"sk-secret" in path.read_bytes()
        ]
        assert secret == []
        answers = tmp_path / "runs/store/.answers"
        assert f"{answers.relative_to(tmp_path)}: " in posttrain("clean").out
        assert answers.is_dir()
        assert posttrain("clean", "--answers", "--yes").code == 0
        assert not answers.exists()


def test_pairs_scores_and_revisions_are_what_the_server_says(
    tmp_path: Path, server: JudgeServer, posttrain: Command
) -> None:
    said = posttrain("run", "tiny.yaml")
    assert said.code == 0, said.err
    pairs = rows_of(tmp_path, "pairs")
    assert len(pairs) == 3 * _PROMPTS
    assert all(len(pair["chosen"]) > len(pair["rejected"]) for pair in pairs)
    assert all(pair["judge"] == "m" and "probability" not in pair for pair in pairs)
    for row in rows_of(tmp_path, "scored"):
        assert row["score"] == min(10, len(row["completion"]))
    revised = rows_of(tmp_path, "revised")
    assert len(revised) == 3 * _PROMPTS
    for row in revised:
        assert row["completion"] == f"{row['original']} Indeed. Indeed."
        assert row["critique"] == "It lacks a word."
        assert row["revised_by"] in ("Be kind.", "Be brief.")
    spent = metrics_of(tmp_path, "revised")["revisers"]["m"]
    assert (spent["asked"], spent["prompt_tokens"]) == (3 * _PROMPTS * 4, 3 * _PROMPTS * 4 * 10)
    judged = rows_of(tmp_path, "revised_pairs")
    assert len(judged) == 3 * _PROMPTS
    for pair in judged:
        assert pair["chosen"] == f"{pair['rejected']} Indeed."
        assert (pair["original"], pair["revised_by"]) == (pair["rejected"], "Be kind.")
        assert pair["principle"] in ("Be kind.", "Be brief.")


def test_what_gets_no_answer_is_left_out_counted_by_cause_and_warned_of(
    tmp_path: Path, server: JudgeServer, posttrain: Command
) -> None:
    write(tmp_path, server.url, responses=("short", "longer", FAILING))
    said = posttrain("run", "tiny.yaml")
    assert said.code == 0, said.err
    metrics = metrics_of(tmp_path, "pairs")
    assert metrics["pairs"] == _PROMPTS
    assert metrics["left_out"] == {"comparisons without an answer": 2 * _PROMPTS}
    failed = metrics["judges"]["m"]["failed/empty"]
    silent = sum(one["asked"] - one["answered"] for one in metrics["probes"]["m"].values())
    assert 4 * _PROMPTS + silent <= failed <= 4 * _PROMPTS + 2 * silent
    assert f"pairs: warning: left out: {2 * _PROMPTS} comparisons without an answer" in said.out
    number = _OF_PAIRS + _OF_PROBES
    asked = f"`m` asked {number} times, {failed} without an answer ({failed} empty)"
    assert asked in " ".join(said.out.split())
    scored = rows_of(tmp_path, "scored")
    assert [row["score"] is None for row in scored] == [
        row["completion"].startswith(FAILING) for row in scored
    ]


def test_without_any_answer_the_run_ends_with_what_was_kept_and_goes_on_later(
    tmp_path: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-0123456789")
    write(tmp_path, "http://127.0.0.1:9/v1")
    said = posttrain("run", "tiny.yaml")
    assert said.code == 3
    assert f"judge `m`: the judge answered none of {3 * _PROMPTS} questions" in said.err
    assert "unreachable" in said.err


def test_a_spent_budget_ends_the_stage_also_after_a_kill_and_a_larger_one_goes_on_where_it_was(
    tmp_path: Path, server: JudgeServer, posttrain: Command
) -> None:
    """Killed before its first checkpoint, which is when nothing else of an attempt is kept."""
    warm()
    small = "stages.pairs.judge.budget={requests: 20}"
    killed = run_forked(
        *(tmp_path / "tiny.yaml", tmp_path / "runs"),
        **{"until": "pairs", "overrides": [small]},
        signal_when=lambda _: server.num_asked >= 8,
    )
    assert killed.code is None
    run = ("run", "tiny.yaml", "--until", "pairs")
    for _ in range(2):  # the second time nothing is left at all
        said = posttrain(*run, "--set", small)
        assert said.code == 3
        assert "the budget is spent: 20 requests are sent" in said.err
        assert server.num_asked <= 20
    assert posttrain(*run).code == 0
    spent = metrics_of(tmp_path, "pairs")["judges"]["m"]
    assert spent["sent"] >= server.num_asked >= _OF_PAIRS + _OF_PROBES
    assert len(server.counts()) == _OF_PAIRS + _OF_PROBES
