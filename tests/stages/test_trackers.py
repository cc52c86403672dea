"""What trackers write stays with the stage's result, whole, and stages can be held side by side."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from pipeline import load_recipe
from pipeline.recipe.remarks import describe_changed_execution
from tests.command import command
from tests.conftest import TINY
from tests.forked import Ended, run_forked, warm

TOLD = [f"stages.{name}.training_args.report_to=tensorboard" for name in ("base", "sft")]
SAVE = "stages.base.training_args.save_steps=5"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warm()
    path = tmp_path_factory.mktemp("trackers") / "tiny.yaml"
    path.write_text(TINY)
    return path


def run(recipe: Path, *overrides: str, **named) -> Ended:
    return run_forked(recipe, recipe.parent / "runs", overrides=[*TOLD, SAVE, *overrides], **named)


def losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a folder: the steps and losses of each run."""
    found = EventMultiplexer().AddRunsFromDirectory(str(folder))
    found.Reload()
    tagged = found.PluginRunToTagToContent("scalars")
    scalars = {name: found.Tensors(name, "train/loss") for name, tags in tagged.items() if tags}
    return {
        name: [(each.step, each.tensor_proto.float_val[0]) for each in events]
        for name, events in scalars.items()
    }


def logged(folder: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_a_training_that_was_killed_has_all_its_steps_once_and_stages_stand_side_by_side(
    recipe: Path,
) -> None:
    runs = recipe.parent / "runs"
    working = "store/.working/pretrain-*/out/metrics.jsonl"
    killed = run(
        recipe,
        until="base",
        signal_when=lambda _: any(
            path.read_bytes().count(b"\n") >= 12 for path in runs.glob(working)
        ),
    )
    assert killed.code is None, killed.output
    ended = run(recipe)
    assert ended.code == 0, ended.output
    assert "resumes from checkpoint-" in ended.output
    shown = losses(runs / "tiny")
    assert shown.keys() == {"base/tensorboard", "sft/tensorboard"}
    for name, points in shown.items():
        expected = logged(runs / "tiny" / Path(name).parent)
        assert [step for step, _ in points] == [step for step, _ in expected]
        assert [loss for _, loss in points] == pytest.approx([loss for _, loss in expected])


def test_what_stages_logged_is_written_for_a_tracker_afterwards(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = command(monkeypatch, capsys)
    monkeypatch.chdir(recipe.parent)
    said = call("track", "tiny.yaml")
    assert said.code == 0, said.err
    assert "tensorboard --logdir tensorboard" in said.out
    shown = losses(recipe.parent / "tensorboard")
    assert shown.keys() == {"base", "sft"}
    for name, points in shown.items():
        expected = logged(recipe.parent / "runs/tiny" / name)
        assert points == [(step, pytest.approx(loss)) for step, loss in expected]
    for arguments, message in (
        (["--to", "tensorbord"], "did you mean `tensorboard`?"),
        (["--runs", "none"], "no stage has logged anything yet"),
    ):
        refused = call("track", "tiny.yaml", *arguments)
        assert (refused.code, message in refused.err) == (2, True)


def test_a_tracker_that_is_named_after_a_stage_ran_was_told_nothing(recipe: Path) -> None:
    config = load_recipe(recipe, overrides=["stages.sft.training_args.report_to=[wandb, trackio]"])
    sft = config.stages["sft"]

    def said(before: str) -> list[str]:
        return describe_changed_execution(
            sft, config.launch, {"training_args": {"report_to": before}}
        )

    assert said("none")[-1].endswith("so nothing was logged to trackio and wandb")
    assert said("trackio")[-1].endswith("so nothing was logged to wandb")
    (recipe.parent / "less.yaml").write_text(TINY)
    less = load_recipe(recipe.parent / "less.yaml")
    before = {"training_args": {"report_to": "wandb"}}
    (line,) = [
        each
        for each in describe_changed_execution(less.stages["sft"], less.launch, before)
        if "report_to" in each
    ]
    assert "nothing was logged" not in line
