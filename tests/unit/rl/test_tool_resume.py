"""Training with tools that was stopped within a rollout ends as it would have, to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_rollouts import StopAfter, difference
from tests.talking_models import talking_model, talking_tokenizer
from tests.unit.rl.small_trainers import lines_of, weights_of
from tests.unit.rl.test_tool_training import trainer_of

_CLOCKS = ("time/",)
_RUN = {"max_steps": 6, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}


@pytest.fixture(scope="module")
def learnt() -> dict[str, torch.Tensor]:
    return talking_model(talking_tokenizer()).state_dict()


def words(text: str) -> int:
    """Count the words of a text.

    Args:
        text: Any.
    """
    return len(text.split())


def _left(trainer: Any) -> dict[str, Any]:
    lines = [
        {name: each for name, each in line.items() if not name.startswith(_CLOCKS)}
        for line in lines_of(trainer)
    ]
    moments = trainer.optimizer.state_dict()["state"]
    return {"weights": weights_of(trainer.model), "moments": moments, "lines": lines}


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_a_run_with_tools_goes_on_from_within_a_rollout(
    method: str, learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """B31: the checkpoint knows which tokens were the policy's."""
    whole = trainer_of(method, learnt, tmp_path / "whole", **_RUN)
    whole.train()
    stopped = trainer_of(method, learnt, tmp_path / "run", **_RUN)
    stopped.add_callback(StopAfter(3))
    stopped.train()
    assert not stopped.rl.experience.mask.all()
    goes_on = trainer_of(method, learnt, tmp_path / "run", **_RUN)
    goes_on.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    with pytest.raises(ValueError, match=r"`tools` \['calculator'\], not \['words'\]"):
        trainer_of(method, learnt, tmp_path / "run", tools=[words], **_RUN).train(
            resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3")
        )
    assert lines_of(whole)[0]["tools/call_frequency"] > 0
    assert difference(_left(whole), _left(goes_on)) == 0
