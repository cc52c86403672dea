"""Real models asked published tasks from a recipe: a benchmark in a file, and the harness's."""

import json
from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.errors import PosttrainError
from pipeline.plan.plan import make
from pipeline.store.store import Store
from tests.forked import run_forked, warm
from tests.harness_tasks import harness_tasks

RECIPE = """\
name: published
roots: {real: DATA}
stages:
  asked:
    stage: evaluate
    model: real:stories260K
    tasks: gsm8k(test=real:gsm8k/test.jsonl)
    styles: zero-shot
    limit: 4
  harness:
    stage: compare
    baseline: real:stories260K
    candidates: real:babyllama
    harness: both
    harness_include: ./tasks
    gate: {both acc: {score_low: 0.0}}
    limit: 3
"""


@pytest.fixture
def recipe(real_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "published.yaml"
    path.write_text(RECIPE.replace("DATA", str(real_data)))
    return path


def test_a_stage_asks_a_real_model_a_benchmark_from_a_file(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    warm()
    ended = run_forked(recipe, tmp_path / "runs", until="asked")
    assert ended.code == 0, ended.output
    folder = tmp_path / "runs" / "published" / "asked"
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    assert len(items) == 4
    for item in items:
        assert (item["task"], item["metric"]) == ("gsm8k", "verified_accuracy")
        assert item["prompt"].startswith("Question: ")
        assert item["gold"].isdigit()
        is_short = not item["reason"].startswith("not asked: ")  # the model has 512 positions
        assert (item["score"] in (0.0, 1.0)) == bool(item["response"]) == is_short
    assert any(item["response"] for item in items)
    metrics = json.loads((folder / "artifact.json").read_text())["metrics"]
    assert list(metrics) == ["gsm8k verified_accuracy zero-shot"]


def test_a_stage_cannot_show_demonstrations_that_it_has_no_rows_of(
    recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "tasks").mkdir()
    warm()
    few = ["stages.asked.styles=few-shot"]
    ended = run_forked(recipe, tmp_path / "runs", until="asked", overrides=few)
    assert ended.code == 2
    assert "`gsm8k` has no train rows (there are: test)" in ended.output
    assert "leave `few-shot` out of `styles`" in ended.output


def test_two_real_models_are_compared_on_tasks_of_the_harness(recipe: Path, tmp_path: Path) -> None:
    harness_tasks(tmp_path)
    warm()
    ended = run_forked(recipe, tmp_path / "runs", until="harness")
    assert ended.code == 0, ended.output
    folder = tmp_path / "runs" / "published" / "harness"
    comparison = json.loads((folder / "comparison.json").read_text())
    rows = {(row["model"], row["metric"]): row for row in comparison["rows"]}
    assert {key[1] for key in rows} == {"acc", "acc_norm"}
    for (model, _), row in rows.items():
        assert (row["task"], row["style"], row["n"]) == ("both", "zero-shot", 6)
        assert (row["delta"] is None) == (model == "real:stories260K")
    assert {row["group"] for row in comparison["groups"]} == {"capitals", "currencies"}
    assert comparison["gate"]["ships"] is True
    assert any("lm-evaluation-harness asked: lm_eval " in note for note in comparison["notes"])


def test_definitions_for_the_harness_are_known_by_their_content(
    recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(PosttrainError, match=r"`\./tasks` does not exist"):
        make(load_recipe(recipe), Store(tmp_path / "runs"))

    def fingerprint(text: str) -> str:
        (tmp_path / "tasks").mkdir(exist_ok=True)
        (tmp_path / "tasks" / "mine.yaml").write_text(text)
        return make(load_recipe(recipe), Store(tmp_path / "runs")).stage("harness").fingerprint

    assert fingerprint("task: mine") == fingerprint("task: mine") != fingerprint("task: other")
