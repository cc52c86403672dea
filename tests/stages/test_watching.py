"""Evaluation during training, the best checkpoint, early stopping, stops that name their rows."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.encoding.lengths import describe_rows
from tests.forked import Ended, run_forked, warm
from tests.kills import kill_and_compare
from tests.trained import Trained, train

EVALUATES = "stages.sft.training_args.eval_strategy=steps"
FEW = "stages.sft.eval_data=[{task: arithmetic, split: validation, rows: 40}]"
EVERY_4 = "stages.sft.training_args.eval_steps=4"
BEST = "stages.sft.training_args.load_best_model_at_end=true"
# The loss falls, so that the "best" of these is the first: the last must not be what is kept.
UPSIDE_DOWN = (
    "stages.sft.training_args.metric_for_best_model=loss",
    "stages.sft.training_args.greater_is_better=true",
)


# A stage of each kind that trains, beside sft; few rows are measured, often.
WATCHED = """\
  rm:
    stage: reward_model
    model: $sft
    data: [{task: arithmetic, rows: 64}]
    batch_size: 8
    training_args: {learning_rate: 1e-3}
  dpo:
    stage: dpo
    model: $sft
    data: [{task: arithmetic, rows: 64}]
    batch_size: 8
    training_args: {learning_rate: 1e-4}
  ppo:
    stage: ppo
    model: $sft
    prompts: [{task: arithmetic}]
    reward: [{use: "shorter:shorter"}]
    best_of: 0
    batch_size: 8
    training_args: {learning_rate: 1e-2, num_ppo_epochs: 2, max_completion_length: 6,
                    total_episodes: 32}
"""
SHORTER = """\
def shorter(completion_ids, **rest):
    return [None if len(ids) == 3 else -len(ids) for ids in completion_ids]
"""


@pytest.fixture(scope="module")
def prepared(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny recipe and a store in which its base model is done, and sft as the recipe has it."""
    from tests.conftest import TINY

    warm()
    folder = tmp_path_factory.mktemp("watching")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY + WATCHED)
    (folder / "shorter.py").write_text(SHORTER)
    return recipe, trained.copy(folder)


def _sft(prepared: tuple[Path, Path], *overrides: str) -> tuple[Ended, Path]:
    ended = run_forked(*prepared, overrides=overrides, until="sft")
    return ended, prepared[1] / "tiny" / "sft"


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "artifact.json").read_text())["metrics"]


def test_held_out_rows_are_evaluated_and_the_best_checkpoint_is_what_is_left(
    prepared: tuple[Path, Path],
) -> None:
    import torch
    from safetensors.torch import load_file

    ended, folder = _sft(prepared, EVALUATES, FEW, EVERY_4, BEST, *UPSIDE_DOWN)
    assert ended.code == 0, ended.output
    losses = {line["step"]: line["eval_loss"] for line in _lines(folder) if "eval_loss" in line}
    assert list(losses) == [4, 8, 12, 16, 20]
    assert losses[20] < losses[4]
    assert _metrics(folder)["best_step"] == 4
    kept = load_file(folder / "model.safetensors")
    ended, last = _sft(prepared, EVALUATES, FEW, EVERY_4)
    assert ended.code == 0, ended.output
    assert any(
        not torch.equal(kept[name], tensor)
        for name, tensor in load_file(last / "model.safetensors").items()
    ), "the last weights were kept instead of the best"


@pytest.mark.parametrize(
    ("stage", "every", "metric"),
    [
        ("base", 11, "loss"),
        ("rm", 2, "loss"),
        ("dpo", 2, "loss"),
        ("ppo", 2, "objective/kl"),
    ],
)
def test_every_training_stage_evaluates_and_keeps_its_best(
    stage: str, every: int, metric: str, prepared: tuple[Path, Path]
) -> None:
    """Lower is better here for KL alone, so that the best evaluation is not the last one."""
    is_kl = metric == "objective/kl"
    arguments = {
        **{"eval_strategy": "steps", "eval_steps": every, "eval_on_start": "true"},
        **{"load_best_model_at_end": "true", "metric_for_best_model": metric},
        "greater_is_better": "false" if is_kl else "true",
    }
    overrides = [f"stages.{stage}.training_args.{key}={val}" for key, val in arguments.items()]
    eval_data = "[{task: arithmetic, split: validation, rows: 12}]"
    overrides.append(f"stages.{stage}.eval_data={eval_data}")
    ended = run_forked(*prepared, overrides=overrides, until=stage)
    assert ended.code == 0, ended.output
    folder = prepared[1] / "tiny" / stage
    told = {
        line["step"]: line[f"eval_{metric}"] for line in _lines(folder) if f"eval_{metric}" in line
    }
    assert list(told) == [*range(0, max(told), every), max(told)]  # at the end in any case
    later = {step: value for step, value in told.items() if step}
    best = min(later, key=later.__getitem__) if is_kl else max(later, key=later.__getitem__)
    assert best != max(told)
    assert _metrics(folder)["best_step"] == best


def test_ppo_stops_early_by_the_score_of_held_out_prompts(prepared: tuple[Path, Path]) -> None:
    """Nothing is learnt at a rate of 0. Responses without a reward are said, not scored."""
    overrides = [
        "stages.ppo.early_stopping={patience: 1}",
        "stages.ppo.training_args.eval_strategy=steps",
        "stages.ppo.training_args.eval_steps=2",
        "stages.ppo.training_args.learning_rate=0.0",
    ]
    ended = run_forked(*prepared, overrides=overrides, until="ppo")
    assert ended.code == 0, ended.output
    folder = prepared[1] / "tiny" / "ppo"
    assert _metrics(folder)["steps"] == 4
    assert "eval_gold/mean" in _metrics(folder)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    unscored = [each for each in samples if each["score"] is None]
    assert all(each["scores"] == {} for each in unscored)


