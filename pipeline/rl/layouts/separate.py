"""The layout in which policy, critic and reference are three networks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pipeline.rl.actor import hidden_after_last, last_hidden, predicting_hidden
from pipeline.rl.actor_critic import ActorCritic, ValueHead
from pipeline.rl.layouts.own_reference import OwnReferenceActor, fill_from

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from pipeline.rl.sequences import Sequences


class SeparateActorCritic(OwnReferenceActor, ActorCritic):
    """Policy and critic are trained with weights of their own.

    critic: the network below the value head, without a language model's head. The others: see
    OwnReferenceActor.
    """

    def __init__(
        self,
        policy: nn.Module,
        critic: PreTrainedModel,
        reference: PreTrainedModel | None,
        *,
        adapter: str = "default",
    ) -> None:
        super().__init__(policy, reference, adapter=adapter)
        self.critic = critic.requires_grad_(requires_grad=True)
        size = critic.config.get_text_config().hidden_size
        self.value_head = ValueHead(size).to(next(critic.parameters()).device)

    def values(self, sequences: Sequences) -> Tensor:
        """Return the values of the states before each completion token, (N,)."""
        return self.value_head(predicting_hidden(self.critic, sequences))

    def values_after(self, sequences: Sequences) -> Tensor:
        """Return the values of the states after the last token of each row, (B,)."""
        return self.value_head(hidden_after_last(last_hidden(self.critic, sequences), sequences))

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critic's loss trains."""
        return [*self.critic.parameters(), *self.value_head.parameters()]

    def save_critic_network(self, folder: Path) -> None:
        """Write the network."""
        self.critic.save_pretrained(folder, safe_serialization=True)

    def load_critic(self, folder: Path) -> None:
        """Take network and head from a folder."""
        fill_from(folder, self.critic)
        self.value_head.load(folder)

    def networks(self) -> list[Any]:
        """Return policy and critic."""
        return [self.causal, self.critic]


def copy_backbone(causal: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the network below a language model's head."""
    return copy.deepcopy(causal.base_model)  # pyright: ignore[reportReturnType]
