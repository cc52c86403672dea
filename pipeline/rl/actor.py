"""Actor: a policy and its reference behind one interface, whatever they share.

The trainer asks for hidden states that predict completion tokens; which weights give them is a
layout's business: own_reference.py (a reference of its own), lora.py (an adapter on one frozen
network). With a critic beside it: actor_critic.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from torch import nn

from pipeline.models.end_to_end import lays_end_to_end, run_end_to_end
from pipeline.models.fused import fuse
from pipeline.rl.logprobs import check_head

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.rl.sequences import Sequences


class Actor(nn.Module, ABC):
    """What is trained on rollouts.

    policy: the causal language model, or a PEFT model around it.
    """

    policy: nn.Module

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
        return predicting_hidden(self.causal.base_model, sequences)

    @abstractmethod
    def reference(self) -> AbstractContextManager[PreTrainedModel]:
        """Give the causal language model that KL is measured to, without gradients."""

    def sampling(self) -> AbstractContextManager[nn.Module]:
        """Give the module to sample from, the policy's weights in it."""
        return nullcontext(self.policy)

    @abstractmethod
    def policy_parameters(self) -> list[nn.Parameter]:
        """Return what the policy's loss trains."""

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what a critic's loss alone trains: nothing without one."""
        return []

    @abstractmethod
    def save_policy(self, folder: Path) -> None:
        """Write the policy so that `from_pretrained` loads it."""

    @abstractmethod
    def load_policy(self, folder: Path) -> None:
        """Take the policy's weights from a folder that `save_policy` wrote."""

    def networks(self) -> list[Any]:
        """Return every network that is trained, for gradient checkpointing."""
        return [self.causal]

    def try_out(self, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        """Check that the policy's head is one that is known, before anything is trained.

        Which networks take rows end to end is found out as well, before passes are counted.
        """
        with evaluating(self), autocast():
            check_head(self.causal)
        with self.reference() as reference:
            for network in (*self.networks(), reference):
                fuse(network)  # here, and not where models are loaded: they may be given
                lays_end_to_end(network.base_model)

    def forward(self, sequences: Sequences) -> Tensor:
        """Return the policy's hidden states; the trainer asks for each part by name instead."""
        return self.policy_hidden(sequences)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **how: Any
    ) -> None:
        """Compute activations again in the backward pass, in all networks.

        how: which layers and where to keep what is saved, as transformers' trainer passes them.
        """
        kwargs = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        for network in self.networks():
            network.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs, **how)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return any(network.is_activation_checkpointing for network in self.networks())


def predicting_hidden(network: Any, sequences: Sequences) -> Tensor:
    """Return the hidden states (N, d) of a network that predict completion tokens."""
    return last_hidden(network, sequences)[sequences.predicts]


def last_hidden(network: Any, sequences: Sequences) -> Tensor:
    """Return the network's last hidden states, (B, S, d), of a completion's tokens and before it.

    Those of padding mean nothing, nor do those of a prompt but for its last token.
    """
    if lays_end_to_end(network):
        lengths = (sequences.last + 1).tolist()
        return run_end_to_end(network, sequences.ids, lengths, sequences.first_read().tolist())
    return network(input_ids=sequences.ids, use_cache=False).last_hidden_state


def hidden_after_last(hidden: Tensor, sequences: Sequences) -> Tensor:
    """Return the hidden state at the last token of each row, (B, d), of those at all, (B, S, d)."""
    return hidden[torch.arange(len(hidden), device=hidden.device), sequences.last]


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Put a module into evaluation mode for a while."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
