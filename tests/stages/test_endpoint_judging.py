"""Responses judged and revised through a server on this machine: kills, the cache, failures."""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command
from tests.forked import run_forked, warm
from tests.judge_server import FAILING, JudgeServer, judge_server
from tests.made_rows import metrics_of, rows_of

pytestmark = pytest.mark.enable_socket
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
    folder: Path, url: str, *, responses: tuple[str, ...] = ("short", "longer", "longest!")
) -> None:
    rows = [
        {"prompt": f"Question {number}?", "completion": f"{text} {number % 7 * 'x'}".strip()}
        for number in range(24)
        for text in responses
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "responses.jsonl").write_text("".join(lines))
    (folder / "principles.yaml").write_text("- Be kind.\n- Be brief.\n")
    (folder / "tiny.yaml").write_text(RECIPE.replace("URL", url))


def made(runs: Path, stage: str) -> str:
    return hashlib.sha256((runs / "tiny" / stage / "rows.jsonl").read_bytes()).hexdigest()


def test_a_killed_stage_goes_on_and_what_was_answered_is_never_asked_again(
    tmp_path: Path, server: JudgeServer
) -> None:
    warm()
    recipe, moments = tmp_path / "tiny.yaml", random.Random(1)
    whole = tmp_path / "whole"
    ended = run_forked(recipe, whole)
    assert ended.code == 0, ended.output
    stages = ("pairs", "scored", "revised", "revised_pairs")
    num_whole = server.num_asked
    assert set(server.counts().values()) == {1}
    server.asked.write_text("")
    runs, num_kills = tmp_path / "runs", 0
    for share in sorted(moments.random() for _ in range(6)):
        due = round(share * num_whole)

        def is_due(_: float, due: int = due) -> bool:
            return server.num_asked >= due

        num_kills += run_forked(recipe, runs, signal_when=is_due).code is None
    ended = run_forked(recipe, runs)
    assert ended.code == 0, ended.output
    assert num_kills >= 4
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
        spent = metrics_of(tmp_path, "pairs")["judges"]["m"]
        num_asked = 144 + 24 * 5 * 2  # comparisons, and probes of 24 prompts
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
    assert len(pairs) == 24 * 3
    assert all(len(pair["chosen"]) > len(pair["rejected"]) for pair in pairs)
    assert all(pair["judge"] == "m" and "probability" not in pair for pair in pairs)
    for row in rows_of(tmp_path, "scored"):
        assert row["score"] == min(10, len(row["completion"]))
    revised = rows_of(tmp_path, "revised")
    assert len(revised) == 72
    for row in revised:
        assert row["completion"] == f"{row['original']} Indeed. Indeed."
        assert row["critique"] == "It lacks a word."
        assert row["revised_by"] in ("Be kind.", "Be brief.")
    spent = metrics_of(tmp_path, "revised")["revisers"]["m"]
    assert (spent["asked"], spent["prompt_tokens"]) == (72 * 4, 72 * 4 * 10)
    judged = rows_of(tmp_path, "revised_pairs")
    assert len(judged) == 72
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
    assert metrics["pairs"] == 24
    assert metrics["left_out"] == {"comparisons without an answer": 48}
    of_probes = 24 * 5 * 2 - sum(one["answered"] for one in metrics["probes"]["m"].values()) * 2
    assert 96 <= metrics["judges"]["m"]["failed/empty"] <= 96 + of_probes
    assert "pairs: warning: left out: 48 comparisons without an answer" in said.out
    assert re.search(r"`m` asked 384 times, (\d+) without an answer \(\1 empty\)", _words(said.out))
    scored = rows_of(tmp_path, "scored")
    assert [row["score"] is None for row in scored] == [
        row["completion"].startswith(FAILING) for row in scored
    ]


def _words(text: str) -> str:
    return " ".join(text.split())


def test_without_any_answer_the_run_ends_with_what_was_kept_and_goes_on_later(
    tmp_path: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-0123456789")
    write(tmp_path, "http://127.0.0.1:9/v1")
    said = posttrain("run", "tiny.yaml")
    assert said.code == 3
    assert "judge `m`: the judge answered none of 64 questions" in said.err
    assert "unreachable" in said.err


def test_a_spent_budget_ends_the_stage_also_after_a_kill_and_a_larger_one_goes_on_where_it_was(
    tmp_path: Path, server: JudgeServer, posttrain: Command
) -> None:
    """Killed before its first checkpoint, which is when nothing else of an attempt is kept."""
    warm()
    small = "stages.pairs.judge.budget={requests: 100}"
    killed = run_forked(
        *(tmp_path / "tiny.yaml", tmp_path / "runs"),
        **{"until": "pairs", "overrides": [small]},
        signal_when=lambda _: server.num_asked >= 30,
    )
    assert killed.code is None
    run = ("run", "tiny.yaml", "--until", "pairs")
    for _ in range(2):  # the second time nothing is left at all
        said = posttrain(*run, "--set", small)
        assert said.code == 3
        assert "the budget is spent: 100 requests are sent" in said.err
        assert server.num_asked <= 100
    assert posttrain(*run).code == 0
    num_probes = 24 * 5 * 2
    spent = metrics_of(tmp_path, "pairs")["judges"]["m"]
    assert spent["sent"] == server.num_asked >= 144 + num_probes
    assert len(server.counts()) == 144 + num_probes
