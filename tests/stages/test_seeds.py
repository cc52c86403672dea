"""One recipe under several seeds: `posttrain run RECIPE --seeds 1,2`."""

import contextlib
import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import load_recipe
from pipeline.cli import main
from pipeline.commands.seeds import run_seeds
from pipeline.errors import InterruptedRunError, PosttrainError
from pipeline.store.store import Store
from tests.command import Command, command, is_like, the_line
from tests.conftest import TINY

OWN_SEED = TINY.replace("stage: pretrain", "stage: pretrain\n    seed: 9")
MORE = """\
  base_answers:
    {stage: evaluate, seed: 9, model: $base, tasks: arithmetic, limit: 8, styles: zero-shot}
  answers: {stage: evaluate, model: $sft, tasks: arithmetic, limit: 8, styles: zero-shot}
  compare: {stage: compare, baseline: $base_answers, candidates: $answers}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, run under the seeds 1 and 2, and what the command said."""
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "tiny.yaml").write_text(OWN_SEED + MORE)
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", ["posttrain", "run", "tiny.yaml", "--seeds", "1,2"])
        main()
    (folder / "said.txt").write_text(said.getvalue())
    return folder


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: Path
) -> Command:
    """Return a function that runs `posttrain ARGUMENTS` in the folder of the finished recipe."""
    monkeypatch.chdir(finished)
    monkeypatch.setenv("COLUMNS", "200")
    return command(monkeypatch, capsys)


def _record(folder: Path, seed: int) -> dict[str, Any]:
    return json.loads((folder / f"runs/tiny/seed-{seed}/run.json").read_text())


def test_each_seed_has_a_run_of_its_own(finished: Path) -> None:
    for seed in (1, 2):
        record = _record(finished, seed)
        assert (record["name"], record["seed"]) == ("tiny", seed)
        assert len(record["stages"]) == 6
        for name, stage in record["stages"].items():
            link = finished / f"runs/tiny/seed-{seed}" / name
            assert link.is_symlink()
            assert link.resolve() == (finished / "runs" / stage["path"]).resolve()
    assert not (finished / "runs/tiny/run.json").exists()


def test_what_the_seed_does_not_change_is_shared_and_runs_once(finished: Path) -> None:
    first, second = (_record(finished, seed)["stages"] for seed in (1, 2))
    same = {name for name in first if first[name]["fingerprint"] == second[name]["fingerprint"]}
    assert same == {"tokenizer", "base", "base_answers"}
    one, other = (finished / "said.txt").read_text().split("seed 2 (2 of 2)")
    assert set(re.findall(r"^(\w+) +cached\b", other, re.MULTILINE)) == same
    assert "cached" not in one


def test_the_pooled_rows_are_means_of_the_seeds_rows(finished: Path) -> None:
    pooled = json.loads((finished / "runs/tiny/seeds/compare.json").read_text())
    assert (pooled["seeds"], pooled["baseline"]) == ([1, 2], "base")
    rows_by_seed = [
        json.loads((finished / f"runs/tiny/seed-{seed}/compare/comparison.json").read_text())[
            "rows"
        ]
        for seed in (1, 2)
    ]
    assert [row["metric"] for row in pooled["rows"]][-1] == "win_rate"
    for row, one, other in zip(pooled["rows"], *rows_by_seed, strict=True):
        for key in ("task", "metric", "model", "style", "form"):
            assert row[key] == one[key] == other[key]
        assert row["score"]["by_seed"] == [one["score"], other["score"]]
        assert row["score"]["mean"] == pytest.approx((one["score"] + other["score"]) / 2)
        if one["delta"] is None:
            assert row["delta"] is None
        else:
            mean = (one["delta"] + other["delta"]) / 2
            assert row["delta"]["mean"] == pytest.approx(mean)


