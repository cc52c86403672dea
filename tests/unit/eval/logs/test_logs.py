"""Logs of other programs: what is read of them, what is paired with what, what is refused."""

import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest

from eval.comparison.comparison import Comparison, compare_results
from eval.comparison.score_rows import Row
from eval.logs.find import find_log
from eval.logs.log import Log, LogError, align_logs
from tests.foreign_logs import (
    annotations,
    harness_log,
    harness_sample,
    inspect_archive,
    inspect_json,
    inspect_sample,
)


def log_at(path: Path) -> Log:
    found = find_log(path)
    assert found is not None
    return found


def compared(first: Path, second: Path) -> Comparison:
    results, notes = align_logs([log_at(first), log_at(second)], ["a", "b"])
    return compare_results(results, "a", notes=notes)


def row_of(found: Comparison, model: str, metric: str, task: str = "") -> Row:
    (row,) = [
        each
        for each in found.rows
        if (each.model, each.metric) == (model, metric) and task in ("", each.task)
    ]
    return row


def paired(folder: Path, both: int, only_a: int, only_b: int, neither: int) -> tuple[Path, Path]:
    """Two logs of the harness in which so many items are right in both, in one, in none."""
    rows = [(1, 1)] * both + [(1, 0)] * only_a + [(0, 1)] * only_b + [(0, 0)] * neither
    paths = []
    for place, name in enumerate("ab"):
        samples = [harness_sample(n, {"acc": float(row[place])}) for n, row in enumerate(rows)]
        paths.append(harness_log(folder / name, {"arc_easy": samples}, model=f"org/{name}"))
    return paths[0], paths[1]


def test_the_p_values_of_a_public_report_are_reproduced(tmp_path: Path):
    """EleutherAI/lm-evaluation-harness#3868: 220 items, p 0.080 unpaired and 0.008 paired.

    It prints no table of the four outcomes; its own tests have 30 and 12 items on which the two
    differ. With 110 more that both have right and 68 that none has, both p-values come out.
    """
    found = compared(*paired(tmp_path, both=110, only_a=12, only_b=30, neither=68))
    a, b = row_of(found, "a", "acc"), row_of(found, "b", "acc")
    assert (b.n, b.gained, b.lost) == (220, 30, 12)
    assert round(b.p or 0, 3) == 0.008
    # The unpaired z-test of its script: two standard errors as the harness has them.
    assert a.score is not None
    assert b.score is not None
    errors = [row * (1 - row) / (220 - 1) for row in (a.score, b.score)]
    z = (b.score - a.score) / math.sqrt(sum(errors))
    assert round(2 * NormalDist().cdf(-z), 3) == 0.080
    assert b.delta_low is not None
    assert 0 < b.delta_low < b.delta < b.delta_high
    assert b.detectable is not None


def test_a_log_of_the_harness_gives_prompts_responses_and_each_metric(tmp_path: Path):
    written = harness_sample(
        1,
        {"exact_match": 1.0},
        filter="strict-match",
        arguments={"gen_args_0": {"arg_0": "Q: 6 * 7?\nA:", "arg_1": {"until": ["\n"]}}},
        resps=[["So 42."]],
        filtered_resps=["42"],
        target="42",
    )
    chosen = [harness_sample(n, {"acc": 0.0, "acc_norm": 1.0}) for n in range(3)]
    shots = {"n-shot": {"gsm8k": 5, "arc_easy": 0}}
    log = log_at(harness_log(tmp_path, {"gsm8k": [written], "arc_easy": chosen}, **shots))
    assert (log.program, log.model) == ("lm-evaluation-harness", "some/model")
    by_metric = {(each.task, each.metric): each for each in log.results}
    said = by_metric["gsm8k", "exact_match,strict-match"]
    assert (said.prompt, said.response, said.answer, said.gold) == (
        "Q: 6 * 7?\nA:",
        "So 42.",
        "42",
        "42",
    )
    assert (said.style, said.shots, said.score) == ("few-shot", 5, 1.0)
    assert by_metric["arc_easy", "acc"].response == " no"  # the likelier of both
    assert by_metric["arc_easy", "acc_norm"].score == 1.0
    assert len(log.results) == 1 + 2 * 3


def test_documents_are_paired_by_what_they_say_not_by_their_number(tmp_path: Path):
    samples = [harness_sample(n, {"acc": float(n % 2)}) for n in range(6)]
    turned = [{**sample, "doc_id": 5 - sample["doc_id"]} for sample in reversed(samples)]
    harness_log(tmp_path / "a", {"arc_easy": samples}, model="a")
    harness_log(tmp_path / "b", {"arc_easy": turned}, model="b")
    found = compared(tmp_path / "a", tmp_path / "b")
    row = row_of(found, "b", "acc")
    assert (row.n, row.gained, row.lost) == (6, 0, 0)


