"""A figure with its interval: what every score, difference and mean of a comparison is shown as."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval, where there is one; by_seed: what each seed gave."""

    value: float
    low: float | None = None
    high: float | None = None
    by_seed: tuple[float | None, ...] = ()

    def side_of(self, reference: float) -> int:
        """Return 1 where the whole interval is above a reference, -1 below, else 0."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > reference) - (self.high < reference)


def estimate_of(value: float | None, low: float | None, high: float | None) -> Estimate | None:
    """Return an estimate of fields that lie side by side; None where nothing was measured."""
    return None if value is None else Estimate(value, low, high)
