"""RMSNorm and rotary positions on a CPU as one autograd function each, instead of upstream's chain.

Upstream writes them as six to eight elementwise operations, of which autograd keeps every result
and goes back through each: a seventh of a training step of a small model. Here the gradient is a
formula, in a few passes over memory. What they compute is upstream's, up to rounding.

They take upstream's place in a class or module of transformers whose code is, but for names of
types and comments, the code below; others keep their own, and so does whatever is not a plain fp32
tensor on a CPU (another precision, another device, weights that are split). Nothing of a model
changes: not its modules, its weights nor its config.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable

_RMS_NORM = """
def forward(self, hidden_states):
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)
"""
_ROTARY = """
def apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=1):
    cos = cos.unsqueeze(unsqueeze_dim)
    sin = sin.unsqueeze(unsqueeze_dim)
    q_embed = (q * cos) + (rotate_half(q) * sin)
    k_embed = (k * cos) + (rotate_half(k) * sin)
    return q_embed, k_embed
"""
_ROTATE_HALF = """
def rotate_half(x):
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)
"""
_PACKAGE = "transformers.models."


def fuse(network: nn.Module) -> None:
    """Put the functions below into the classes and modules that a network is made of."""
    for kind in {type(part) for part in network.modules()}:
        if kind.__module__.startswith(_PACKAGE):
            _fuse_class(kind)


@cache
def _fuse_class(kind: type[nn.Module]) -> None:
    upstream: Any = vars(kind).get("forward")
    if _is_code(upstream, _RMS_NORM):
        kind.forward = _norm_in_place_of(upstream)
    module: Any = sys.modules[kind.__module__]
    rotary: Any = getattr(module, "apply_rotary_pos_emb", None)
    if _is_code(rotary, _ROTARY) and _is_code(getattr(module, "rotate_half", None), _ROTATE_HALF):
        module.apply_rotary_pos_emb = _rotary_in_place_of(rotary)


def _is_code(function: Any, code: str) -> bool:
    """Whether a function's code is this, up to comments, annotations and decorators."""
    if not inspect.isfunction(function):
        return False
    try:
        source = inspect.getsource(function)
    except OSError:  # installed without its source
        return False
    return _bare(textwrap.dedent(source)) == _bare(code)


def _bare(source: str) -> str:
    function = ast.parse(source).body[0]
    if not isinstance(function, ast.FunctionDef):
        return ""
    function.decorator_list, function.returns = [], None
    for argument in function.args.args:
        argument.annotation = None
    if ast.get_docstring(function) is not None:
        del function.body[0]
    return ast.dump(function)


def _norm_in_place_of(upstream: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if not _are_plain(hidden_states, self.weight):
            return upstream(self, hidden_states)
        return _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon)

    return forward


def _rotary_in_place_of(upstream: Callable[..., Any]) -> Callable[..., Any]:
    def apply_rotary_pos_emb(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        is_whole = cos.shape[-1] == q.shape[-1] == k.shape[-1] and q.shape[-1] % 2 == 0
        if not is_whole or cos.requires_grad or not _are_plain(q, k, cos, sin):
            return upstream(q, k, cos, sin, unsqueeze_dim)
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return _Rotary.apply(q, cos, sin), _Rotary.apply(k, cos, sin)

    return apply_rotary_pos_emb


def _are_plain(*tensors: Tensor) -> bool:
    return not torch.compiler.is_compiling() and all(
        type(each) in (Tensor, nn.Parameter)
        and each.dtype == torch.float32
        and each.device.type == "cpu"
        for each in tensors
    )


def normalise(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return RMSNorm of x (..., d), and what x was multiplied by, (..., 1)."""
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = scale.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (x * scale).mul_(weight), scale


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return pairs of numbers of x (..., d) turned by angles, the pair of i being i + d/2."""
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y


class _RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019). x: (..., d). weight: (d,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y, scale = normalise(x, weight, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  torch passes all by position
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        of_x = of_weight = None
        products = (gradient * x).reshape(-1, x.shape[-1])
        if ctx.needs_input_grad[1]:
            of_weight = (scale.reshape(1, -1) @ products)[0]
        if ctx.needs_input_grad[0]:
            # Of scale by x: -scale^3 x / d. A copy, since those that a file was mapped for lie
            # anywhere, and MKL's sums depend on that.
            pull = (products @ weight.clone()).view_as(scale)
            pull.mul_(scale.pow(3)).div_(-x.shape[-1])
            of_x = (gradient * scale).mul_(weight).addcmul_(x, pull)
        return of_x, of_weight, None


class _Rotary(torch.autograd.Function):
    """Pairs of numbers turned by angles (Su et al. 2021), the pair of i being i + d/2.

    x: (..., d). cos, sin: of the angles, of a shape that goes with x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        y = turn(x, cos, sin)
        ctx.strides = y.stride()
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  torch passes all by position
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        half = gradient.shape[-1] // 2
        # In the order of the input, whatever attention's is: what comes before takes it in one run.
        of_x = gradient.new_empty_strided(gradient.shape, ctx.strides)
        torch.mul(gradient, cos, out=of_x)
        of_x[..., :half].addcmul_(gradient[..., half:], sin[..., half:])
        of_x[..., half:].addcmul_(gradient[..., :half], sin[..., :half], value=-1)
        return of_x, None, None
