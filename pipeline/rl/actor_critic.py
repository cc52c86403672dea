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

from pipeline.files.names import VALUE_HEAD

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.rl.sequences import Sequences

CRITIC = "critic"  # the folder below a checkpoint or an artifact
_PROBE = "probe"
_PROBE_ABSOLUTE, _PROBE_RELATIVE = 0.01, 0.05  # bf16 has three digits, and layers add theirs up


class ActorCritic(nn.Module, ABC):
    """What PPOTrainer trains.

    policy: the causal language model, or a PEFT model around it. value_head: of the critic.
    """

    policy: nn.Module
    value_head: ValueHead
    critic_is_scored = False  # whether the critic began as a reward model
    critic_term: int | None = None  # which term of the reward that model is

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

    def save_critic(self, folder: Path) -> None:
        """Write the critic into an empty folder: network, head, and values by which to know it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.save_critic_network(folder)
        self.value_head.save(folder, self.probe())

    @torch.no_grad()
    def probe(self) -> Tensor:
        """Return the values of a fixed text, (8,), on the CPU."""
        from pipeline.rl.sequences import Sequences

        vocabulary: int = self.config.get_text_config().vocab_size
        ids = [7 * place % vocabulary for place in range(1, 10)]
        device = self.value_head.weight.device
        sequences = Sequences.of([ids[:1]], [ids[1:]], pad=0, device=device)
        with evaluating(self), self.as_critic():
            return self.values(sequences).float().cpu()

    def check_probe(self, folder: Path) -> None:
        """Raise ValueError for a critic that gives other values than when it was saved.

        Its weights are then on another network: a value head knows no other. What precision moves
        is below the bound.
        """
        saved = load_file(folder / VALUE_HEAD).get(_PROBE)
        if saved is None:
            return
        values = self.probe()
        bound = _PROBE_ABSOLUTE + _PROBE_RELATIVE * float(saved.abs().max())
        if not float((values - saved).abs().max()) <= bound:
            raise ValueError(
                f"the critic `{folder}` gives other values here than when it was saved: it was "
                "trained on another network; begin with the policy it was trained beside (as an "
                'adapter, not merged, where it was one), or with `critic` "policy"'
            )

    @abstractmethod
    def save_critic_network(self, folder: Path) -> None:
        """Write what of the critic is not its head."""

    @abstractmethod
    def load_critic(self, folder: Path) -> None:
        """Take the critic's weights, head included, from a folder that `save_critic` wrote."""

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
        return any(network.is_activation_checkpointing for network in self.networks())


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

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> None:
        """Begin as a reward model's head (1, d)."""
        self.weight.copy_(weight.reshape(-1).float())
        self.bias.zero_()

    @torch.no_grad()
    def rescale(self, scale: float, shift: float) -> None:
        """Give scale * value + shift for what was a value."""
        self.weight.mul_(scale)
        self.bias.mul_(scale).add_(shift)

    def save(self, folder: Path, probe: Tensor) -> None:
        """Write it into a critic's folder, beside the critic's values of a fixed text."""
        own = {"weight": self.weight.detach(), "bias": self.bias.detach()}
        save_file({**own, _PROBE: probe}, folder / VALUE_HEAD)

    def load(self, folder: Path) -> None:
        """Take its weights from a critic's folder."""
        tensors = load_file(folder / VALUE_HEAD)
        self.load_state_dict({name: tensor for name, tensor in tensors.items() if name != _PROBE})


def predicting_hidden(network: Any, sequences: Sequences) -> Tensor:
    """Return the hidden states (N, d) of a network that predict completion tokens."""
    return last_hidden(network, sequences)[sequences.predicts]


def last_hidden(network: Any, sequences: Sequences) -> Tensor:
    """Return the network's last hidden states, (B, S, d)."""
    return network(input_ids=sequences.ids, use_cache=False).last_hidden_state


def hidden_after_last(hidden: Tensor, sequences: Sequences) -> Tensor:
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
