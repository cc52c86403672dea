"""The layout in which policy, critic and reference are three networks.

The policy may be a PEFT model; its reference is then itself without its adapter, and no third
network is needed.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model

from pipeline.rl.actor_critic import (
    ActorCritic,
    ValueHead,
    after_last,
    last_hidden,
    predicting,
)
from pipeline.rl.policy_adapter import adapter_parameters, save_adapter, take_adapter

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from pipeline.rl.sequences import Sequences


class SeparateActorCritic(ActorCritic):
    """Policy and critic are trained with weights of their own.

    critic: the network below the value head, without a language model's head. reference: a frozen
    copy of the policy; None where the policy is a PEFT model. adapter: the one of a PEFT model that
    is trained.
    """

    def __init__(
        self,
        policy: nn.Module,
        critic: PreTrainedModel,
        reference: PreTrainedModel | None,
        *,
        adapter: str = "default",
    ) -> None:
        super().__init__()
        self.policy = policy
        self.adapter = adapter
        self.critic = critic.requires_grad_(requires_grad=True)
        size = critic.config.get_text_config().hidden_size
        self.value_head = ValueHead(size).to(next(critic.parameters()).device)
        self._reference = frozen(reference) if reference is not None else None

    @contextmanager
    def reference(self) -> Generator[PreTrainedModel]:
        """Give the frozen copy, or the policy with its adapter off."""
        if self._reference is not None:
            yield self._reference
            return
        policy: Any = self.policy
        with policy.disable_adapter():
            yield self.causal

    def values(self, sequences: Sequences) -> Tensor:
        """Return the values of the states before each completion token, (N,)."""
        return self.value_head(predicting(self.critic, sequences))

    def values_after(self, sequences: Sequences) -> Tensor:
        """Return the values of the states after the last token of each row, (B,)."""
        return self.value_head(after_last(last_hidden(self.critic, sequences), sequences))

    def policy_parameters(self) -> list[nn.Parameter]:
        """Return what the policy's loss trains."""
        if is_peft_model(self.policy):
            return adapter_parameters(self.policy, self.adapter)
        return [each for each in self.policy.parameters() if each.requires_grad]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critic's loss trains."""
        return [*self.critic.parameters(), *self.value_head.parameters()]

    def save_critic_network(self, folder: Path) -> None:
        """Write the network."""
        self.critic.save_pretrained(folder, safe_serialization=True)

    def load_critic(self, folder: Path) -> None:
        """Take network and head from a folder."""
        _take(self.critic, folder)
        self.value_head.load(folder)

    def save_policy(self, folder: Path) -> None:
        """Write the whole policy, or its adapter."""
        policy: Any = self.policy
        if is_peft_model(policy):
            save_adapter(policy, self.adapter, folder)
        else:
            policy.save_pretrained(folder, safe_serialization=True)

    def load_policy(self, folder: Path) -> None:
        """Take the whole policy, or its adapter, from a folder."""
        if is_peft_model(self.policy):
            take_adapter(self.policy, self.adapter, folder)
        else:
            _take(self.policy, folder)

    def networks(self) -> list[Any]:
        """Return policy and critic."""
        return [self.causal, self.critic]


def frozen(module: Any) -> Any:
    """Return a module that is never trained, in evaluation mode."""
    return module.requires_grad_(requires_grad=False).eval()


def backbone_of(causal: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the network below a language model's head."""
    return copy.deepcopy(causal.base_model)  # pyright: ignore[reportReturnType]


def _take(module: Any, folder: Path) -> None:
    """Fill a model with the weights of a folder, in its own precision."""
    saved = type(module).from_pretrained(
        folder, dtype=module.dtype, use_safetensors=True, trust_remote_code=False
    )
    module.load_state_dict(saved.state_dict())
