"""A training that a sign stops: where, with which policy, after a kill too; one that none stops."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from pipeline.rl.signs import Shown, shown_in
from tests.hacked_rewards import Hack, last_token_first, one_word, trainer_of
from tests.unit.rl.small_trainers import are_same, weights_of

ROLLOUTS = 24
HACK = Hack("repetition", one_word, 6, settings={"learning_rate": 4e-3})
STOPPING: dict[str, Any] = {"stop_when": {"repetition": 0.2}}


def _trainer(folder: Path, **settings: Any) -> Any:
    settings = {"num_iterations": 1, **settings}
    return trainer_of(HACK, "grpo", 0, folder, rollouts=ROLLOUTS, **settings)


def _lines(trainer: Any) -> list[dict[str, float]]:
    lines = [line for line in trainer.state.log_history if "objective/scores" in line]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


class _Kill(TrainerCallback):
    def __init__(self, after: int) -> None:
        self._after = after

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    trainer = _trainer(tmp_path_factory.mktemp("stopped"), **STOPPING)
    trainer.train()
    return trainer


def test_a_reward_for_one_word_shows_in_repeats_and_stops_training(stopped: Any) -> None:
    lines = _lines(stopped)
    assert stopped.stopped is not None
    assert stopped.stopped.by.sign == "repetition"
    assert len(lines) == stopped.stopped.by.rollout + 1 < ROLLOUTS
    assert lines[-1]["guards/stopped"] == 1
    assert lines[-1]["loss/policy"] == 0  # nothing is learnt from the rollout that shows it
    assert stopped.stopped.by in list(shown_in(lines[-1]))
    assert "guards/repetition" in lines[0]


def test_the_policy_left_is_the_one_that_another_training_has_before_the_sign(
    stopped: Any, tmp_path: Path
) -> None:
    went_back_to = stopped.stopped.went_back_to
    assert went_back_to is not None
    assert went_back_to < stopped.stopped.by.began
    assert went_back_to % 4 == 0
    other = _trainer(tmp_path)
    other.add_callback(_Stop(went_back_to))
    other.train()
    assert other.stopped is None
    assert are_same(weights_of(other.model.policy), weights_of(stopped.model.policy))


class _Stop(TrainerCallback):
    def __init__(self, after: int) -> None:
        self._after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= state.global_step == self._after


def test_a_training_that_was_killed_stops_at_the_same_sign_with_the_same_policy(
    stopped: Any, tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 3, **STOPPING}
    killed = _trainer(tmp_path, **saving)
    at = stopped.stopped.by.rollout // 3 * 3
    killed.add_callback(_Kill(at))
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    resumed = _trainer(tmp_path, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert resumed.stopped == stopped.stopped
    assert _lines(resumed) == _lines(stopped)
    assert are_same(weights_of(resumed.model.policy), weights_of(stopped.model.policy))


def test_where_nothing_was_kept_the_last_policy_is_left(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, **STOPPING)
    trainer._guarding._kept.keep = lambda number, actor: None
    trainer.train()
    assert trainer.stopped.went_back_to is None
    assert trainer.stopped.policy_of == trainer.stopped.by.rollout
    assert "the last one" in str(trainer.stopped)


def test_a_training_that_moves_little_shows_no_sign(tmp_path: Path) -> None:
    """One that learns its task: tests/prove/test_guards_stop.py."""
    said: list[Shown] = []
    honest = Hack("", last_token_first, 2)
    trainer = trainer_of(
        *(honest, "grpo", 0, tmp_path),
        **{"rollouts": 18, "on_sign": said.append, "learning_rate": 2e-4},
        stop_when={"equal_answers": True, "repetition": True, "cut_off": True, "length": True},
    )
    trainer.train()
    assert trainer.stopped is None
    assert said == []


def test_a_bound_that_cannot_be_meant_is_refused_by_the_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write a factor above 1"):
        _trainer(tmp_path, stop_when={"length": 0.5})
