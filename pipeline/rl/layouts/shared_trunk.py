"""The layout in which the critic is a value head on the policy's own hidden states.

Half the cost of training, at the price of two losses pulling at the same weights (`vf_coef` says
how hard; `detach` keeps the critic's pull out). Ziegler et al. 2019 used it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.rl.actor import hidden_after_last, last_hidden
from pipeline.rl.actor_critic import ActorCritic, ValueHead
from pipeline.rl.layouts.own_reference import OwnReferenceActor

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from pipeline.rl.sequences import Sequences


class SharedTrunkActorCritic(OwnReferenceActor, ActorCritic):
    """One network gives log-probabilities and values.

    detach: whether the critic's gradient stops at its head. The others: see
    OwnReferenceActor.
    """

    def __init__(
        self,
        policy: nn.Module,
        reference: PreTrainedModel | None,
        *,
        detach: bool,
        adapter: str = "default",
    ) -> None:
        super().__init__(policy, reference, adapter=adapter)
        causal = self.causal
        self.value_head = ValueHead(causal.config.get_text_config().hidden_size).to(causal.device)
        self._detach = detach

    def hidden_and_values(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Return hidden states (N, d) and values (N,) from one pass."""
        hidden = self.policy_hidden(sequences)
        return hidden, self.value_head(hidden.detach() if self._detach else hidden)

    def values(self, sequences: Sequences) -> Tensor:
        """Return the values of the states before each completion token, (N,)."""
        return self.hidden_and_values(sequences)[1]

    def values_after(self, sequences: Sequences) -> Tensor:
        """Return the values of the states after the last token of each row, (B,)."""
        hidden = last_hidden(self.causal.base_model, sequences)
        return self.value_head(hidden_after_last(hidden, sequences))

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critic's loss alone trains: its head."""
        return list(self.value_head.parameters())

    def save_critic_network(self, folder: Path) -> None:
        """Write nothing: the network is the policy's."""

    def load_critic(self, folder: Path) -> None:
        """Take the head from a folder."""
        self.value_head.load(folder)

    def networks(self) -> list[Any]:
        """Return the policy."""
        return [self.causal]
