"""Reward models that are adapters of the policy's own base: one network serves all of them.

With LoRA a chain has one whole model: the reward model's adapter, told relative to the policy as it
comes in, is put on the network that the policy trains an adapter of, so that neither it nor a
critic that starts from it needs a network of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.models import adapters
from pipeline.models.load import base_of
from pipeline.rl.layouts.lora import AdaptedRewardModel, SharedLoraActor

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import Tensor

    from pipeline.config.stage import StageInput

_SCORE = "score.weight"


@dataclass(frozen=True)
class SharedReward:
    """A reward model as an adapter on the policy's network. score: its head, (1, d)."""

    config: LoraConfig
    tensors: dict[str, Tensor]
    score: Tensor

    def put_on(self, actor: SharedLoraActor, name: str, pad: int) -> AdaptedRewardModel:
        """Add it to a policy's network under a name of its own; pad: an id that ends no text."""
        actor.add(name, self.config, self.tensors)
        config: Any = copy.deepcopy(actor.config)
        config.num_labels = 1
        config.get_text_config().pad_token_id = pad
        return AdaptedRewardModel(actor, self.score.to(actor.causal.device), config, name)


def read_shared_reward(reward: StageInput, policy: StageInput) -> SharedReward | None:
    """Return a reward model as an adapter of the policy as it comes in; None if it is none.

    It is one where both were trained as adapters of one base, or the reward model as an adapter of
    the policy itself.
    """
    adapter = read_shared_adapter(Path(reward.path), reward, policy)
    if adapter is None:
        return None
    config, tensors = adapter
    scores = [name for name in tensors if name.endswith(_SCORE)]
    if len(scores) != 1:
        return None
    score = tensors.pop(scores[0])
    return SharedReward(config, tensors, score.float())


def read_shared_adapter(
    folder: Path, model: StageInput, policy: StageInput
) -> tuple[LoraConfig, dict[str, Tensor]] | None:
    """Return a saved adapter as one on the policy as it comes in; None where there is none.

    folder: of the adapter. given: the model that it was trained as, or beside.
    """
    below, of_policy = base_of(model), base_of(policy)
    base = policy if of_policy is None else of_policy
    if below is None or _place(below) != _place(base):
        return None
    try:
        return adapters.relative(folder, None if of_policy is None else Path(policy.path))
    except PosttrainError:  # they do not add up: it has a network of its own
        return None


def _place(model: StageInput) -> tuple[str, str | None]:
    path = Path(model.path)
    return (str(path.resolve()) if path.exists() else model.path), model.revision
