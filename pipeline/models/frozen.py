"""Keeps frozen weights in the few bits that they are multiplied in; all else stays in fp32.

Under autocast a frozen weight in fp32 is cast anew in every pass, so for every sampled token, and
takes twice the memory. Kept cast, products are the same to the last bit. Embeddings, norms and
what is trained stay in fp32, so that sums are not coarser either. Not quantisation, which
keeps fewer bits than it computes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ADAPTER = ".lora_"  # in the names of PEFT's own projections
_EXPERT_DIMENSIONS = 3  # (experts, in, out): a mixture's projections are one parameter

Apart = tuple[Tensor, Tensor]


class _Kept:
    """What FrozenLinear and FrozenConv1D have in common: weights of few bits, an adapter in them.

    earlier_down: (r, in), of an adapter that was trained before; None without one. Its other half
    stands in the weight as r more inputs, so that both are added up in one product, in fp32, which
    is rounded once. Merged into the weight it would be rounded with it: in bf16 what is less than
    2^-9 of a weight would be lost, and always where bf16 can write the weight, as it can those of
    most published models. Added to a product that is rounded already, it would be lost likewise.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    earlier_down: Tensor | None

    def take(self, plain: Any, dtype: torch.dtype, apart: Apart | None, *, inputs_at: int) -> None:
        """Hold a projection's weights in a precision, with an earlier adapter (down, up).

        inputs_at: which dimension of the weight the inputs are.
        """
        weight, down = plain.weight, None
        if apart is not None:
            down, up = apart
            # Linear: (out, in + r). Conv1D: (in + r, out).
            weight = torch.cat([weight, up if inputs_at else up.T], inputs_at)
            down = down.to(dtype)
        self.weight = _freeze(weight, dtype)
        self.bias = None if plain.bias is None else _freeze(plain.bias, dtype)
        cast("nn.Module", self).register_buffer("earlier_down", down)

    def widen(self, inputs: Tensor) -> Tensor:
        """Return inputs in the precision of the weights, with those of the earlier adapter."""
        inputs = inputs.to(self.weight.dtype)
        if self.earlier_down is None:
            return inputs
        return torch.cat([inputs, functional.linear(inputs, self.earlier_down)], -1)


class FrozenLinear(_Kept, nn.Linear):
    """A projection whose weights are kept in bf16 or fp16, with or without autocast around it."""

    def forward(self, input: Tensor) -> Tensor:  # as upstream names it
        """Return (..., out) for (..., in), as autocast gives it; else as precise as the inputs."""
        return _restore_precision(super().forward(self.widen(input)), input)


class FrozenConv1D(_Kept, Conv1D):
    """The same of GPT-2's projection, whose weight is (in, out)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for (..., in), as autocast gives it; else as precise as the inputs."""
        return _restore_precision(super().forward(self.widen(x)), x)


def keep_frozen(
    module: nn.Module,
    dtype: torch.dtype,
    *,
    leave: Collection[str] = (),
    apart: Mapping[str, Apart] | None = None,
) -> None:
    """Put the frozen projections of a model into a precision, in place; others stay what they are.

    leave: last parts of names of modules that stay as they are. apart: earlier adapters, by the
    name of the projection. A head that is tied to the embeddings becomes one of its own.
    """
    beside = apart or {}
    for path, parent in list(module.named_modules()):
        if _ADAPTER in f".{path}":
            continue
        for name, child in list(parent.named_children()):
            is_plain = type(child) in (nn.Linear, Conv1D)
            if is_plain and name not in leave and _is_frozen(child):
                where = f"{path}.{name}" if path else name
                setattr(parent, name, _keep(child, dtype, beside.get(where)))
        if not isinstance(parent, nn.modules.conv._ConvNd):  # pyright: ignore[reportPrivateUsage]
            for parameter in parent.parameters(recurse=False):
                if parameter.ndim == _EXPERT_DIMENSIONS and not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


def is_kept(module: nn.Module) -> bool:
    """Whether `keep_frozen` put projections of a model into another precision."""
    return any(isinstance(part, _Kept) for part in module.modules())


def thaw(module: nn.Module) -> Any:
    """Put all projections that are kept in another precision back into fp32, in place; return it.

    As weights that can be trained, earlier adapters merged in.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FrozenLinear | FrozenConv1D):
                setattr(parent, name, plain_copy(child))
    return module


def plain_copy(layer: FrozenLinear | FrozenConv1D) -> nn.Module:
    """Return a copy in fp32 with the earlier adapter merged in, of the layer's plain class."""
    is_linear, weight = isinstance(layer, FrozenLinear), layer.weight.detach().float()
    if not is_linear:
        weight = weight.T  # (out, in)
    if layer.earlier_down is not None:
        size = layer.earlier_down.shape[1]  # in; behind it stand the r columns of the adapter
        weight = weight[:, :size] + weight[:, size:] @ layer.earlier_down.float()
    out, size = weight.shape
    plain: Any = nn.Linear(size, out, device="meta") if is_linear else Conv1D(out, size)
    weight = weight if is_linear else weight.T.contiguous()
    plain.weight = nn.Parameter(weight)
    plain.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().float())
    return plain


def _keep(child: Any, dtype: torch.dtype, apart: Apart | None) -> nn.Module:
    frozen: Any
    if type(child) is nn.Linear:
        frozen = FrozenLinear(child.in_features, child.out_features, device="meta")
    else:
        with torch.device("meta"):
            frozen = FrozenConv1D(child.nf, child.nx)
    frozen.take(child, dtype, apart, inputs_at=1 if isinstance(child, nn.Linear) else 0)
    return frozen.train(child.training)


def _restore_precision(projected: Tensor, inputs: Tensor) -> Tensor:
    is_cast = torch.is_autocast_enabled(inputs.device.type)
    return projected if is_cast else projected.to(inputs.dtype)


def _freeze(parameter: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(dtype), requires_grad=False)


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())
