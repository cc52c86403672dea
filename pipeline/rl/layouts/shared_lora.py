"""The layout of lora.py with a critic: one more adapter, and a value head.

PEFT's `set_adapter` makes the active adapter trainable and all others not, so that one backward
pass after switching would leave the other adapter without a gradient, silently: each loss is sent
back before the adapter is switched, and afterwards both are trainable again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.rl.actor import hidden_after_last, last_hidden, predicting_hidden
from pipeline.rl.actor_critic import CRITIC, ActorCritic, ValueHead
from pipeline.rl.layouts.lora import SharedLoraActor
from pipeline.rl.policy_adapter import adapter_parameters, save_adapter, take_adapter

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from peft import LoraConfig, PeftModel
    from torch import Tensor, nn

    from pipeline.rl.sequences import Sequences


class SharedLoraActorCritic(SharedLoraActor, ActorCritic):
    """Policy, critic and reference are adapters on one network that stays as it is.

    critic: config and tensors that the critic's adapter begins with; without it one like the
    policy's, without effect. The others: see SharedLoraActor.
    """

    def __init__(
        self,
        policy: PeftModel,
        *,
        name: str = "default",
        critic: tuple[LoraConfig, Mapping[str, Tensor]] | None = None,
        is_reference_adapted: bool = False,
    ) -> None:
        super().__init__(policy, name=name, is_reference_adapted=is_reference_adapted)
        config: Any = policy.peft_config[name]
        self.add(CRITIC, *(critic or (config, None)))
        causal = self.causal
        self.value_head = ValueHead(causal.config.get_text_config().hidden_size).to(causal.device)
        self._restore_training()

    @property
    def trained_adapters(self) -> tuple[str, ...]:
        """The names of the adapters that are trained: the policy's, the critic's."""
        return (self.name, CRITIC)

    @contextmanager
    def as_critic(self) -> Generator[None]:
        """Switch to the critic's adapter for a while."""
        with self.activate(CRITIC):
            yield

    def values(self, sequences: Sequences) -> Tensor:
        """Return the values of the states before each completion token, (N,); see `as_critic`."""
        return self.value_head(predicting_hidden(self.causal.base_model, sequences))

    def values_after(self, sequences: Sequences) -> Tensor:
        """Return the values of the states after the last tokens, (B,); see `as_critic`."""
        hidden = last_hidden(self.causal.base_model, sequences)
        return self.value_head(hidden_after_last(hidden, sequences))

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the critic's adapter and its head."""
        return [*adapter_parameters(self.policy, CRITIC), *self.value_head.parameters()]

    def save_critic_network(self, folder: Path) -> None:
        """Write the adapter."""
        save_adapter(self.policy, CRITIC, folder)

    def load_critic(self, folder: Path) -> None:
        """Take adapter and head from a folder."""
        take_adapter(self.policy, CRITIC, folder)
        self.value_head.load(folder)
