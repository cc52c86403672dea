"""Minimises many small functions side by side: an iteration of all is a few array operations.

BFGS with the whole inverse Hessian and backtracking (Nocedal and Wright 2006, algorithms 3.1 and
6.1). For a handful of constants each; one function alone is scipy's business.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]
# (points (M, P), of which of the K functions (M,)) -> their values (M,) and gradients (M, P)
Objective = Callable[[Numbers, Places], tuple[Numbers, Numbers]]

_SUFFICIENT = 1e-4  # share of the decrease along the slope that a step must bring
_SEARCHES = 20
_STILL = 1e-9  # relative decrease below which an iteration has brought nothing
_STILL_ITERATIONS = 3  # of these one after another, and a function is done
_LEAST_CURVATURE = 1e-12


@dataclass
class _State:
    """Of K functions of P constants. points (K, P); values (K,); slopes (K, P); inverses (K, P, P).

    is_fresh: (K,), whether the inverse Hessian knows no curvature yet.
    """

    points: Numbers
    values: Numbers
    slopes: Numbers
    inverses: Numbers
    is_fresh: NDArray[np.bool_]


def minimise(
    objective: Objective,
    starts: Numbers,
    *,
    lowest: Numbers,
    highest: Numbers,
    max_iterations: int,
) -> tuple[Numbers, Numbers]:
    """Follow each of K starts (K, P) downhill; return the ends (K, P) and their values (K,).

    lowest, highest: (P,), between which every point is kept.
    """
    every = np.arange(len(starts))
    values, slopes = objective(starts, every)
    state = _State(
        starts.copy(), values, slopes, _along_slope(slopes), np.ones(len(starts), dtype=np.bool_)
    )
    still = np.zeros(len(starts), dtype=np.intp)
    going = every
    for _ in range(max_iterations):
        if not len(going):
            break
        before = state.values[going]
        found = _search(objective, state, going, lowest, highest)
        begins_anew = ~found & ~state.is_fresh[going]
        anew = going[begins_anew]
        state.inverses[anew], state.is_fresh[anew] = _along_slope(state.slopes[anew]), True
        gained = before - state.values[going] > _STILL * np.maximum(before, 1.0)
        still[going] = np.where(gained | begins_anew, 0, still[going] + 1)
        is_stuck = ~found & ~begins_anew
        going = going[~is_stuck & (still[going] < _STILL_ITERATIONS)]
    return state.points, state.values


def _along_slope(slopes: Numbers) -> Numbers:
    """Return inverse Hessians (K, P, P) by which the first step is of length 1, down the slope."""
    lengths = np.maximum(np.sqrt((slopes**2).sum(axis=1)), np.finfo(np.float64).tiny)
    return np.eye(slopes.shape[1]) / lengths[:, None, None]


def _search(
    objective: Objective, state: _State, going: Places, lowest: Numbers, highest: Numbers
) -> NDArray[np.bool_]:
    """Take a step of each function that is `going`; return where one was found that goes down."""
    points, values = state.points[going], state.values[going]
    slopes, inverses = state.slopes[going], state.inverses[going]
    directions = -np.einsum("kij,kj->ki", inverses, slopes)
    descents = (directions * slopes).sum(axis=1)
    lengths = np.ones(len(going))
    to_try = np.arange(len(going))
    for _ in range(_SEARCHES):
        tried = points[to_try] + lengths[to_try, None] * directions[to_try]
        tried = np.clip(tried, lowest, highest)
        new_values, new_slopes = objective(tried, going[to_try])
        rise = new_values - values[to_try]
        expected = lengths[to_try] * descents[to_try]
        is_good = rise <= _SUFFICIENT * expected
        good = going[to_try[is_good]]
        state.points[good], state.values[good] = tried[is_good], new_values[is_good]
        state.slopes[good] = new_slopes[is_good]
        # Where the parabola through what is known has its lowest point, within reason.
        to_try, rise, expected = to_try[~is_good], rise[~is_good], expected[~is_good]
        if not len(to_try):
            break
        shares = -expected / (2 * (rise - expected))
        lengths[to_try] *= np.clip(shares, 0.1, 0.5)
    found = np.ones(len(going), dtype=np.bool_)
    found[to_try] = False
    _learn_curvature(state, going[found], points[found], slopes[found])
    return found


def _learn_curvature(state: _State, moved: Places, points: Numbers, slopes: Numbers) -> None:
    """Update the inverse Hessians of functions by the step that each made from `points`."""
    steps, turns = state.points[moved] - points, state.slopes[moved] - slopes
    curvatures, squares = (steps * turns).sum(axis=1), (turns**2).sum(axis=1)
    lengths = np.sqrt((steps**2).sum(axis=1) * squares)
    is_curved = curvatures > _LEAST_CURVATURE * lengths
    moved, steps, turns = moved[is_curved], steps[is_curved], turns[is_curved]
    curvatures, squares = curvatures[is_curved, None, None], squares[is_curved, None, None]
    inverses = state.inverses[moved]
    first = state.is_fresh[moved]
    inverses[first] = np.eye(steps.shape[1]) * (curvatures / squares)[first]
    state.is_fresh[moved] = False
    turned = np.einsum("kij,kj->ki", inverses, turns)
    weights = 1 + (turns * turned).sum(axis=1)[:, None, None] / curvatures
    crossed = turned[:, :, None] * steps[:, None, :]
    outer = steps[:, :, None] * steps[:, None, :]
    state.inverses[moved] = (
        inverses + (weights * outer - crossed - crossed.transpose(0, 2, 1)) / curvatures
    )