def test_old_logs_without_hashes_and_lists_of_metrics_are_paired_by_number(tmp_path: Path):
    for name, right in (("a", 0), ("b", 1)):
        lines = [{"doc_id": n, "target": "x", "acc": float(n < 3 + right)} for n in range(9)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = row_of(compared(tmp_path / "a.jsonl", tmp_path / "b.jsonl"), "b", "acc")
    assert (row.n, row.gained, row.lost) == (9, 1, 0)


def test_what_is_only_in_one_log_is_left_out_and_said(tmp_path: Path):
    samples = [harness_sample(n, {"acc": 1.0}) for n in range(5)]
    harness_log(tmp_path / "a", {"arc_easy": samples, "piqa": samples}, model="a")
    harness_log(tmp_path / "b", {"arc_easy": samples[1:]}, model="b", versions={"arc_easy": 2.0})
    found = compared(tmp_path / "a", tmp_path / "b")
    assert row_of(found, "b", "acc").n == 4
    said = " ".join(found.notes)
    assert "Only in `a`, so not compared: piqa (acc)." in said
    assert "1 of 5 items of `arc_easy` are only in `a` (acc): left out." in said
    assert "The version of `arc_easy` is not the same: `a`: 1.0, `b`: 2.0." in said


def test_the_tasks_of_a_group_are_one_task_in_groups(tmp_path: Path):
    def of(place: str) -> list[dict]:
        return [harness_sample(n, {"acc": 1.0}, doc_hash=f"{place}{n}") for n in range(3)]

    groups = {"mmlu": ["mmlu_stem"], "mmlu_stem": ["mmlu_physics", "mmlu_algebra"], "piqa": []}
    tasks = {"mmlu_physics": of("p"), "mmlu_algebra": of("a"), "piqa": of("q")}
    log = log_at(harness_log(tmp_path, tasks, group_subtasks=groups))
    assert {(each.task, each.group) for each in log.results} == {
        ("mmlu", "mmlu_physics"),
        ("mmlu", "mmlu_algebra"),
        ("piqa", ""),
    }
    assert len({each.item for each in log.results}) == 9


def test_of_several_runs_the_last_is_read_and_said(tmp_path: Path):
    samples = [harness_sample(n, {"acc": 0.0}) for n in range(3)]
    harness_log(tmp_path, {"arc_easy": samples}, time="2026-01-01T00-00-00.000001")
    right = [{**sample, "acc": 1.0} for sample in samples]
    harness_log(tmp_path, {"arc_easy": right}, time="2026-02-01T00-00-00.000001")
    log = log_at(tmp_path)
    assert [each.score for each in log.results] == [1.0] * 3
    assert log.notes == ["Of several runs in `some__model` the last is read: arc_easy."]


def test_metrics_that_only_all_documents_together_have_are_named(tmp_path: Path):
    lines = [harness_sample(n, {"bleu": ["a", "b"], "acc": math.nan}) for n in range(2)]
    log = log_at(harness_log(tmp_path, {"wmt": lines}))
    assert [each.score for each in log.results] == [None, None]
    assert "No value an item, so not compared: wmt bleu (some__model)." in log.notes


@pytest.mark.parametrize("form", ["zstd", "deflated", "killed", "json"])
def test_a_log_of_inspect_is_read_in_each_form(tmp_path: Path, form: str):
    samples = [inspect_sample(f"q{n}", {"match": "CIPN"[n % 4], "f1": n / 8}) for n in range(8)]
    if form == "json":
        path = inspect_json(tmp_path / "log.json", samples)
    else:
        with_zstd, was_killed = form != "deflated", form == "killed"
        path = tmp_path / "log.eval"
        inspect_archive(path, samples, with_zstd=with_zstd, was_killed=was_killed)
    for log in (log_at(path), log_at(tmp_path)):
        assert (log.program, log.model) == ("inspect_ai", "mockllm/a")
        graded = [each for each in log.results if each.metric == "match"]
        assert [each.score for each in graded] == [1.0, 0.0, 0.5, 0.0] * 2
        assert graded[1].prompt == "Question q1: yes or no?"
        assert (graded[1].response, graded[1].answer, graded[1].gold) == (
            "I say yes.",
            "yes",
            "yes",
        )
        assert any("ended with started" in note for note in log.notes) == (form == "killed")


def test_epochs_of_inspect_are_samples_and_errors_are_ungraded(tmp_path: Path):
    samples = [inspect_sample(1, {"match": "C"}), inspect_sample(1, {"match": "I"}, epoch=2)]
    broken = inspect_sample(2, {}, error={"message": "the sandbox died"})
    log = log_at(inspect_json(tmp_path / "log.json", [*samples, broken]))
    assert [(each.sample, each.score) for each in log.results] == [(0, 1.0), (1, 0.0), (0, None)]
    assert log.results[2].reason == "the sandbox died"


def test_samples_of_inspect_are_paired_by_their_question_when_a_run_shuffled_them(tmp_path: Path):
    def samples(order: list[int]) -> list[dict]:
        return [
            inspect_sample(place, {"match": "CI"[n % 2]}, input=f"Question {n}")
            for place, n in enumerate(order, 1)
        ]

    inspect_json(tmp_path / "a.json", samples([0, 1, 2, 3]), model="m/a")
    inspect_json(tmp_path / "b.json", samples([3, 1, 0, 2]), model="m/b")
    row = row_of(compared(tmp_path / "a.json", tmp_path / "b.json"), "b", "match")
    assert (row.n, row.gained, row.lost) == (4, 0, 0)


def test_several_values_of_a_scorer_are_metrics_of_their_own(tmp_path: Path):
    values = {"quality": {"style": 0.5, "facts": 1, "kind": "essay"}}
    log = log_at(inspect_json(tmp_path / "log.json", [inspect_sample(1, values)]))
    assert {each.metric: each.score for each in log.results} == {
        "quality/style": 0.5,
        "quality/facts": 1.0,
    }
    assert log.notes == ["No number, so not compared: yesno quality/kind."]


def test_annotations_of_alpaca_eval_are_preferences_over_the_reference(tmp_path: Path):
    a = annotations(tmp_path / "a" / "annotations.json", [1, 2, 1.5, 0, 1.25, None], model="A")
    b = annotations(tmp_path / "b" / "annotations.json", [2, 2, 2, 1, 1.75, 2], model="B")
    log = log_at(a.parent)
    assert (log.program, log.model) == ("AlpacaEval", "A")
    assert [each.score for each in log.results] == [0.0, 1.0, 0.5, 0.5, 0.25, None]
    assert "A: 1 of 6 were not judged: left out." in log.notes
    row = row_of(compared(a, b), "b", "preferred")
    assert (row.n, row.ungraded) == (6, 1)
    assert row.delta == pytest.approx((1 + 0 + 0.5 - 0.5 + 0.5) / 5)


def test_annotations_with_the_older_column_of_the_reference_are_read(tmp_path: Path):
    """tatsu-lab/alpaca_eval#336 shows a file with `generator` for `generator_1`."""
    path = annotations(tmp_path / "annotations.json", [1.0000048889], model="A")
    (row,) = json.loads(path.read_text())
    row["generator"] = row.pop("generator_1")
    path.write_text(json.dumps([row]))
    assert log_at(path).terms["the reference"] == "reference"


def test_preferences_over_other_references_are_not_compared(tmp_path: Path):
    a = annotations(tmp_path / "a.json", [1, 2], model="A")
    b = annotations(tmp_path / "b.json", [1, 2], model="B", generator_1="another")
    with pytest.raises(LogError, match="the reference is not the same"):
        compared(a, b)


def test_what_is_no_log_is_none(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "samples_x_2026-01-01T00-00-00.jsonl").write_text("{}")
    assert find_log(tmp_path) is None  # a model's folder
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n')
    assert find_log(tmp_path / "rows.jsonl") is None
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert find_log(tmp_path / "other.json") is None
    assert find_log(tmp_path / "nowhere") is None


def test_logs_that_cannot_be_used_are_refused_with_the_reason(tmp_path: Path):
    empty = harness_log(tmp_path / "empty", {})
    with pytest.raises(LogError, match="run lm_eval with `--log_samples`"):
        find_log(empty)
    for model in ("a", "b"):
        harness_log(tmp_path / "two", {"arc": [harness_sample(1, {"acc": 1.0})]}, model=model)
    with pytest.raises(LogError, match="holds logs of 2 models; name one"):
        find_log(tmp_path / "two")
    (tmp_path / "cut.eval").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(LogError, match=r"cut\.eval: is no readable log of inspect_ai"):
        find_log(tmp_path / "cut.eval")
    (tmp_path / "cut.jsonl").write_text('{"doc_id": 1, "acc": 1.0}\n{"doc_id": 2, "ac')
    with pytest.raises(LogError, match=r"cut\.jsonl:2: broken JSON"):
        find_log(tmp_path / "cut.jsonl")


def test_logs_without_anything_in_common_are_refused(tmp_path: Path):
    samples = [harness_sample(n, {"acc": 1.0}) for n in range(2)]
    a = harness_log(tmp_path / "a", {"piqa": samples}, model="a")
    b = harness_log(tmp_path / "b", {"arc": samples}, model="b")
    with pytest.raises(LogError, match=r"share no task and metric: `a` has piqa \(acc\)"):
        compared(a, b)
    other = [{**sample, "doc_hash": f"other {n}"} for n, sample in enumerate(samples)]
    c = harness_log(tmp_path / "c", {"piqa": other}, model="c")
    with pytest.raises(LogError, match="share no item of `piqa`"):
        compared(a, c)