def test_the_pooled_table_is_shown_and_a_second_run_only_looks(finished: Path, call) -> None:
    before = (finished / "said.txt").read_text()
    said = call("run", "tiny.yaml", "--seeds", "1,2")
    assert said.code == 0, said.err
    assert len(re.findall(r"^\w+ +cached\b", said.out, re.MULTILINE)) == 12
    table = said.out[said.out.index("compare: means over the seeds 1, 2") :]
    assert before.endswith(table)
    assert "results: runs/tiny" in table
    assert "all of it: posttrain compare runs/tiny/seeds/compare.json --full" in table


def test_each_seeds_scores_are_printed_when_they_are_asked_for(call, finished: Path) -> None:
    path = "runs/tiny/seeds/compare.json"
    full = call("compare", path, "--full")
    assert full.code == 0, full.err
    assert "arithmetic: win rate over base" in full.out
    assert "each seed" in full.out
    short = call("compare", path)
    assert "preferred to base's, arithmetic" in short.out
    stored = json.loads(Path(path).read_text())
    assert json.loads(call("compare", path, "--json").out)["rows"] == stored["rows"]


def test_until_leaves_out_what_follows_and_pools_nothing(call) -> None:
    said = call("run", "tiny.yaml", "--seeds", "2,1", "--until", "sft")
    assert said.code == 0, said.err
    assert said.out.index("seed 2 (1 of 2)") < said.out.index("seed 1 (2 of 2)")
    assert "means over" not in said.out
    assert "answers" not in said.out


def test_force_runs_a_shared_stage_again_once(call) -> None:
    said = call("run", "tiny.yaml", "--seeds", "1,2", "--stage", "tokenizer", "--force")
    assert said.code == 0, said.err
    assert said.out.count("runs again (--force)") == 1
    assert said.out.count("cached") == 1


def test_the_other_commands_know_seeds_from_the_plain_run(call, finished: Path) -> None:
    assert re.search(r"sft +sft +first time", call("status", "tiny.yaml").out)
    assert re.search(r"sft +sft +done", call("status", "tiny.yaml", "--set", "seed=2").out)
    assert "nothing to remove" in call("clean").out
    link = finished / "runs/tiny/seed-2"
    link.rename(finished / "elsewhere")
    cleaned = call("clean").out
    (finished / "elsewhere").rename(link)
    assert len(re.findall(r"store/(sft|evaluate|compare)-", cleaned)) == 3


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        ("1,x", "--seeds: `x` is not a seed: a whole number from 0 to 4294967295; ..."),
        ("", "--seeds: `` is not a seed...; write for example --seeds 1,2,3"),
        ("1,,2", "--seeds: `` is not a seed..."),
        ("-1", "--seeds: `-1` is not a seed..."),
        ("1.5", "--seeds: `1.5` is not a seed..."),
        ("1,2,1", "--seeds: the seed 1 is there twice; name it once"),
        ("1,01", "--seeds: the seed 1 is there twice; name it once"),
        ("4294967296", "--seeds: `4294967296` is not a seed..."),
        ("9" * 5000, "--seeds: `999...` is not a seed..."),
        ("\u0663", "--seeds: `\u0663` is not a seed..."),
    ],
)
def test_bad_seeds_are_one_line(call, seeds: str, line: str) -> None:
    assert is_like(the_line(call("run", "tiny.yaml", "--seeds", seeds)), line)


@pytest.mark.parametrize("name", ["seeds", "seed-2"])
def test_a_stage_cannot_have_the_name_of_a_seeds_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("sft:\n", f"{name}:\n"))
    recipe = load_recipe(tmp_path / "tiny.yaml")
    with pytest.raises(PosttrainError, match=f"tiny.yaml:14.*with --seeds the name `{name}`"):
        run_seeds(recipe, Store(tmp_path / "runs"), (1, 2))
    assert not (tmp_path / "runs").exists()


def test_a_request_to_stop_ends_the_seeds_too(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("tokenizer"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError):
        run_seeds(load_recipe(tmp_path / "tiny.yaml"), Store(tmp_path / "runs"), (1, 2), say=say)
    assert "seed 1 (1 of 2)" in said
    assert "seed 2 (2 of 2)" not in said
