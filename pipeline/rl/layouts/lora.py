"""The layout with one frozen network and adapters on it: policy, reference, reward models.

The memory of several models for the price of one (with LoRA, Hu et al. 2021). The reference is the
network without adapters, or a frozen copy of the adapter that the policy began with. A critic as
one more adapter: shared_lora.py.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline.rl.actor import Actor
from pipeline.rl.policy_adapter import (
    adapter_parameters,
    adapter_tensors,
    fill_adapter,
    is_of_adapter,
    save_adapter,
    take_adapter,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

REFERENCE = "reference"


class SharedLoraActor(Actor):
    """Policy and reference are adapters on one network that stays as it is.

    policy: a PEFT model whose adapter `name` is trained. is_reference_adapted: the policy begins
    with an adapter that was trained already, and KL is measured to that, not to the bare network.
    An adapter with `bias` would change the network itself; build.py refuses it.
    """

    def __init__(
        self, policy: PeftModel, *, name: str = "default", is_reference_adapted: bool = False
    ) -> None:
        super().__init__()
        self.policy = policy
        self.name = name
        self._active: str | None = name  # None where all are off
        self._reference_name: str | None = None
        if is_reference_adapted:
            self.add(REFERENCE, policy.peft_config[name], adapter_tensors(policy, name))
            self._reference_name = REFERENCE
        self._restore_training()

    @property
    def trained_adapters(self) -> tuple[str, ...]:
        """The names of the adapters that are trained."""
        return (self.name,)

    def add(self, name: str, config: Any, tensors: Mapping[str, Tensor] | None) -> None:
        """Put one more adapter on the network, new (its effect is zero) or filled."""
        policy: Any = self.policy
        # Inits that look at or change the network's weights would do so for all adapters.
        policy.add_adapter(name, _plain_config(config))
        if tensors is not None:
            fill_adapter(policy, name, dict(tensors), f"the adapter `{name}`")
        self._restore_training()

    @contextmanager
    def reference(self) -> Generator[PreTrainedModel]:
        """Give the network without adapters, or with the one that the policy began with."""
        if self._reference_name is not None:
            with self.activate(self._reference_name):
                yield self.causal
            return
        policy: Any = self.policy
        try:
            with policy.disable_adapter():
                self._active = None
                yield self.causal
        finally:
            self._active = self.name
            self._restore_training()

    @contextmanager
    def activate(self, name: str) -> Generator[None]:
        """Switch to an adapter for a while, within `reference` too.

        There all are off, which PEFT leaves them when it switches: a reward model would give scores
        of the bare network.
        """
        network: Any = self.policy.base_model
        before, self._active = self._active, name
        network.set_adapter(name)
        if before is None:
            network.enable_adapter_layers()
        try:
            yield
        finally:
            self._active = before
            network.set_adapter(before or self.name)
            if before is None:
                network.disable_adapter_layers()
            self._restore_training()

    def policy_parameters(self) -> list[nn.Parameter]:
        """Return the policy's adapter."""
        return adapter_parameters(self.policy, self.name)

    def save_policy(self, folder: Path) -> None:
        """Write the policy's adapter, and that of the reference where it has one."""
        save_adapter(self.policy, self.name, folder)
        if self._reference_name is not None:
            save_adapter(self.policy, REFERENCE, folder / REFERENCE)

    def load_policy(self, folder: Path) -> None:
        """Take the policy's adapter, and the reference's, from a folder."""
        take_adapter(self.policy, self.name, folder)
        if self._reference_name is not None:
            take_adapter(self.policy, REFERENCE, folder / REFERENCE)

    def _restore_training(self) -> None:
        for name, parameter in self.policy.named_parameters():
            is_trained = any(is_of_adapter(name, adapter) for adapter in self.trained_adapters)
            parameter.requires_grad_(is_trained)


class AdaptedRewardModel(nn.Module):
    """A reward model that is one more adapter on the network of the policy.

    Called as a sequence classifier is: input_ids, attention_mask (B, S), right padded; its output
    has `logits` (B, 1), the head's at the last token of each row. head: (1, d). adapter: its name.
    """

    def __init__(self, actor: SharedLoraActor, head: Tensor, config: Any, adapter: str) -> None:
        super().__init__()
        self._adapter = adapter
        self._actor = [actor]  # not a child: its weights are the trainer's
        self.config = config
        self.score = nn.Parameter(head, requires_grad=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._actor[0].causal.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        """Return an object with `logits`, (B, 1)."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        actor = self._actor[0]
        with actor.activate(self._adapter):
            output = actor.causal.base_model(input_ids=input_ids, use_cache=False)
        last = attention_mask.sum(-1) - 1
        hidden = output.last_hidden_state[torch.arange(len(last), device=last.device), last]
        logits: Any = hidden.float() @ self.score.T.to(hidden.device)
        return SequenceClassifierOutput(logits=logits)


def _plain_config(config: Any) -> Any:
    plain = copy.deepcopy(config)
    plain.init_lora_weights = True
    plain.inference_mode = False
    return plain
