"""The layout of a policy with a frozen reference of its own, and no critic.

With a critic beside them: separate.py, shared_trunk.py.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model

from pipeline.rl.actor import Actor
from pipeline.rl.policy_adapter import adapter_parameters, save_adapter, take_adapter

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedModel


class OwnReferenceActor(Actor):
    """A policy and its reference.

    policy: a causal language model, or a PEFT model, whose `adapter` is then trained.
    reference: a frozen copy of the policy; None where the policy is a PEFT model, which is its own
    reference without the adapter, so that no further network is needed.
    """

    def __init__(
        self, policy: nn.Module, reference: PreTrainedModel | None, *, adapter: str = "default"
    ) -> None:
        super().__init__()
        self.policy = policy
        self.adapter = adapter
        self._reference = None if reference is None else freeze(reference)

    @contextmanager
    def reference(self) -> Generator[PreTrainedModel]:
        """Give the frozen copy, or the policy with its adapter off."""
        if self._reference is not None:
            yield self._reference
            return
        policy: Any = self.policy
        with policy.disable_adapter():
            yield self.causal

    def policy_parameters(self) -> list[nn.Parameter]:
        """Return what the policy's loss trains."""
        if self.causal is not self.policy:  # an adapter; is_peft_model reads from disk at each call
            return adapter_parameters(self.policy, self.adapter)
        return [weight for weight in self.policy.parameters() if weight.requires_grad]

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
            fill_from(folder, self.policy)


def freeze(module: Any) -> Any:
    """Return a module, never to be trained, in evaluation mode."""
    return module.requires_grad_(requires_grad=False).eval()


def fill_from(folder: Path, module: Any) -> None:
    """Fill a model with the weights of a folder, in its own precision."""
    saved = type(module).from_pretrained(
        folder, dtype=module.dtype, use_safetensors=True, trust_remote_code=False
    )
    module.load_state_dict(saved.state_dict())
