"""The commands around a run, through the real command line."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from pipeline.store.manifest import read_sealed, write_sealed
from tests.command import HEAVY, Said
from tests.conftest import TINY
from tests.forked import run_forked, warm
from tests.unit.test_imports import imported_by

MORE = """\
  answers: {stage: evaluate, model: $sft, tasks: arithmetic, limit: 12, styles: zero-shot}
  compare:
    {stage: compare, baseline: $base, candidates: $answers, tasks: arithmetic, limit: 12,
    styles: zero-shot}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warm()
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tiny.yaml").write_text(TINY + MORE)
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: Path):
    """Return a function that runs `posttrain` on the finished recipe, in its folder."""
    import sys

    from pipeline.cli import main

    monkeypatch.chdir(finished)
    monkeypatch.setenv("COLUMNS", "200")

    def run(command: str, *arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["posttrain", command, *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
        written = capsys.readouterr()
        return Said(int(str(code)), written.out, written.err)

    return run


def test_a_run_with_everything_there_imports_nothing_heavy(finished: Path) -> None:
    assert imported_by(finished, "run", "tiny.yaml").isdisjoint(HEAVY)


def test_a_run_with_everything_there_runs_nothing_and_shows_the_comparison(call) -> None:
    said = call("run", "tiny.yaml")
    assert said.code == 0, said.err
    assert said.out.count("cached") == 5
    assert re.search(r"^task +base +sft$", said.out, re.MULTILINE)
    assert "results: runs/tiny" in said.out
    assert "posttrain compare tiny.yaml:compare --full" in said.out
    assert len(said.out.splitlines()) < 24, "it ends in one screen"


def test_all_of_a_finished_comparison_is_printed_when_it_is_asked_for(call) -> None:
    said = call("compare", "tiny.yaml:compare", "--full")
    assert said.code == 0, said.err
    assert "arithmetic: verified accuracy" in said.out
    assert "arithmetic: win rate over base" in said.out
    again = call("compare", "tiny.yaml:compare", "--limit", "2")
    assert again.code == 2
    assert again.err.startswith("--limit: asks models, and this comparison is there already")
    short = call("compare", "tiny.yaml:compare")
    assert "preferred to base's, arithmetic" in short.out
    assert "win rate over" not in short.out


def test_comparison_json_holds_a_row_for_each_model_and_the_items_lie_beside_it(
    finished: Path,
) -> None:
    folder = finished / "runs/tiny/compare"
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    needed = {
        "task",
        "metric",
        "model",
        "style",
        "n",
        "score",
        "low",
        "high",
        "delta",
        "delta_low",
        "delta_high",
    }
    assert all(needed <= set(row) for row in rows)
    assert {row["model"] for row in rows} == {"base", "sft"}
    for row in rows:
        has_none = row["model"] == "base" or row["metric"] == "win_rate"
        deltas = [row["delta"], row["delta_low"], row["delta_high"]]
        assert all((delta is None) == has_none for delta in deltas)
    (preferred,) = (row for row in rows if row["metric"] == "win_rate")
    assert (preferred["model"], preferred["n"]) == ("sft", 12)
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    assert len(items) == 2 * 2 * 12  # models x metrics x items
    assert {item["form"] for item in items if item["model"] == "base"} == {"document"}
    verified = [item for item in items if item["metric"] == "verified_accuracy"]
    assert {item["form"] for item in verified if item["model"] == "sft"} == {"chat"}


def test_run_json_and_a_link_name_every_stage(finished: Path) -> None:
    record = json.loads((finished / "runs/tiny/run.json").read_text())
    assert list(record["stages"]) == ["tokenizer", "base", "sft", "answers", "compare"]
    for name, stage in record["stages"].items():
        link = finished / "runs/tiny" / name
        assert link.is_symlink()
        assert link.resolve() == (finished / "runs" / stage["path"]).resolve()


def test_status_shows_sizes_and_unfinished_work(call) -> None:
    said = call("status", "tiny.yaml")
    assert re.search(r"base\s+pretrain\s+done\s+[\d.]+ kB", said.out)
    assert re.search(r"^encoded rows of all recipes: [\d.]+ kB in .*\.encoded$", said.out, re.M)
    said = call("status", "tiny.yaml", "--set", "stages.sft.batch_size=4")
    assert re.search(r"sft\s+sft\s+batch_size: 8 -> 4", said.out)


def test_why_names_the_key_or_says_that_nothing_changed(call) -> None:
    said = call("why", "tiny.yaml", "sft")
    assert "sft: is there" in said.out
    said = call(
        "why", "tiny.yaml", "answers", "--set", "stages.sft.training_args.learning_rate=9e-4"
    )
    assert said.out.splitlines() == [
        "answers: is built on sft, which changed",
        "sft: training_args.learning_rate: 0.001 -> 0.0009",
    ]


def test_logs_print_the_training_step_by_step(call) -> None:
    logged = [
        json.loads(line) for line in call("logs", "tiny.yaml", "sft", "--metrics").out.splitlines()
    ]
    lines = [
        line for line in call("logs", "tiny.yaml", "sft").out.splitlines() if line[:5] == "step "
    ]
    assert len(lines) == len(logged) > 1
    for line, said in zip(logged, lines, strict=True):
        assert re.match(rf"step +{line['step']}  loss {line['loss']:.4g}  token accuracy ", said)
    assert "has logged nothing yet" in call("logs", "tiny.yaml", "sft", "--set", "seed=99").err


def test_libraries_have_nothing_to_warn_of(finished: Path) -> None:
    logs = list(finished.glob("runs/store/*/log.txt"))
    assert len(logs) > 2
    assert [log.read_text() for log in logs] == [""] * len(logs)


def test_logs_print_metrics(call) -> None:
    lines = call("logs", "tiny.yaml", "sft", "--metrics").out.splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 21))
    assert {"loss", "learning_rate", "grad_norm"} <= set(json.loads(lines[0]))