def test_early_stopping_stops_when_patience_is_out(prepared: tuple[Path, Path]) -> None:
    stopping = "stages.sft.early_stopping={patience: 1}"
    ended, folder = _sft(prepared, EVALUATES, FEW, EVERY_4, BEST, *UPSIDE_DOWN, stopping)
    assert ended.code == 0, ended.output
    assert _metrics(folder)["steps"] == 8


@pytest.mark.slow
def test_a_kill_changes_neither_the_best_checkpoint_nor_what_was_evaluated(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    overrides = [EVALUATES, FEW, EVERY_4, BEST, *UPSIDE_DOWN]
    trained = train(tiny_recipe, tmp_path / "trained", until="sft", overrides=overrides)
    tally = kill_and_compare(trained, tmp_path, "sft", kills=1, seed=1, overrides=overrides)
    assert tally.differ == 0, tally.said


def test_a_number_that_is_not_finite_is_named_with_its_step_and_rows(
    prepared: tuple[Path, Path],
) -> None:
    ended, _ = _sft(prepared, "stages.sft.training_args.learning_rate=1e30")
    assert ended.code == 2
    line = ended.output.splitlines()[-1]
    assert line.startswith("sft: the ")
    assert "is not finite at step" in line
    assert "on task:arithmetic#" in line


def test_what_upstream_refuses_while_training_is_an_error_of_one_line(
    prepared: tuple[Path, Path],
) -> None:
    """Its schedule is made when training starts, long after the arguments were taken."""
    schedule = "stages.sft.training_args.lr_scheduler_type=polynomial"
    end = "stages.sft.training_args.lr_scheduler_kwargs={lr_end: 0.3}"
    ended, _ = _sft(prepared, schedule, end)
    assert ended.code == 2, ended.output
    assert ended.output.splitlines()[-1].startswith("sft: lr_end (0.3) must be smaller")


def test_four_bit_weights_without_bitsandbytes_are_refused_in_one_line(
    prepared: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    ended, _ = _sft(prepared, "stages.sft.lora={r: 4, load_in_4bit: true}")
    assert ended.code == 2
    assert ": `load_in_4bit` needs bitsandbytes" in ended.output.splitlines()[-1]


def test_a_tracker_that_is_not_installed_is_an_error_of_one_line(
    prepared: tuple[Path, Path],
) -> None:
    # Another rate: who is told changes no result, so that the stage would be there already.
    other = "stages.sft.training_args.learning_rate=2e-3"
    ended, _ = _sft(prepared, other, "stages.sft.training_args.report_to=clearml")
    assert ended.code == 2, ended.output
    assert "clearml" in ended.output.splitlines()[-1]
    assert "Traceback" not in ended.output


def test_what_tensorboard_reads_is_part_of_the_artifact(prepared: tuple[Path, Path]) -> None:
    pytest.importorskip("tensorboard")
    other = "stages.sft.training_args.learning_rate=3e-3"
    ended, folder = _sft(prepared, other, "stages.sft.training_args.report_to=tensorboard")
    assert ended.code == 0, ended.output
    assert list((folder / "tensorboard").glob("events.*"))


LONG = {
    "sft": {"prompt": "Why?", "completion": "one " * 600},
    "rm": {"prompt": "Why?", "chosen": "one " * 600, "rejected": "two"},
    "dpo": {"prompt": "Why?", "chosen": "one " * 600, "rejected": "two"},
}


@pytest.mark.parametrize("stage", ["rm", "dpo"])
def test_held_out_rows_that_are_too_long_are_counted_and_need_not_be_there(
    stage: str, prepared: tuple[Path, Path]
) -> None:
    recipe, runs = prepared
    (recipe.parent / "long.jsonl").write_text(json.dumps(LONG[stage]))
    overrides = [
        f"stages.{stage}.eval_data={{file: long.jsonl}}",
        f"stages.{stage}.data=[{{task: arithmetic, rows: 8}}]",
        f"stages.{stage}.training_args.max_length=256",
    ]
    ended = run_forked(recipe, runs, overrides=overrides, until=stage)
    assert ended.code == 0, ended.output
    metrics = _metrics(runs / "tiny" / stage)
    assert metrics["held_out_dropped_too_long"] == 1
    assert "held_out_accuracy" not in metrics
    assert describe_rows(metrics).endswith("of the held-out ones 1 longer than 256")


@pytest.mark.parametrize(("stage", "name"), [("sft", "rows"), ("rm", "pairs"), ("dpo", "pairs")])
def test_held_out_rows_that_are_evaluated_must_be_there(
    stage: str, name: str, prepared: tuple[Path, Path]
) -> None:
    recipe, runs = prepared
    (recipe.parent / "long.jsonl").write_text(json.dumps(LONG[stage]))
    overrides = [
        f"stages.{stage}.eval_data={{file: long.jsonl}}",
        f"stages.{stage}.training_args.eval_strategy=steps",
        f"stages.{stage}.training_args.max_length=256",
        f"stages.{stage}.too_long=drop",
    ]
    ended = run_forked(recipe, runs, overrides=overrides, until=stage)
    assert ended.code == 2
    assert f"1 held-out {name}" in ended.output
