"""A sweep through the real command: its stages run, one is chosen, its tables fit a terminal."""

import re
import shutil
from pathlib import Path

import pytest

from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.report.live.state import Follower
from pipeline.store.manifest import read_sealed
from pipeline.store.store import Store, read, verify
from tests.command import Command, command
from tests.forked import run_forked, warm

SWEPT = """\
name: swept
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: &lines [{file: lines.txt, separator: "\\n"}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, num_hidden_layers: 1}
    data: *lines
    sequence_length: 64
    batch_size: 4
    training_args: {learning_rate: 3e-3, logging_steps: 1}
    sweep:
      model.hidden_size: [16, 32]
      tokens: [1k, 4k]
  last:
    stage: pretrain
    model: "$base[best: loss]"
    data: *lines
    tokens: 1k
    sequence_length: 64
    batch_size: 4
"""
NAMES = [
    f"base[hidden_size={size},tokens={tokens}]" for size in (16, 32) for tokens in ("1k", "4k")
]
BEST = "base[best=loss]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warm()
    folder = tmp_path_factory.mktemp("swept")
    (folder / "swept.yaml").write_text(SWEPT)
    lines = (f"{n} and {n + k} make {n + n + k}" for n in range(60) for k in range(8))
    (folder / "lines.txt").write_text("\n".join(lines))
    ended = run_forked(folder / "swept.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def posttrain(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(finished)
    return command(monkeypatch, capsys)


def copy_recipe(source: Path, folder: Path) -> None:
    for name in ("swept.yaml", "lines.txt"):
        shutil.copy(source / name, folder)


def losses(folder: Path) -> dict[str, float]:
    stages = read_sealed(folder / "runs" / "swept" / "run.json")["stages"]
    return {name: stages[name]["metrics"]["loss"] for name in NAMES}


def test_the_best_is_the_model_of_the_lowest_loss_and_tells_of_all(finished: Path) -> None:
    measured = losses(finished)
    chosen = min(measured, key=measured.__getitem__)
    best = read(finished / "runs" / "swept" / BEST)
    assert best.metrics["chosen"] == chosen
    assert best.metrics["value"] == measured[chosen]
    assert {each["name"]: each["value"] for each in best.metrics["points"]} == measured
    weights = finished / "runs" / "swept" / chosen / "model.safetensors"
    assert (best.path / "model.safetensors").samefile(weights), "weights are linked, not copied"
    assert best.properties["form"] == "document"
    assert not (best.path / "metrics.jsonl").exists()
    for artifact in Store(finished / "runs").artifacts():
        verify(artifact)


def test_another_value_runs_its_stages_and_what_chooses_among_them(finished: Path) -> None:
    folder = finished.parent / "more"
    shutil.copytree(finished / "runs", folder / "runs", symlinks=True)
    copy_recipe(finished, folder)
    sizes = "stages.base.sweep={model.hidden_size: [16], tokens: [1k, 2k, 4k]}"
    ended = run_forked(folder / "swept.yaml", folder / "runs", overrides=[sizes], until=BEST)
    assert ended.code == 0, ended.output
    ran = [line.split()[0] for line in ended.output.splitlines() if " runs (" in line]
    assert ran == ["base[hidden_size=16,tokens=2k]", BEST]


def test_a_stage_of_a_sweep_that_was_killed_goes_on_to_the_same_result(finished: Path) -> None:
    folder = finished.parent / "killed"
    folder.mkdir()
    copy_recipe(finished, folder)
    often = ["stages.base.training_args.save_steps=2"]
    name = NAMES[-1]
    working = folder / "runs" / "store" / ".working"
    killed = run_forked(
        folder / "swept.yaml",
        folder / "runs",
        overrides=often,
        until=name,
        signal_when=lambda _: any(working.glob("pretrain-*/checkpoints/*/MANIFEST.json")),
    )
    assert killed.code is None, killed.output
    again = run_forked(folder / "swept.yaml", folder / "runs", overrides=often, until=name)
    assert again.code == 0, again.output
    assert "resumes" in again.output
    here, there = (read(each / "runs" / "swept" / name) for each in (folder, finished))
    assert here.files["model.safetensors"] == there.files["model.safetensors"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_grid_is_told_apart_at_any_width(
    width: int, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name in ("status", "plan"):
        said = posttrain(name, "swept.yaml")
        assert said.code == 0, said.err
        lines = said.out.splitlines()
        assert max(map(len, lines)) <= width
        assert sum(line.startswith("base[hidden_size,tokens]: 4 ") for line in lines) == 1
        rows = [line for line in lines if line.startswith(("  16, ", "  32, "))][:4]
        assert [row.split()[:2] for row in rows] == [
            [f"{size},", tokens] for size in (16, 32) for tokens in ("1k", "4k")
        ]
        assert any(line.startswith(BEST) for line in lines)


def test_a_stage_is_named_by_its_brackets_on_the_command_line(
    finished: Path, posttrain: Command
) -> None:
    said = posttrain("logs", "swept.yaml", NAMES[0])
    assert said.code == 0, said.err
    assert posttrain("why", "swept.yaml", BEST).code == 0
    again = posttrain("run", "swept.yaml", "--until", "base")
    assert again.code == 0, again.err
    assert again.out.count("cached") == 2 * 5, "each in a line of its own and in the table"
    one = posttrain("run", "swept.yaml", "--stage", "base[tokens=4k, hidden_size=16]")
    assert one.out.count("cached") == 2
    export = posttrain("export", "swept.yaml", BEST, "out")
    assert export.code == 0, export.err
    card = (finished / "out" / "README.md").read_text(encoding="utf-8")
    assert card.count("| pretrain |") == 1, "the chosen one, not what it was chosen from"
    assert "of 4 stages |  | by: loss; direction: lowest |" in card
    assert f"| last training loss | {min(losses(finished).values()):.3f} |" in card


def test_the_report_has_a_table_of_the_sweep_and_one_box_for_it(
    finished: Path, posttrain: Command
) -> None:
    assert posttrain("report", "runs/swept").code == 0
    page = (finished / "runs" / "swept" / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="sweeps">')[2].partition("</section>")[0]
    measured = losses(finished)
    best = f"{min(measured.values()):.4g}"
    assert f'<b class="gain">{best}</b>' in section
    assert section.count('<b class="gain">') == 1
    assert 'aria-label="loss by tokens: hidden_size 16: 1k: ' in section
    rows = re.findall(r'<tr><th scope="row">(\w+)</th><th scope="row">(\w+)</th>', section)
    assert rows == [(size, tokens) for size in ("16", "32") for tokens in ("1k", "4k")]
    chain = page.partition('<section id="chain">')[2].partition("</section>")[0]
    names = re.findall(r'<text class="name"[^>]*>(.*?)</text>', chain)
    assert names == ["tokenizer", "base", "base[be…=loss]", "last"]
    assert "pretrain · 4 stages" in chain
    training = page.partition('<section id="training">')[2].partition("</section>")[0]
    assert training.count('<details class="fold second">') == 1
    assert "4 of 4 stages" in training


def test_the_page_that_follows_a_run_names_the_sweep_above_its_stages(finished: Path) -> None:
    plan = make(load(finished / "swept.yaml"), Store(finished / "runs"))
    found = Follower(plan, Store(finished / "runs")).look()["stages"]
    assert [each["label"] for each in found] == [
        *("tokenizer", "16, 1k", "16, 4k", "32, 1k", "32, 4k", BEST, "last")
    ]
    begun = [each["begins"] for each in found]
    assert begun == ["", "base[hidden_size,tokens]: 4 stages", *[""] * 5]
