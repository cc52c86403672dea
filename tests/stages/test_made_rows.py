"""Rows that stages make, through the command: sampled, judged, chosen, learnt from, in a chain."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.making.choices import AT_MEAN
from pipeline.data.reading.sources import read_rows
from tests.command import Command, Said
from tests.made_rows import metrics_of, rows_of
from tests.small_generating import REWARD


@pytest.fixture
def folder(made_folder: Path) -> Path:
    return made_folder


def test_every_prompt_is_answered_so_many_times_with_its_columns(folder: Path) -> None:
    rows, metrics = rows_of(folder, "sampled"), metrics_of(folder, "sampled")
    asked = Counter(json.dumps([row["prompt"], row.get("reference")]) for row in rows)
    kept = metrics["responses_kept"]
    assert metrics["responses"] == 32 * 4
    assert len(rows) == kept == 32 * 4 - metrics["responses_empty"]
    assert max(asked.values()) == 4
    assert metrics["responses_cut_off"] == sum(row["finish"] == "length" for row in rows) > 0
    first = rows[0]
    assert first["prompt"] == [{"role": "user", "content": "Question ?"}]
    assert first["completion"][0]["role"] == "assistant"
    assert (first["source"], first["topic"], first["sample"]) == ("asked.jsonl", "t0", 0)
    assert {row["source"] for row in rows} == {"asked.jsonl", "arithmetic"}
    assert all("reference" in row for row in rows if row["source"] == "arithmetic")
    assert len({row["completion"][0]["content"] for row in rows}) > 100  # samples differ


def test_a_score_is_the_weighted_sum_and_terms_speak_of_their_own_rows(folder: Path) -> None:
    for row in rows_of(folder, "scored"):
        text = row["completion"][0]["content"].lower()
        vowels = sum(letter in "aeiou" for letter in text)
        assert row["scores"]["vowels"] == vowels
        is_task = row["source"] == "arithmetic"
        assert (row["scores"]["verify"] is not None) == is_task
        assert row["score"] == 2 * vowels + 5 * (row["scores"]["verify"] or 0.0)


def test_pairs_are_the_best_and_the_worst_of_each_prompt(folder: Path) -> None:
    scores: dict[str, list[float]] = {}
    for row in rows_of(folder, "sampled"):
        text = row["completion"][0]["content"].lower()
        key = json.dumps([row["prompt"], row.get("reference")])
        scores.setdefault(key, []).append(sum(letter in "aeiou" for letter in text))
    differing = {key: values for key, values in scores.items() if len(set(values)) > 1}
    pairs = rows_of(folder, "pairs")
    assert len(pairs) == len(differing) == metrics_of(folder, "pairs")["pairs"]
    for pair in pairs:
        values = differing[json.dumps([pair["prompt"], pair.get("reference")])]
        assert (pair["score_chosen"], pair["score_rejected"]) == (max(values), min(values))
    tied = sum(len(values) > 1 and len(set(values)) == 1 for values in scores.values())
    left_out = metrics_of(folder, "pairs").get("left_out", {})
    assert left_out.get("too close to tell apart", 0) == tied


def test_thumbs_and_the_best_are_made_of_the_same_samples(folder: Path) -> None:
    thumbs, metrics = rows_of(folder, "thumbs"), metrics_of(folder, "thumbs")
    assert Counter(row["label"] for row in thumbs) == {
        True: metrics["thumbs_up"],
        False: metrics["thumbs_down"],
    }
    chosen = rows_of(folder, "best")
    highest: dict[str, float] = {}
    for row in rows_of(folder, "scored"):
        key = json.dumps([row["prompt"], row.get("reference")])
        highest[key] = max(row["score"], highest.get(key, row["score"]))
    assert {json.dumps([row["prompt"], row.get("reference")]): row["score"] for row in chosen} == (
        highest
    )


def test_training_stages_learn_from_the_rows_and_round_two_from_round_one(folder: Path) -> None:
    assert metrics_of(folder, "sft")["rows"] == len(rows_of(folder, "best"))
    assert metrics_of(folder, "dpo")["rows"] == len(rows_of(folder, "pairs"))
    assert metrics_of(folder, "kto")["rows"] == len(rows_of(folder, "thumbs"))
    artifact = json.loads((folder / "runs/tiny/sampled2/artifact.json").read_text())
    dpo = json.loads((folder / "runs/tiny/dpo/artifact.json").read_text())
    assert artifact["inputs"] == {"dpo": dpo["fingerprint"]}
    round_two = metrics_of(folder, "dpo2")
    assert 0 < round_two["rows"] < len(rows_of(folder, "pairs2"))  # the rest is held out
    assert "not_used" not in metrics_of(folder, "dpo")


def test_a_holdout_keeps_all_responses_to_a_prompt_on_one_side(folder: Path) -> None:
    places = Places(folder, made={"sampled": folder / "runs/tiny/sampled"})
    block = DataBlock.model_validate({"stage": "$sampled", "holdout": 0.3})
    sides = [
        {json.dumps(row.fields["prompt"]) for row in read_rows(block, places, held_out=held_out)}
        for held_out in (False, True)
    ]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_all_pairs_are_judged_by_a_reward_model_that_reads_the_text(folder: Path) -> None:
    pairs = rows_of(folder, "judged")
    assert len(pairs) == metrics_of(folder, "judged")["pairs"]
    assert all(pair["score_chosen"] > pair["score_rejected"] for pair in pairs)


def test_what_was_left_out_is_told_at_the_end_and_in_the_report(
    made_rows: tuple[Path, Said], folder: Path, posttrain: Command
) -> None:
    metrics = metrics_of(folder, "sampled")
    cut, left_out = metrics["responses_cut_off"], metrics_of(folder, "thumbs")["left_out"]
    states = posttrain("status", "tiny.yaml").out
    assert f"{metrics['responses_kept']} responses, {cut / 128:.0%} cut off" in states
    assert f"{metrics_of(folder, 'pairs')['pairs']} pairs of" in states
    assert posttrain("report", "tiny.yaml").code == 0
    page = (folder / "runs/tiny/report.html").read_text()
    section = page[page.index('<section id="made">') :]
    section = section[: section.index("</section>")]
    assert f"{cut} responses kept though cut off" in section
    assert f"{left_out[AT_MEAN]} {AT_MEAN.replace(chr(39), '&#39;')}" in section
    thumbs = section[section.index("thumbs <span") : section.index("best <span")]
    bars = [int(count) for count in re.findall(r"<title>[^<]*: (\d+)</title>", thumbs)]
    assert sum(bars) == metrics["responses_kept"]
    first = rows_of(folder, "pairs")[0]
    assert f"score_chosen {first['score_chosen']:.4g}" in section


def test_a_run_warns_of_responses_that_are_left_out(folder: Path, posttrain: Command) -> None:
    alone = ("run", "tiny.yaml", "--stage", "sampled", "--force", "--runs", "told")
    said = posttrain(*alone, "--set", "stages.sampled.cut=drop")
    lost = metrics_of(folder, "sampled", "told")["responses_cut_off"]
    assert re.search(rf"sampled: warning: .*left out: .*{lost} cut off", said.out)


def test_a_second_run_is_cached_and_a_new_reward_reaches_no_further_than_it_must(
    folder: Path, posttrain: Command
) -> None:
    said = posttrain("plan", "tiny.yaml")
    assert said.code == 0
    assert len(re.findall(r"cached", said.out)) == len(list((folder / "runs/tiny").glob("*/")))
    try:
        (folder / "mine.py").write_text(REWARD + "# changed\n")
        said = posttrain("plan", "tiny.yaml")
        table = [line for line in said.out.splitlines() if line.strip()]
        lines = {line.split()[0]: line for line in reversed(table)}  # the first of a name
        assert "cached" in lines["sampled"]
        assert "cached" not in lines["pairs"]
        assert "$pairs changed" in lines["dpo"]
        assert "reward" in posttrain("why", "tiny.yaml", "pairs").out
    finally:
        (folder / "mine.py").write_text(REWARD)


def test_check_reads_the_rows_of_a_stage_once_they_are_made(
    folder: Path, posttrain: Command
) -> None:
    said = posttrain("check", "tiny.yaml")
    assert said.code == 0, said.err
    num_pairs = len(rows_of(folder, "pairs"))
    assert f"dpo: $pairs: {num_pairs} rows (preference)" in said.out
    said = posttrain("check", "tiny.yaml", "--runs", "elsewhere")
    assert said.code == 0, said.err
    assert "dpo: how long its rows are is known once $pairs has run" in said.out


def test_what_is_drawn_for_a_row_depends_on_the_seed_and_its_number_alone(
    folder: Path, posttrain: Command
) -> None:
    alone = ("run", "tiny.yaml", "--stage", "sampled", "--runs", "other")
    fewer = "stages.sampled.prompts=[{file: asked.jsonl, rows: 5}, {task: arithmetic, rows: 1}]"
    assert posttrain(*alone, "--set", fewer, "--set", "stages.sampled.batch_size=7").code == 0
    few = [row for row in rows_of(folder, "sampled", "other") if row["source"] == "asked.jsonl"]
    assert len(few) >= 18
    assert few == rows_of(folder, "sampled")[: len(few)]
    assert posttrain(*alone, "--set", fewer, "--set", "stages.sampled.seed=9").code == 0
    assert rows_of(folder, "sampled", "other")[: len(few)] != few


def test_a_stop_string_ends_a_response_and_does_not_stand_in_it(
    folder: Path, posttrain: Command
) -> None:
    def sample(*edits: str) -> list[dict[str, Any]]:
        greedy = ("num_samples=1", "temperature=0", *edits)
        settings = [part for edit in greedy for part in ("--set", f"stages.sampled.{edit}")]
        said = posttrain("run", "tiny.yaml", "--stage", "sampled", "--runs", "greedy", *settings)
        assert said.code == 0, said.err
        return rows_of(folder, "sampled", "greedy")

    whole = sample()
    text = whole[0]["completion"][0]["content"]
    stop = next(letter for letter in text[1:] if letter.isalnum())
    cut = sample(f"stop_strings=['{stop}']")
    assert cut[0]["completion"][0]["content"] == text[: text.index(stop)]
    assert cut[0]["finish"] == "stop"
    assert all(stop not in row["completion"][0]["content"] for row in cut)


def test_responses_that_were_cut_off_can_be_dropped_and_are_counted(
    folder: Path, posttrain: Command
) -> None:
    only = ("--stage", "sampled", "--runs", "whole", "--set", "stages.sampled.cut=drop")
    assert posttrain("run", "tiny.yaml", *only).code == 0
    rows, metrics = rows_of(folder, "sampled", "whole"), metrics_of(folder, "sampled", "whole")
    assert {row["finish"] for row in rows} == {"eos"}
    assert len(rows) == 128 - metrics["responses_cut_off"] - metrics["responses_empty"]
    assert rows == [row for row in rows_of(folder, "sampled") if row["finish"] != "length"]
    said = posttrain("run", "tiny.yaml", *only, "--set", "stages.sampled.max_new_tokens=1")
    assert said.code == 2
    assert "none of 128 responses can be kept" in said.err


def test_a_reward_that_reads_token_ids_is_told_that_there_are_none(
    tmp_path: Path, folder: Path, posttrain: Command
) -> None:
    own = "def counts(completion_ids, **rest):\n    return [len(ids) for ids in completion_ids]\n"
    (folder / "ids.py").write_text(own)
    edit = ("--set", "stages.pairs.reward={use: 'ids:counts'}")
    said = posttrain("run", "tiny.yaml", "--stage", "pairs", *edit)
    assert said.code == 2
    assert "`label` judges texts, and has no `completion_ids`; read `completions`" in said.err


def test_responses_of_a_file_are_judged_like_those_of_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, posttrain: Command
) -> None:
    (tmp_path / "mine.py").write_text(REWARD)
    rows = [{"prompt": "Say.", "answer": text, "by": n} for n, text in enumerate(("aa", "b", "i"))]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "{file: own.jsonl, columns: {completion: answer}}"
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nstages:\n"
        f"  pairs: {{stage: label, data: {data}, reward: {{use: 'mine:vowels'}}, pairs: all}}\n"
        f"  scores: {{stage: label, data: {data}, reward: {{use: 'mine:vowels'}}}}\n"
        "  best: {stage: best_of_n, data: $scores, at_least: 2}\n"
    )
    monkeypatch.chdir(tmp_path)
    said = posttrain("run", "tiny.yaml")
    assert said.code == 0, said.err
    pairs = [(row["chosen"], row["rejected"]) for row in rows_of(tmp_path, "pairs")]
    assert pairs == [("aa", "i"), ("aa", "b"), ("i", "b")]
    best = rows_of(tmp_path, "best")
    assert best == [{"prompt": "Say.", "by": 0, "completion": "aa", "score": 2.0, "out_of": 3}]


def test_check_finds_prompts_that_leave_no_room_before_anything_runs(
    folder: Path, posttrain: Command
) -> None:
    tight = ("--set", "stages.sampled.max_new_tokens=110", "--runs", "tight")
    said = posttrain("check", "tiny.yaml", *tight)
    assert (said.code, said.err) == (2, posttrain("run", "tiny.yaml", *tight).err)
    assert re.search(r"tiny.yaml:7:\d+: \d+ of 32 prompts are longer than 18 tokens", said.err)
    assert "lower `max_new_tokens`" in said.err


@pytest.mark.parametrize(
    ("stage", "row", "words"),
    [
        ("label", {"prompt": "a", "completion": "b", "score": 1}, "there is a column `score`, and"),
        ("label", {"prompt": "a"}, "columns found: `prompt`"),
        ("label", {"prompt": "a", "completion": 7}, "`completion` is a number (7), not text"),
        ("best_of_n", {"prompt": "a", "completion": "b"}, "the column `score` is missing, or is"),
        ("best_of_n", {"prompt": "a", "completion": "b", "score": "1"}, "missing, or is no number"),
        ("generate", {"prompt": "a", "sample": 3}, "there is a column `sample`, and `generate`"),
    ],
)
def test_a_row_of_a_file_that_a_stage_cannot_take_is_found_by_check(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    posttrain: Command,
    stage: str,
    row: dict[str, Any],
    words: str,
) -> None:
    (tmp_path / "mine.py").write_text(REWARD)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    keys = {
        "label": "data: {file: rows.jsonl}, reward: {use: 'mine:vowels'}",
        "best_of_n": "data: {file: rows.jsonl}",
        "generate": f"model: {folder}/chat, prompts: {{file: rows.jsonl}}, max_new_tokens: 8",
    }[stage]
    (tmp_path / "tiny.yaml").write_text(
        f"name: tiny\nstages:\n  made: {{stage: {stage}, {keys}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    said = posttrain("check", "tiny.yaml")
    assert said.code == 2
    assert said.err.startswith("rows.jsonl:1")
    assert words in said.err
    assert posttrain("run", "tiny.yaml").err == said.err
