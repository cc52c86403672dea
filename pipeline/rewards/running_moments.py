"""Mean and variance of all numbers seen so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class RunningMoments:
    """Mean and variance of all numbers seen so far, in double precision (Welford; Chan et al.)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    @property
    def std(self) -> float:
        """Return the biased standard deviation; 1 until two numbers were seen that differ."""
        variance = self._squares / self.count if self.count > 1 else 0.0
        return variance**0.5 if variance > 0 else 1.0

    def update(self, values: Tensor) -> None:
        """Take in numbers of any shape; those that are NaN are left out."""
        numbers = values.double().flatten()
        numbers = numbers[~numbers.isnan()]
        if not len(numbers):
            return
        count, mean = len(numbers), float(numbers.mean())
        total, shift = self.count + count, mean - self.mean
        between = shift**2 * self.count * count / total
        self._squares += float(((numbers - mean) ** 2).sum()) + between
        self.mean += shift * count / total
        self.count = total

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs."""
        return {"count": self.count, "mean": self.mean, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was written."""
        self.count = int(state["count"])
        self.mean, self._squares = float(state["mean"]), float(state["squares"])
