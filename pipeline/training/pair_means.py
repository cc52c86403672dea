"""What trainers of preferences log, as means over pairs and tokens, however they are split.

Upstream averages over forward passes, so that an execution setting
(`per_device_train_batch_size`) changed the figures: a mean over tokens weighed short passes like
long ones, the smallest reward was a mean of smallest rewards, and the last pass of an evaluation,
which may be smaller, counted like the others.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

PAIRS = "pairs"
_WEIGHT = "weight of "  # among the lists of metrics, so that a resumed run has them as well


class PairMeans:
    """Mixed into a Trainer that keeps what it logs in `_metrics`, a list for each figure.

    weighed_by: what a figure is a mean over, a name of `weigh`; pairs where it does not say.
    extremes: figures that are not means, each with `min` or `max`.
    """

    weighed_by: ClassVar[Mapping[str, str]] = {}
    extremes: ClassVar[Mapping[str, Callable[[Sequence[float]], float]]] = {}

    def weigh(self: Any, **numbers: Tensor) -> None:
        """Say how many pairs, tokens, ... the next forward pass has, each (), on this process."""
        kept = self._metrics["train" if self.model.training else "eval"]
        for name, number in numbers.items():
            everywhere: Any = self.accelerator.gather(number.to(self.accelerator.device))
            kept[_WEIGHT + name].append(int(everywhere.sum()))

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log means over all pairs or tokens since the last line."""
        kept = self._metrics["train" if self.model.training else "eval"]
        weights: dict[str, list[int]] = defaultdict(list)
        for key in [key for key in kept if key.startswith(_WEIGHT)]:
            weights[key.removeprefix(_WEIGHT)] = kept.pop(key)
        for name, values in kept.items():
            over = weights[self.weighed_by.get(name, PAIRS)]
            if len(values) < len(over):  # upstream keeps nothing where there is nothing to count
                over = [weight for weight in over if weight]
            if name in self.extremes:
                kept[name] = [self.extremes[name](values)]
            elif len(values) == len(over) and sum(over):
                total = sum(weight * value for weight, value in zip(over, values, strict=True))
                kept[name] = [total / sum(over)]
        self.derive(kept)
        super().log(logs, start_time)  # pyright: ignore[reportAttributeAccessIssue]

    def derive(self, kept: dict[str, list[float]]) -> None:
        """Change figures that are made of other ones; kept: each figure's only value, mostly."""
