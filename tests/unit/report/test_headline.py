"""The one figure that a stage is told by at a run's end."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from pipeline.report.headline import headline
from pipeline.store.store import Artifact
from tests.report_runs import _comparison, plain


def told(kind, metrics, path=Path("nowhere"), files=None):
    return headline(Artifact("s", kind, "policy", path, "0", {}, {}, {}, metrics, {}, files or {}))


HELD_OUT = {"held_out_accuracy": 0.72, "held_out_low": 0.7, "held_out_high": 0.741}
ASKED = {
    "facts choice_accuracy zero-shot": 0.98,
    "facts verified_accuracy zero-shot": 0.5,
    "facts verified_accuracy few-shot 3": 0.75,
    "of two words verified_accuracy chain-of-thought": 0.25,
    "facts pass@4 zero-shot": 1.0,
    "a text.txt bits_per_byte window 128": 1.25,
}


@pytest.mark.parametrize(
    ("kind", "metrics", "said"),
    [
        ("tokenizer", {"vocab_size": 1280, "trained_on_bytes": 9}, "1,280 tokens"),
        ("pretrain", {"steps": 9, "loss": 2.5}, "loss 2.500"),
        ("pretrain", {"bits_per_byte a": 1.0}, "held-out bits per byte 1.000"),
        (
            "pretrain",
            {"loss": 2.5, "bits_per_byte a": 1.0, "bits_per_byte b": 2.0},
            "held-out bits per byte 1.500",
        ),
        ("sft", {"steps": 9, "loss": 2.5, "eval_loss": 2.25}, "held-out loss 2.250"),
        ("reward_model", HELD_OUT, "held-out accuracy 0.72 [0.70, 0.74]"),
        (
            "dpo",
            {**HELD_OUT, "kl": 1.94},
            "held-out accuracy 0.72 [0.70, 0.74], KL 1.9 nats",
        ),
        ("merge", {"parameters": 554_000}, "554k parameters"),
        ("evaluate", ASKED, "0.50, mean of 2 tasks"),
        ("evaluate", {"facts verified_accuracy zero-shot": 0.5}, "facts 0.50"),
        ("evaluate", {"a.txt bits_per_byte window 128": 1.25}, "1.250 bits per byte of a.txt"),
        ("compare", {"ships": False}, "DO NOT SHIP"),
        ("made elsewhere", {"exact": True, "hits": 3}, "hits 3"),
        ("made elsewhere", {}, ""),
    ],
)
def test_a_stage_is_told_by_the_figure_that_matters(kind, metrics, said):
    assert told(kind, metrics) == said


def test_ppo_is_told_by_its_score_and_what_it_costs(tmp_path):
    lines = ({"objective/scores": score, "objective/kl": 3.2} for score in (0.31, 0.74))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert told("ppo", {}, tmp_path) == "score 0.31 -> 0.74, KL 3.2 nats"


def test_distillation_is_told_by_the_distance_to_the_teacher(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"objective/kl": 3.2}\n')
    gaps = {"teacher_kl_before": 5.125, "teacher_kl": 2.5}
    assert told("distill", gaps, tmp_path) == "5.1 -> 2.5 nats from its teacher, KL 3.2 nats"
    assert told("distill", {"steps": 4}, tmp_path) == "KL 3.2 nats"


def _tell_comparison(folder, rows):
    content = json.dumps(_comparison(plain) | {"gate": None, "rows": rows}).encode()
    (folder / "comparison.json").write_bytes(content)
    files = {"comparison.json": {"sha256": hashlib.sha256(content).hexdigest()}}
    return told("compare", {"ppo facts": 0.1}, folder, files)


def test_a_comparison_without_a_gate_is_told_by_its_mean_differences(tmp_path):
    rows = _comparison(plain)["rows"]
    assert _tell_comparison(tmp_path, rows) == "tuned +0.09, ppo +0.08, mean of 2 tasks"


def test_a_comparison_on_one_task_or_text_is_told_by_its_differences(tmp_path):
    rows = _comparison(plain)["rows"]
    subjects = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
    one = [row for row in rows if row["task"] == subjects[0][0]]
    assert _tell_comparison(tmp_path, one).endswith(f", {subjects[0][0]}")
    text = next(task for task, metric in subjects if metric == "bits_per_byte")
    read = [row for row in rows if (row["task"], row["metric"]) == (text, "bits_per_byte")]
    assert re.fullmatch(
        rf"(\w+ [+-]\d\.\d{{3}}, )+{re.escape(text)}", _tell_comparison(tmp_path, read)
    )
