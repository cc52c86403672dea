"""ActorCritic: a policy, its reference and a critic behind one interface, whatever they share.

The trainer asks for hidden states that predict completion tokens and for values; which weights give
them is a layout's business: separate.py (a critic of its own), shared_lora.py (adapters on one
frozen network), shared_trunk.py (a value head on the policy).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.ppo.sequences import Sequences

CRITIC = "critic"  # the folder below a checkpoint or an artifact
VALUE_HEAD = "value_head.safetensors"


class ActorCritic(nn.Module, ABC):
    """What PPOTrainer trains.

    policy: the causal language model, or a PEFT model around it. value_head: of the critic.
    """

    policy: nn.Module
    value_head: ValueHead

    @cached_property  # is_peft_model reads PEFT's metadata from disk, a third of a small step
    def causal(self) -> PreTrainedModel:
        """The policy without PEFT's wrapping: the same modules."""
        policy: Any = self.policy
        return policy.get_base_model() if is_peft_model(policy) else policy

    @property
    def config(self) -> Any:
        """The policy's config, which transformers' trainer looks at."""
        return self.causal.config

    def policy_hidden(self, sequences: Sequences) -> Tensor:
        """Return the policy's hidden states that predict completion tokens, (N, d)."""
        return predicting(self.causal.base_model, sequences)

    @abstractmethod
    def reference(self) -> AbstractContextManager[PreTrainedModel]:
        """Give the causal language model that KL is measured to, without gradients."""

    def as_critic(self) -> AbstractContextManager[None]:
        """Enter before values are asked for, and leave after their gradient was sent back.

        Where weights are switched, activations that are computed again need the same ones.
        """
        return nullcontext()

    @abstractmethod
    def values(self, sequences: Sequences) -> Tensor:
        """Return the values of the states before each completion token, (N,), in fp32."""

    @abstractmethod
    def values_after(self, sequences: Sequences) -> Tensor:
        """Return the values of the states after the last token of each row, (B,), in fp32."""

    def hidden_and_values(self, sequences: Sequences) -> tuple[Tensor, Tensor] | None:
        """Return both from one pass where they share a trunk; None where they do not."""
        return None

    def sampling(self) -> AbstractContextManager[nn.Module]:
        """Give the module to sample from, the policy's weights in it."""
        return nullcontext(self.policy)

    @abstractmethod
    def policy_parameters(self) -> list[nn.Parameter]:
        """Return what the policy's loss trains."""

    @abstractmethod
    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critic's loss alone trains."""

    @abstractmethod
    def save_critic(self, folder: Path) -> None:
        """Write the critic, head included, into an empty folder."""

    @abstractmethod
    def load_critic(self, folder: Path) -> None:
        """Take the critic's weights from a folder that `save_critic` wrote."""

    @abstractmethod
    def save_policy(self, folder: Path) -> None:
        """Write the policy so that `from_pretrained` loads it."""

    @abstractmethod
    def load_policy(self, folder: Path) -> None:
        """Take the policy's weights from a folder that `save_policy` wrote."""

    @abstractmethod
    def networks(self) -> list[Any]:
        """Return every network that is trained, for gradient checkpointing."""

    def forward(self, sequences: Sequences) -> Tensor:
        """Return the policy's hidden states; the trainer asks for each part by name instead."""
        return self.policy_hidden(sequences)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **how: Any
    ) -> None:
        """Compute activations again in the backward pass, in the policy and in the critic.

        how: which layers and where to keep what is saved, as transformers' trainer passes them.
        """
        kwargs = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        for network in self.networks():
            network.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs, **how)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return any(each.is_activation_checkpointing for each in self.networks())


class ValueHead(nn.Module):
    """A scalar of a hidden state, in fp32, whatever the network's precision.

    Zero at first, so that the critic begins with no opinion (Ziegler et al. 2019); no dropout.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (...,) for hidden states (..., d)."""
        with torch.autocast(hidden.device.type, enabled=False):
            return hidden.float() @ self.weight + self.bias

    def start_from(self, weight: Tensor, *, mean: float = 0.0, std: float = 1.0) -> None:
        """Begin as a reward model's head (1, d), whose scores are normalised by mean and std."""
        with torch.no_grad():
            self.weight.copy_(weight.reshape(-1).float() / std)
            self.bias.fill_(-mean / std)

    def save(self, folder: Path) -> None:
        """Write it into a critic's folder."""
        save_file({"weight": self.weight.detach(), "bias": self.bias.detach()}, folder / VALUE_HEAD)

    def load(self, folder: Path) -> None:
        """Take its weights from a critic's folder."""
        self.load_state_dict(load_file(folder / VALUE_HEAD))


def predicting(network: Any, sequences: Sequences) -> Tensor:
    """Return the hidden states (N, d) of a network that predict completion tokens."""
    return last_hidden(network, sequences)[sequences.predicts]


def last_hidden(network: Any, sequences: Sequences) -> Tensor:
    """Return the network's last hidden states, (B, S, d)."""
    return network(input_ids=sequences.ids, use_cache=False).last_hidden_state


def after_last(hidden: Tensor, sequences: Sequences) -> Tensor:
    """Return the hidden state at the last token of each row, (B, d), of those at all, (B, S, d)."""
    begins = sequences.predicts.int().argmax(-1)  # of the last token of the prompt
    last = begins + sequences.mask.sum(-1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Put a module into evaluation mode for a while."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
