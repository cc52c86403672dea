"""ActorCritic: an Actor with a critic beside its policy, whatever the two share.

The trainer asks for values, too; which weights give them is a layout's business: separate.py (a
critic of its own), shared_lora.py (adapters on one frozen network), shared_trunk.py (a value head
on the policy).
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.files.names import VALUE_HEAD
from pipeline.rl.actor import Actor, evaluating

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from pipeline.rl.sequences import Sequences

CRITIC = "critic"  # the folder below a checkpoint or an artifact
_PROBE = "probe"
_PROBE_ABSOLUTE, _PROBE_RELATIVE = 0.01, 0.05  # bf16 has three digits, and layers add theirs up


class ActorCritic(Actor):
    """What PPOTrainer trains.

    value_head: of the critic.
    """

    value_head: ValueHead
    critic_is_scored = False  # whether the critic began as a reward model
    critic_term: int | None = None  # which term of the reward that model is

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