def test_a_spoilt_input_stops_the_stage_that_builds_on_it_with_code_4(
    call, finished: Path, tmp_path: Path
) -> None:
    runs = shutil.copytree(finished / "runs", tmp_path / "runs", symlinks=True)
    weights = next(runs.glob("store/sft-*/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = call("run", "tiny.yaml", "--runs", str(runs), "--set", "stages.answers.limit=5")
    assert said.code == 4
    assert "model.safetensors has other contents than were written" in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_adopt_makes_a_model_trained_elsewhere_the_result_of_a_stage(
    call, finished: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    model = finished / "runs/tiny/base"
    said = call("adopt", "tiny.yaml", "base", str(model), "--runs", str(runs))
    assert said.code == 0, said.err
    said = call("status", "tiny.yaml", "--runs", str(runs))
    assert re.search(r"base\s+pretrain\s+done, not exact", said.out)
    said = call("adopt", "tiny.yaml", "base", str(model), "--runs", str(runs))
    assert said.code == 2
    assert "is there already" in said.err


def test_clean_says_first_and_removes_only_what_no_run_refers_to(
    call, finished: Path, tmp_path: Path
) -> None:
    runs = shutil.copytree(finished / "runs", tmp_path / "runs", symlinks=True)
    record = read_sealed(runs / "tiny/run.json")
    orphan = runs / record["stages"].pop("answers")["path"]
    write_sealed(runs / "tiny/run.json", record)
    said = call("clean", "--runs", str(runs))
    assert str(orphan) in said.out
    assert orphan.exists()
    call("clean", "--runs", str(runs), "--yes")
    assert not orphan.exists()
    assert all((runs / stage["path"]).exists() for stage in record["stages"].values())


def test_stage_alone_needs_what_it_is_built_on(call, tmp_path: Path) -> None:
    said = call("run", "tiny.yaml", "--runs", str(tmp_path / "runs"), "--stage", "sft")
    assert said.code == 2
    assert "`sft` is built on `base`, which has not run" in said.err


def test_a_forced_stage_runs_again_and_gives_the_same(finished: Path, tmp_path: Path) -> None:
    from pipeline import load_recipe, run_recipe
    from pipeline.run.runner import Selection
    from tests.kills import hashes

    runs = shutil.copytree(finished / "runs", tmp_path / "runs", symlinks=True)
    before = hashes(runs, "sft")
    (outcome,) = run_recipe(
        load_recipe(finished / "tiny.yaml"), runs=runs, selection=Selection(only="sft", force=True)
    )
    assert outcome.status == "ran"
    assert hashes(runs, "sft") == before


def test_libraries_send_no_telemetry_unless_the_user_says_so(
    call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    assert call("list", "tasks").code == 0
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    assert call("list", "tasks").code == 0
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "0"
