"""Adam's moments split over processes: each keeps those of its part of every tensor (ZeRO-1).

Rajbhandari et al. 2020. Policy, critic and reference stay whole on every process: a rollout decodes
with them, and rows of other lengths are another number of forward passes on each process, which
weights that are gathered layer by layer would have to wait for. Gradients are summed and clipped as
without it; then each process moves its part of the weights, and all hand their parts round.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn import Parameter
from transformers import TrainerCallback
from transformers.trainer import SCHEDULER_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

PARTS = "optimizer_parts"  # the folder in a checkpoint


class SplitsMoments:
    """Mixed into a Trainer that makes its optimizer itself.

    splits_moments: whether to split them; to be set before training begins.
    """

    splits_moments = False
    _parts: MomentParts | None = None

    def split_optimizer(self: Any) -> None:
        """Have the optimizer that was just made train this process's part of every tensor."""
        if not self.splits_moments:
            return
        if self.args.fp16:  # its scaler looks at the gradients of what the optimizer trains
            raise ValueError("with `precision` fp16 moments cannot be split; write bf16 or fp32")
        kind = type(self.optimizer)
        has_moments = issubclass(kind, torch.optim.Adam)  # AdamW is one, too
        if not has_moments:
            message = f"{kind.__name__}'s state cannot be split; write `optim: adamw_torch`"
            raise ValueError(message)
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        self._parts = MomentParts(self.optimizer, names)
        self.add_callback(self._parts)

    def _save_optimizer_and_scheduler(self: Any, output_dir: str) -> None:
        if self._parts is None:
            super()._save_optimizer_and_scheduler(output_dir)  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._parts.save(Path(output_dir) / PARTS)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if self._parts is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._parts.load(Path(checkpoint) / PARTS)
        schedule = torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)
        rates = self.lr_scheduler.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


class MomentParts(TrainerCallback):
    """Puts parts of the weights in their place in an optimizer, around each of its steps.

    optimizer: without any state so far. names: of the weights that it trains, by id.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._optimizer = optimizer
        self._mesh = init_device_mesh(weights[0].device.type, (torch.distributed.get_world_size(),))
        self._pairs: dict[str, tuple[Parameter, Parameter]] = {}  # weight and part, by name
        for group in optimizer.param_groups:
            parts = [Parameter(_part(weight, self._mesh)) for weight in group["params"]]
            for weight, part in zip(group["params"], parts, strict=True):
                self._pairs[names[id(weight)]] = (weight, part)
            group["params"] = parts

    @torch.no_grad()
    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Take this process's part of every weight that has a gradient, and of that."""
        for weight, part in self._pairs.values():
            part.grad = None
            if weight.grad is not None:
                part.copy_(_part(weight, self._mesh))  # a checkpoint may have been loaded
                part.grad = _part(weight.grad, self._mesh)

    @torch.no_grad()
    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Give every weight that was trained the parts of all processes."""
        for weight, part in self._pairs.values():
            if part.grad is not None:
                whole: Any = part
                weight.copy_(whole.full_tensor().view_as(weight))
                part.grad = None

    def save(self, folder: Path) -> None:
        """Write the moments, each process its part."""
        state = {
            f"{name}/{key}": value
            for name, (_, part) in self._pairs.items()
            for key, value in self._optimizer.state.get(part, {}).items()
        }
        state_dict_saver.save(state, checkpoint_id=folder)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Take the moments that any number of processes saved; weights without any have none."""
        kept: Any = FileSystemReader(folder).read_metadata().state_dict_metadata
        state: dict[str, Tensor] = {}
        for entry, described in kept.items():
            weight, part = self._pairs[entry.rpartition("/")[0]]
            is_split = described.size == part.shape
            empty = torch.zeros(described.size, dtype=described.properties.dtype)
            state[entry] = torch.zeros_like(part) if is_split else empty.to(weight.device)
        state_dict_loader.load(state, checkpoint_id=folder)
        for entry, tensor in state.items():
            name, _, key = entry.rpartition("/")
            part = self._pairs[name][1]
            self._optimizer.state[part][key] = tensor


def _part(tensor: Tensor, mesh: DeviceMesh) -> DTensor:
    """Return a tensor that every process has whole as one of which each has a part of the rows."""
    rows = tensor.detach() if tensor.dim() else tensor.detach().reshape(1)
    return distribute_tensor(rows, mesh, [Shard(0)], src_data_rank=None)
