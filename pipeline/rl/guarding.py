"""What a trainer does about signs of reward hacking: looks, says, stops, goes back to a policy.

On several processes the first one looks, and the others take its word: a score of a function that
runs programs may differ between two of them, and training must stop on all or on none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from pipeline.rl.guards import Guards, measure_texts
from pipeline.rl.kept_policies import KeptPolicies
from pipeline.rl.signs import Shown, describe_sign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.rewards.composition import RewardComposition
    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import ScoredRow
    from pipeline.rl.state import RlState

    OnSign = Callable[[Shown], None]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stopped:
    """A training that a sign stopped.

    went_back_to: how many rollouts the kept policy was trained on that it ends with; None where
    there is none from before the sign, and it ends with the last one.
    """

    by: Shown
    went_back_to: int | None

    @property
    def policy_of(self) -> int:
        """How many rollouts the policy that is left was trained on."""
        return self.by.rollout if self.went_back_to is None else self.went_back_to

    def metrics(self) -> dict[str, Any]:
        """Return it as figures of a stage."""
        return {
            "stopped_by": self.by.sign,
            "stopped_at_rollout": self.by.rollout,
            "stopped_since_rollout": self.by.began,
            "stopped_policy_of_rollout": self.policy_of,
        }

    def __str__(self) -> str:
        """Return it in a sentence."""
        policy = "the last one" if self.went_back_to is None else "from before the sign began"
        return (
            f"stopped in rollout {self.by.rollout} by `{self.by.sign}`: {describe_sign(self.by)}; "
            f"the policy is the one of rollout {self.policy_of}, {policy}"
        )


class Guarding:
    """The guards of a trainer. on_sign: called on every process with each sign, once."""

    def __init__(
        self, args: RolloutConfig, rewards: RewardComposition, on_sign: OnSign | None
    ) -> None:
        held_out = [term.name for term in rewards.terms if term.weight == 0]
        self._guards = Guards(args.stop_when, held_out=held_out)
        self._on_sign = on_sign or warn_of_sign
        self._args = args
        every = self._guards.may_look_back
        self._kept = KeptPolicies(Path(str(args.output_dir)), all_of_them=every)

    def keep(self, number: int, actor: Actor) -> None:
        """Keep the policy that was trained on the rollouts before this one, where it is time."""
        args = self._args
        is_due = self._kept.is_due(number, num_rollouts=args.num_rollouts)
        if self._guards.may_stop and is_due and args.should_save:
            self._kept.keep(number, actor)

    def look(
        self,
        state: RlState,
        rows: Sequence[ScoredRow],
        prompts: Sequence[Prompt],
        metrics: Mapping[str, float],
    ) -> dict[str, float]:
        """Look at a rollout, say what shows; return its metrics. prompts: of each row."""
        args = self._args
        said: list[Any] = [None]
        if args.process_index == 0:
            texts = measure_texts(rows, prompts, group_size=args.group_size)
            said = [(*self._guards.look(state.guards, metrics, texts), state.guards)]
        if args.world_size > 1:
            broadcast_object_list(said)
        logged, new, state.guards = said[0]
        for shown in new:
            self._on_sign(shown)
        return logged

    def go_back(self, state: RlState, actor: Actor) -> Stopped | None:
        """Where a sign stopped training, fill the actor with a policy from before it."""
        if state.guards.stopped_by is None:
            return None
        PartialState().wait_for_everyone()  # another process wrote what is read
        by = Shown(**state.guards.stopped_by)
        return Stopped(by, self._kept.take(by.began, actor))


def warn_of_sign(shown: Shown) -> None:
    """Log a sign as a warning."""
    _LOG.warning("%s", sign_line(shown))


def sign_line(shown: Shown) -> str:
    """Return what is said of a sign when it shows."""
    ends = "; training stops" if shown.stops else ""
    return f"sign of reward hacking in rollout {shown.rollout}: {describe_sign(shown)}{ends}"
