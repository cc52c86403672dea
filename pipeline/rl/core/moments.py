"""Sums, means and spreads of what a mask lets through; whitening, explained variance.

What is masked is taken out with `torch.where` and never multiplied by 0, which would let NaN
through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST_SPREAD = 1e-5  # of returns, in means: below are fp32's rounding errors


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over valid entries, ()."""
    return torch.where(mask, x, 0).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over valid entries, (); 0 where there are none."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def masked_moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over valid entries, () each."""
    x = torch.where(mask, x, 0)  # first: a masked NaN would reach all gradients through the square
    mean = masked_mean(x, mask)
    return mean, masked_mean((x - mean) ** 2, mask)


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, epsilon: float = 1e-8) -> Tensor:
    """Scale valid entries to variance 1, and to mean 0 unless told otherwise; 0 elsewhere.

    With one valid entry or none there is no scale: all zeros.
    """
    if int(mask.sum()) <= 1:
        return torch.zeros_like(x)
    x = torch.where(mask, x, 0)
    mean, variance = masked_moments(x, mask)
    scaled = (x - mean) * torch.rsqrt(variance + epsilon)
    return torch.where(mask, scaled if shift_mean else scaled + mean, 0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return 1 - Var(returns - values) / Var(returns); 0 where returns do not vary."""
    mean, whole = masked_moments(returns, mask)
    _, left = masked_moments(returns - values, mask)
    # Equal returns differ by rounding: without a bound this would be -1e16.
    is_varied = float(whole) > _SMALLEST_SPREAD**2 * float(mean) ** 2
    return float(1 - left / whole) if is_varied else 0.0
