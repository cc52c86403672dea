"""What is logged of a rollout, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.rl.state import RlState


@dataclass(frozen=True)
class Cadence:
    """When a rollout's line is logged: after a multiple of `logging_steps` optimizer steps.

    Every line is of one rollout; those between are not shown.
    """

    is_on: bool
    shows_first: bool

    def is_due(self, begin: int, end: int, every: int) -> bool:
        """Whether a rollout trained on in the steps from begin + 1 to end has a line."""
        if begin == 0 and self.shows_first:
            return True
        return self.is_on and end // every > begin // every


class AfterStep(TrainerCallback):
    """Calls a function when an optimizer step is over, before anything is evaluated or saved.

    A checkpoint then has the state after the step, and the line that belongs to it. Where the
    function returns true training ends with this step, which is then its last one: a checkpoint of
    now is one of a training that is over.
    """

    def __init__(self, call: Callable[[], bool]) -> None:
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Call it."""
        if self._call():
            state.max_steps = state.global_step
            control.should_training_stop = True


def line_of(
    state: RlState,
    *,
    rollout_size: int,
    rates: Sequence[float],
    seconds: Mapping[str, float],
    has_critic: bool,
) -> dict[str, float]:
    """Return what is logged of the rollout that was trained on.

    rates: learning rates, the policy's first and the critic's last. seconds: for `rollout`
    (sampling), `score` and `train`, and what calls of `tools` took, where there are any.
    """
    return {
        **state.metrics,
        **state.totals.metrics(has_critic=has_critic),
        "policy/cut_short": float(state.is_cut_short),
        "episode": float((state.rollout + 1) * rollout_size),
        "lr": float(rates[0]),
        **({"critic_lr": float(rates[-1])} if has_critic else {}),
        "time/rollout": seconds["rollout"],
        "time/score": seconds["score"],
        "time/train": seconds["train"],
        **({"time/tools": seconds["tools"]} if "tools" in seconds else {}),
        "time/tokens_per_second": state.metrics["rollout/tokens"] / max(seconds["rollout"], 1e-9),
    }
