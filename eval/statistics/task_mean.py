"""The mean over tasks of figures that were each measured on items of their own.

An interval for the mean is recovered from those of the tasks (MOVER: Zou and Donner 2008): the
distances from each figure to the end of its interval add up in squares, since no two tasks share
items. It needs no items, keeps the asymmetry of intervals near 0 and 1, and comes out as the
bootstrap that resamples items within tasks does. Imports no torch.
"""

import math
from collections.abc import Sequence

from eval.statistics.estimate import Estimate


def mean_over_tasks(figures: Sequence[Estimate]) -> Estimate | None:
    """Return the mean of one figure per task; None without any.

    It has an interval where every task's figure has one. The tasks are the ones that were chosen:
    the interval says what other items could have given, not what other tasks could have.
    """
    if not figures:
        return None
    num = len(figures)
    value = math.fsum(figure.value for figure in figures) / num
    below = [f.value - f.low for f in figures if f.low is not None]
    above = [f.high - f.value for f in figures if f.high is not None]
    if len(below) < num or len(above) < num:
        return Estimate(value)
    return Estimate(value, value - math.hypot(*below) / num, value + math.hypot(*above) / num)
