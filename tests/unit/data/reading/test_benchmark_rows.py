"""Where the rows of a benchmark come from: files, the hub at a commit; and what names them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import load_recipe
from pipeline.checks.data import check_recipe_data
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.data_blocks import keeps_texts, read_held_out_texts
from pipeline.data.reading.sources import read_rows
from pipeline.data.reading.tasks import FileRows, HubRows, load_task, task_rows
from pipeline.errors import PosttrainError
from pipeline.plan.plan import Plan, make
from pipeline.store.hub_lock import lock_path
from pipeline.store.store import Store

RECIPE = """\
name: benchmarks
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    batch_size: 8
  asked: {stage: evaluate, model: $base, tasks: ['TASK'], styles: zero-shot}
"""


def problems(path: Path, count: int, first: int = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    lines = (
        json.dumps({"question": f"How many are {n}?", "answer": f"<<1+1=2>>So\n#### {n}"})
        for n in range(first, first + count)
    )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    problems(tmp_path / "test.jsonl", 5)
    problems(tmp_path / "data" / "train.jsonl", 2_100, first=5)
    return Places(tmp_path, {"real": tmp_path / "data"})


def planned(folder: Path, task: str) -> Plan:
    (folder / "benchmarks.yaml").write_text(RECIPE.replace("TASK", task))
    return make(load_recipe(folder / "benchmarks.yaml"), Store(folder / "runs"))


def asked(folder: Path, task: str) -> dict[str, Any]:
    """What stands for the task in the identity of the stage that asks it."""
    return planned(folder, task).stage("asked").identity["tasks"][0]


def test_files_are_found_below_the_recipe_and_below_roots_and_are_in_no_name(places: Places):
    task = load_task("gsm8k(test=test.jsonl, train=real:train.jsonl)", places)
    assert task.name == "gsm8k"
    assert len(list(task.examples("test"))) == 5
    assert len(list(task.examples("train"))) == 2_100
    slow = load_task("humaneval(file=a.jsonl.gz, timeout_s=9)", places)
    assert slow.name == "humaneval(timeout_s=9)"


def test_one_file_of_mbpp_gives_all_splits(places: Places):
    found = task_rows("mbpp(file=real:mbpp.jsonl)", places)
    whole = FileRows("real:mbpp.jsonl", places.base / "data" / "mbpp.jsonl")
    assert found == dict.fromkeys(("test", "validation", "train"), whole)


def test_without_settings_rows_come_from_the_hub_at_the_commit_of_the_lock():
    places = Places(Path(), {}, {"openai/gsm8k": "abc"})
    found = task_rows("gsm8k", places)
    assert found["test"] == HubRows("openai/gsm8k", "main", "test", None, "abc")
    assert task_rows("gsm8k(revision=v1)", places)["train"] == HubRows(
        "openai/gsm8k", "main", "train", "v1", "abc"
    )
    assert task_rows("arithmetic(max_digits=3)", places) == {}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gsm8k(test=a, file=b)", "`file` is another name for `test`"),
        ("gsm8k(test=a, revision=main)", "`revision` is of the hub"),
        ("gsm8k(test=3)", "`test=3` is not a file"),
        ("gsm8k(tset=a)", "no setting `tset`; did you mean `test`?"),
        ("gsm8k(test=nowhere:a)", "there is no root `nowhere:`"),
        ("multiple_choice", "write `multiple_choice(test=FILE)`"),
        ("gsm9k", "did you mean `gsm8k`?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(places: Places, name: str, said: str):
    with pytest.raises(ValueError, match=r"task|root") as refusal:
        load_task(name, places)
    assert said in str(refusal.value)


def test_training_reads_every_row_of_a_benchmark(places: Places):
    block = DataBlock(task="gsm8k(train=real:train.jsonl)")
    task = load_task(block.task or "", places)
    found = list(read_rows(block, places, task))
    assert len(found) == 2_100
    assert found[0].fields["messages"][1]["content"].startswith("So\n#### ")
    texts = [row.fields["text"] for row in read_rows(block, places, task, kind="documents", seed=3)]
    assert len(set(texts)) == 2_100


def test_text_that_training_never_sees_is_that_of_validation_rows(places: Places):
    without = DataBlock(task="gsm8k(train=real:train.jsonl)")
    assert not keeps_texts(without, places)
    with pytest.raises(PosttrainError, match="`gsm8k` has no validation rows"):
        read_held_out_texts(without, places, at_most=3)
    kept = DataBlock(task="gsm8k(train=real:train.jsonl, validation=test.jsonl)")
    assert keeps_texts(kept, places)
    texts = read_held_out_texts(kept, places, at_most=9)
    assert len(texts) == 5
    assert all(text.startswith("Question: How many are ") for text in texts)


def test_a_row_that_cannot_be_used_is_found_before_anything_runs(places: Places):
    recipe = planned(places.base, "gsm8k(test=test.jsonl)").recipe
    assert list(check_recipe_data(recipe)) == ["asked: gsm8k: examples: 5 test"]
    with (places.base / "test.jsonl").open("a") as stream:
        stream.write('{"question": "Why?"}\n')
    with pytest.raises(PosttrainError, match="jsonl:6: there is no column `answer`"):
        list(check_recipe_data(recipe))


def test_a_file_that_is_not_there_is_named_with_its_place_in_the_recipe(places: Places):
    with pytest.raises(PosttrainError) as refusal:
        planned(places.base, "gsm8k(test=tset.jsonl)")
    assert "benchmarks.yaml:10:" in str(refusal.value)
    assert "`tset.jsonl` does not exist; did you mean `test.jsonl`?" in str(refusal.value)


def test_a_benchmark_is_known_by_the_bytes_of_its_files(places: Places):
    one = asked(places.base, "gsm8k(test=test.jsonl)")
    problems(places.base / "data" / "test.jsonl", 5)
    moved = asked(places.base, "gsm8k(file=./data/test.jsonl)")
    assert one == moved
    assert one["task"] == "gsm8k"
    problems(places.base / "data" / "test.jsonl", 6)
    assert asked(places.base, "gsm8k(test=./data/test.jsonl)") != one
    assert set(asked(places.base, "mbpp(file=test.jsonl, timeout_s=9)")["rows"]) == {
        *("test", "validation", "train")
    }


def test_a_benchmark_of_the_hub_is_known_by_its_commit(places: Places):
    plan = planned(places.base, "gsm8k")
    assert plan.unresolved == {"datasets/openai/gsm8k"}
    lock = {"hub": {"datasets/openai/gsm8k": "f" * 40}}
    lock_path(plan.recipe.path).write_text(json.dumps(lock))
    assert planned(places.base, "gsm8k").unresolved == set()
    test = {"hub": "openai/gsm8k", "subset": "main", "split": "test", "revision": "f" * 40}
    assert asked(places.base, "gsm8k")["rows"]["test"] == test
    assert planned(places.base, "gsm8k(revision=v1)").unresolved == set()


HUB = """
import json, sys
from pathlib import Path

