"""`check` of a recipe's `eval_data`: its rows, its held-out side, its splits."""

import json
from pathlib import Path

import pytest

from pipeline.checks.data import check_recipe_data
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.sources import read_rows
from pipeline.errors import PosttrainError
from pipeline.recipe.load import load

RECIPE = """\
name: tiny
stages:
  sft:
    stage: sft
    model: {path}
    data: {{file: train.jsonl, holdout: 0.5}}
    eval_data: {eval_data}
"""


@pytest.fixture
def checked(tmp_path: Path):
    """Lines of `check` for a recipe with this eval_data."""
    written = [json.dumps({"prompt": f"{n}", "completion": f" {n}"}) for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(written))
    (tmp_path / "eval.jsonl").write_text("\n".join(written[:7]))

    def lines(eval_data: str) -> list[str]:
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(path="./model", eval_data=eval_data))
        return list(check_recipe_data(load(tmp_path / "recipe.yaml")))

    return lines


def test_evaluation_data_are_checked_too_and_their_held_out_side(checked) -> None:
    trained, whole = checked("{file: eval.jsonl}")
    assert whole.startswith("sft: eval.jsonl: 7 rows")
    _, held = checked("{file: train.jsonl, holdout: 0.5}")
    counts = [int(line.split(" rows")[0].split()[-1]) for line in (trained, held)]
    assert sum(counts) == 40
    assert min(counts) > 5
    with pytest.raises(PosttrainError, match=r"no\.jsonl: no such file"):
        checked("{file: no.jsonl}")


def test_evaluation_data_may_be_a_test_split_but_not_of_a_task(checked) -> None:
    assert len(checked("{hub: some/data, split: test}")) == 1
    with pytest.raises(PosttrainError, match=r"recipe\.yaml:7:\d+: the split `test` is for eval"):
        checked("{task: arithmetic, split: test}")


def test_a_fault_on_the_held_out_side_is_found_before_training(checked, tmp_path: Path) -> None:
    places, block = Places(tmp_path, {}), DataBlock(file="train.jsonl", holdout=0.5)
    assert len(checked("[]")) == 1
    blank = [{"prompt": "a" * n, "completion": ""} for n in range(1, 9)]
    with (tmp_path / "train.jsonl").open("a") as stream:
        stream.writelines(f"\n{json.dumps(each)}" for each in blank)
    held = {row.fields["prompt"] for row in read_rows(block, places, held_out=True)}
    there = next(each for each in blank if each["prompt"] in held)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()[:40]
    (tmp_path / "train.jsonl").write_text("\n".join([*lines, json.dumps(there)]))
    with pytest.raises(PosttrainError, match=r"train\.jsonl:41: `completion` is empty"):
        checked("[]")
