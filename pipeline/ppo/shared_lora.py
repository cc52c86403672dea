"""The layout with one frozen network and adapters on it: policy, critic, reference, reward model.

The memory of four models for the price of one (with LoRA, Hu et al. 2021). The reference is the
network without adapters, or a frozen copy of the adapter that the policy began with. PEFT's
`set_adapter` makes the active adapter trainable and all others not, so that one backward pass after
switching would leave the other adapter without a gradient, silently: each loss is sent back before
the adapter is switched, and afterwards both are trainable again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline.ppo.actor_critic import (
    CRITIC,
    ActorCritic,
    ValueHead,
    after_last,
    last_hidden,
    predicting,
)
from pipeline.ppo.separate import take_adapter

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from peft import LoraConfig, PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.ppo.sequences import Sequences

POLICY, REFERENCE = "default", "reference"
_TRAINED = (POLICY, CRITIC)


class SharedLoraActorCritic(ActorCritic):
    """Policy, critic and reference are adapters on one network that stays as it is.

    policy: a PEFT model whose adapter `default` is trained. critic: config and tensors that the
    critic's adapter begins with; without it one like the policy's, without effect.
    is_reference_adapted: the policy begins with an adapter that was trained already, and KL is
    measured to that, not to the bare network.
    An adapter with `bias` would change the network itself; build.py refuses it.
    """

    def __init__(
        self,
        policy: PeftModel,
        *,
        critic: tuple[LoraConfig, Mapping[str, Tensor]] | None = None,
        is_reference_adapted: bool = False,
    ) -> None:
        super().__init__()
        self.policy = policy
        config: Any = policy.peft_config[POLICY]
        self._reference_name: str | None = None
        if is_reference_adapted:
            self.add(REFERENCE, config, adapter_tensors(policy, POLICY))
            self._reference_name = REFERENCE
        self.add(CRITIC, *(critic or (config, None)))
        causal = self.causal
        self.value_head = ValueHead(causal.config.get_text_config().hidden_size).to(causal.device)
        self._train_both()

    def add(self, name: str, config: Any, tensors: Mapping[str, Tensor] | None) -> None:
        """Put one more adapter on the network, new (its effect is zero) or filled."""
        from peft import set_peft_model_state_dict

        policy: Any = self.policy
        # Inits that look at or change the network's weights would do so for all adapters.
        policy.add_adapter(name, _plain(config))
        if tensors is not None:
            set_peft_model_state_dict(policy, dict(tensors), adapter_name=name)
        self._train_both()

    @contextmanager
    def reference(self) -> Generator[PreTrainedModel]:
        """Give the network without adapters, or with the one that the policy began with."""
        if self._reference_name is not None:
            with self.active(self._reference_name):
                yield self.causal
            return
        policy: Any = self.policy
        try:
            with policy.disable_adapter():
                yield self.causal
        finally:
            self._train_both()

    @contextmanager
    def as_critic(self) -> Generator[None]:
        """Switch to the critic's adapter for a while."""
        with self.active(CRITIC):
            yield

    @contextmanager
    def active(self, name: str) -> Generator[None]:
        """Switch to an adapter for a while."""
        policy: Any = self.policy
        policy.base_model.set_adapter(name)
        try:
            yield
        finally:
            policy.base_model.set_adapter(POLICY)
            self._train_both()

    def values(self, sequences: Sequences) -> Tensor:
        """Return the values of the states before each completion token, (N,); see `as_critic`."""
        return self.value_head(predicting(self.causal.base_model, sequences))

    def values_after(self, sequences: Sequences) -> Tensor:
        """Return the values of the states after the last tokens, (B,); see `as_critic`."""
        hidden = last_hidden(self.causal.base_model, sequences)
        return self.value_head(after_last(hidden, sequences))

    def policy_parameters(self) -> list[nn.Parameter]:
        """Return the policy's adapter."""
        return self._parameters_of(POLICY)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the critic's adapter and its head."""
        return [*self._parameters_of(CRITIC), *self.value_head.parameters()]

    def save_critic(self, folder: Path) -> None:
        """Write adapter and head."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save(CRITIC, folder)
        self.value_head.save(folder)

    def load_critic(self, folder: Path) -> None:
        """Take adapter and head from a folder."""
        take_adapter(self.policy, folder, CRITIC)
        self.value_head.load(folder)

    def save_policy(self, folder: Path) -> None:
        """Write the policy's adapter, and that of the reference where it has one."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save(POLICY, folder)
        if self._reference_name is not None:
            self._save(REFERENCE, folder / REFERENCE)

    def load_policy(self, folder: Path) -> None:
        """Take the policy's adapter, and the reference's, from a folder."""
        take_adapter(self.policy, folder, POLICY)
        if self._reference_name is not None:
            take_adapter(self.policy, folder / REFERENCE, REFERENCE)

    def networks(self) -> list[Any]:
        """Return the one network."""
        return [self.causal]

    def _save(self, name: str, folder: Path) -> None:
        from safetensors.torch import save_file

        policy: Any = self.policy
        folder.mkdir(parents=True, exist_ok=True)
        policy.peft_config[name].save_pretrained(folder)
        tensors = adapter_tensors(policy, name)
        path = folder / "adapter_model.safetensors"
        save_file({key: each.clone().contiguous() for key, each in tensors.items()}, path)

    def _parameters_of(self, name: str) -> list[nn.Parameter]:
        return [each for key, each in self.policy.named_parameters() if f".{name}." in f"{key}."]

    def _train_both(self) -> None:
        for name, parameter in self.policy.named_parameters():
            parameter.requires_grad_(any(f".{each}." in f"{name}." for each in _TRAINED))


class AdaptedRewardModel(nn.Module):
    """A reward model that is one more adapter on the network of the policy.

    Called as a sequence classifier is: input_ids, attention_mask (B, S), right padded; its output
    has `logits` (B, 1), the head's at the last token of each row. head: (1, d). adapter: its name.
    """

    def __init__(
        self, actor: SharedLoraActorCritic, head: Tensor, config: Any, adapter: str
    ) -> None:
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
        with actor.active(self._adapter):
            output = actor.causal.base_model(input_ids=input_ids, use_cache=False)
        last = attention_mask.sum(-1) - 1
        hidden = output.last_hidden_state[torch.arange(len(last), device=last.device), last]
        logits: Any = hidden.float() @ self.score.T.to(hidden.device)
        return SequenceClassifierOutput(logits=logits)


def adapter_tensors(model: Any, name: str) -> dict[str, Tensor]:
    """Return an adapter's tensors by the names that PEFT saves them under."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)


def _plain(config: Any) -> Any:
    import copy

    found = copy.deepcopy(config)
    found.init_lora_weights = True
    found.inference_mode = False
    return found