from datasets import load_dataset
from pipeline.data.reading.data_blocks import read_records
from pipeline.data.reading.tasks import load_task
from pipeline.errors import InfrastructureError
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places

# A copy as a run with a network leaves it: owner___name/config/version/commit.
cache, commit, file = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
made = load_dataset("json", data_files={"train": file, "test": file}, split="train")
folder = Path(made.cache_files[0]["filename"]).parent
for each in folder.glob("json*"):
    each.rename(each.with_name(each.name.replace("json", "gsm8k")))
info = folder / "dataset_info.json"
content = json.loads(info.read_text()) | {"config_name": "main", "dataset_name": "gsm8k"}
info.write_text(json.dumps(content))
target = cache / "openai___gsm8k" / "main" / "0.0.0" / commit
target.parent.mkdir(parents=True)
folder.rename(target)

for revision in (commit, "f" * 40):
    places = Places(Path(), {}, {"openai/gsm8k": revision})
    for read in (
        lambda: len(load_task("gsm8k", places).test_items(9)),
        lambda: len(list(read_records(
            DataBlock(hub="openai/gsm8k", subset="main", columns={"prompt": "question",
            "completion": "answer"}), places, ("prompt_completion",)))),
    ):
        try:
            print(read())
        except InfrastructureError as error:
            print(error)
"""


def test_the_commit_of_the_lock_is_the_one_that_is_read(places: Places, tmp_path: Path):
    """Of benchmarks and of data blocks; where the local copy is another, neither is read."""
    cache = str(tmp_path / "cache")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": cache}
    commit = "0123456789abcdef0123456789abcdef01234567"
    done = subprocess.run(
        [sys.executable, "-c", HUB, cache, commit, str(places.base / "test.jsonl")],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    items, records, *refused = done.stdout.splitlines()
    assert (items, records) == ("5", "5")
    assert len(refused) == 2
    for line in refused:
        assert line.startswith("openai/gsm8k: the hub cannot be reached, and the local copy is of")
