"""What a recipe asks for and does not get quite so is said, before and after it runs."""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line
from tests.conftest import TINY
from tests.forked import run_forked, warm

PPO = (
    TINY
    + """\
  aligned:
    stage: ppo
    model: $sft
    prompts: [{task: arithmetic}]
    reward: {verify: all}
    batch_size: 8
    training_args: {num_ppo_epochs: 2, num_mini_batches: 2, max_completion_length: 8}
"""
)
ARGS = "stages.aligned.training_args"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["max_steps=3"], "`max_steps` 3 is below the 4 steps of one rollout;... write 4 or..."),
        (
            ["max_steps=8", "critic_warmup_rollouts=2"],
            "`max_steps` 8 is over before the policy is trained; the critic's... takes 8 steps",
        ),
        (
            ["total_episodes=30", "critic_warmup_rollouts=2"],
            "`total_episodes` 30 is over before the policy is trained; ...2 of its 2 rollouts",
        ),
    ],
)
def test_ppo_that_would_train_no_whole_rollout_is_refused(
    posttrain: Command, tmp_path: Path, sets: list[str], said: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(PPO)
    options = [each for one in sets for each in ("--set", f"{ARGS}.{one}")]
    line = the_line(posttrain("plan", "tiny.yaml", *options))
    assert is_like(line, f"--set {ARGS}...: {said}"), line


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("aligned.training_args.max_steps=10", "aligned: `max_steps` 10 ends within a rollout,"),
        ("aligned.training_args.total_episodes=20", "aligned: `total_episodes` 20 becomes 32: "),
        (
            "sft.training_args={max_steps: 3, logging_steps: 9}",
            "sft: `logging_steps` 9 is beyond `max_steps` 3: o",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "check"])
def test_what_is_not_quite_as_asked_is_said_beforehand(
    posttrain: Command, tmp_path: Path, verb: str, setting: str, said: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(PPO)
    assert said not in posttrain(verb, "tiny.yaml").out
    ended = posttrain(verb, "tiny.yaml", "--set", f"stages.{setting}")
    assert ended.code == 0, ended.err
    assert said in ended.out.replace("\n", " ")


def test_weights_of_4_bits_are_said_to_cost_time_where_there_is_no_gpu(
    posttrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    quantised = ("--set", "stages.sft.lora={load_in_4bit: true}")
    said = "sft: `load_in_4bit` saves memory and costs time"
    for gpus in (0, 1):
        monkeypatch.setattr("pipeline.recipe.remarks.num_gpus", lambda _, gpus=gpus: gpus)
        assert (said in posttrain("plan", "tiny.yaml", *quantised).out) == (gpus == 0)


def test_the_loss_of_routers_is_said_of_mixtures_alone(posttrain: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert "router_aux_loss_coef" not in posttrain("plan", "tiny.yaml").out
    mixture = ("--set", "stages.base.model.architecture=qwen3_moe")
    assert "router_aux_loss_coef" in posttrain("plan", "tiny.yaml", *mixture).out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which three steps of a stage were trained, with `logging_steps` as it is."""
    warm()
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY.replace("logging_steps: 1}", "max_steps: 3}"))
    ended = run_forked(folder / "tiny.yaml", folder / "runs", until="base")
    assert ended.code == 0, ended.output
    return folder


def test_a_training_shorter_than_logging_steps_has_a_line_of_metrics(finished: Path) -> None:
    lines = (finished / "runs/tiny/base/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3]
    assert json.loads(lines[0])["loss"] > 0


@pytest.mark.parametrize("verb", ["plan", "run --until base"])
def test_what_was_changed_of_a_finished_stage_and_changes_nothing_is_said(
    finished: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(finished)
    asked = (*verb.split(), "tiny.yaml")
    changes = ("training_args.logging_steps=5", "training_args.report_to=none", "launch=python")
    sets = [each for one in changes for each in ("--set", f"stages.base.{one}")]
    said = (
        "`logging_steps` is now 5, was 10; `launch` is now python, was in_process: what is stored"
    )
    assert "is now" not in posttrain(*asked).out
    assert said in posttrain(*asked, *sets).out
