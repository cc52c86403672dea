"""How the loss falls with a model's size and its data: L(N, D) = E + A / N^alpha + B / D^beta.

Fitted as in the third approach of Hoffmann et al. 2022 ("Training Compute-Optimal Large Language
Models", section 3.3): Huber loss on the difference of log L, L-BFGS from a grid of starts.
Intervals by a bootstrap over runs, as Besiroglu et al. 2024 ("Chinchilla Scaling: A replication
attempt") did. Not which runs are fitted (pipeline/stages/scaling_law.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.statistics.estimate import Estimate

Numbers = NDArray[np.float64]

FLOPS_A_TOKEN = 6  # for each parameter, forward and backward (Kaplan et al. 2020)
CONSTANTS = ("E", "A", "alpha", "B", "beta")
FEWEST_RUNS = 6  # one more than there are constants
FEWEST_VALUES = 3  # of N and of D: with two, a term and E cannot be told apart
_HUBER = 1e-3
# Exponents of the grid of starts; the other constants of a start follow by least squares.
_EXPONENTS = (0.1, 0.3, 0.5, 0.8, 1.2, 2.0)
_STARTS = 12  # of the grid that are followed: those that fit best already
_RESAMPLED_STARTS = 1  # beside the end of the whole fit
_ITERATIONS = 2000
_RESAMPLED_ITERATIONS = 200  # the ends of intervals move by less than another seed moves them
_EXPONENT_BOUNDS = (1e-3, 4.0)
# As a share of the smallest loss: of a term at a start, since 0 has no log, and of E at the end,
# where less is 0, which a fit to log E never reaches.
_LEAST_TERM = 1e-4
_LEAST_CONSTANT = 1e-3


@dataclass(frozen=True)
class TrainingRun:
    """A model that was trained. parameters: N. tokens: D. loss: of held-out text, L."""

    parameters: float
    tokens: float
    loss: float

    @property
    def compute(self) -> float:
        """Floating-point operations of its training, about 6 N D."""
        return FLOPS_A_TOKEN * self.parameters * self.tokens


@dataclass(frozen=True)
class ScalingLaw:
    """The constants of a law; E, A and B in the unit of the loss."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss of a model of `parameters` that has seen `tokens`."""
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta

    def allocate(self, compute: float) -> tuple[float, float]:
        """Return the parameters and tokens whose loss is least for a compute of 6 N D.

        Hoffmann et al. 2022, equation 4.
        """
        total = self.alpha + self.beta
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / total)
        product_ND = compute / FLOPS_A_TOKEN
        return (
            ratio * product_ND ** (self.beta / total),
            product_ND ** (self.alpha / total) / ratio,
        )


# Published fits to the losses of 245 models of 44M to 16B parameters, in nats a token.
CHINCHILLA = ScalingLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
CHINCHILLA_REPLICATED = ScalingLaw(E=1.8172, A=482.01, alpha=0.3478, B=2085.43, beta=0.3658)


@dataclass(frozen=True)
class FittedLaw:
    """A law, and those of resampled runs, which say how much of it is chance.

    error: mean of |predicted - measured| / measured over the runs that were fitted. residuals: of
    log L, widened for the constants that were fitted.
    """

    law: ScalingLaw
    resampled: tuple[ScalingLaw, ...]
    runs: tuple[TrainingRun, ...]
    residuals: tuple[float, ...]
    error: float

    def constant(self, name: str) -> Estimate:
        """Return one of the constants with its interval."""
        return _estimate(getattr(self.law, name), [getattr(law, name) for law in self.resampled])

    def predict(self, parameters: float, tokens: float) -> Estimate:
        """Return the loss of a new run, with the interval of such a run and not of their mean."""
        means = [law.loss(parameters, tokens) for law in self.resampled]
        noise = _spread(self.residuals, len(means))
        losses = [mean * float(np.exp(off)) for mean, off in zip(means, noise, strict=True)]
        return _estimate(self.law.loss(parameters, tokens), losses)

    def allocate(self, compute: float) -> tuple[Estimate, Estimate, Estimate]:
        """Return the best parameters and tokens for a compute, and their loss."""
        found = [(*law.allocate(compute), law) for law in self.resampled]
        parameters, tokens = self.law.allocate(compute)
        return (
            _estimate(parameters, [n for n, _, _ in found]),
            _estimate(tokens, [d for _, d, _ in found]),
            _estimate(self.law.loss(parameters, tokens), [law.loss(n, d) for n, d, law in found]),
        )


def fit_with_intervals(
    runs: Sequence[TrainingRun],
    *,
    resamples: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> FittedLaw:
    """Fit a law to runs, and once more to each of `resamples` draws of as many runs from them.

    A draw is fitted from two starts, the law of all runs and the best one of the grid, and stops
    after 200 iterations: most of the way in a few, then a long way along the law's flat directions.
    Raises ValueError as `fit_law` does.
    """
    law = fit_law(runs)
    generator = np.random.default_rng(seed)
    resampled: list[ScalingLaw] = []
    while len(resampled) < resamples:
        drawn = [runs[number] for number in generator.integers(0, len(runs), len(runs))]
        if not _say_enough(drawn):
            continue
        resampled.append(
            _fit(
                drawn,
                starts=_RESAMPLED_STARTS,
                max_iterations=_RESAMPLED_ITERATIONS,
                first=law,
            )
        )
        if on_progress is not None:
            on_progress(len(resampled), resamples)
    offs = [float(np.log(run.loss / law.loss(run.parameters, run.tokens))) for run in runs]
    freedom = max(len(runs) - len(CONSTANTS), 1)
    return FittedLaw(
        law=law,
        resampled=tuple(resampled),
        runs=tuple(runs),
        residuals=tuple(off * (len(runs) / freedom) ** 0.5 for off in offs),
        error=float(np.mean([abs(np.expm1(-off)) for off in offs])),
    )


def fit_law(runs: Sequence[TrainingRun]) -> ScalingLaw:
    """Return the law that fits runs best.

    Raises ValueError for runs that say too little: below `FEWEST_RUNS`, or with fewer than three
    different sizes or amounts of tokens, which leave a term and the constant E undivided.
    """
    problem = too_few(runs)
    if problem:
        raise ValueError(problem)
    return _fit(runs, starts=_STARTS, max_iterations=_ITERATIONS)


def too_few(runs: Sequence[TrainingRun]) -> str:
    """Return what is missing for a fit, in words; "" where nothing is."""
    points = {(run.parameters, run.tokens) for run in runs}
    sizes, amounts = {run.parameters for run in runs}, {run.tokens for run in runs}
    if len(points) >= FEWEST_RUNS and min(len(sizes), len(amounts)) >= FEWEST_VALUES:
        return ""
    return (
        f"{len(points)} different runs of {len(sizes)} sizes and {len(amounts)} amounts of tokens "
        f"do not fix five constants; it takes {FEWEST_RUNS}, of {FEWEST_VALUES} sizes and amounts"
    )


def are_beyond(runs: Sequence[TrainingRun], factor: float) -> list[bool]:
    """Whether each run took more compute than that of the largest, divided by a factor."""
    limit = max(run.compute for run in runs) / factor
    return [run.compute > limit for run in runs]


def _say_enough(runs: Sequence[TrainingRun]) -> bool:
    """Whether a draw of runs has a law of its own: two values of each, at the least."""
    return min(len({run.parameters for run in runs}), len({run.tokens for run in runs})) > 1


def _fit(
    runs: Sequence[TrainingRun],
    *,
    starts: int,
    max_iterations: int,
    first: ScalingLaw | None = None,
) -> ScalingLaw:
    """Follow the best starts of the grid, and `first`, to the end; return the best of the ends."""
    logs = np.log([[run.parameters, run.tokens, run.loss] for run in runs])
    centre = logs.mean(axis=0)
    logs = logs - centre  # the terms' sizes and exponents are then hardly correlated
    grid = sorted(_grid(logs), key=lambda start: _objective(start, logs)[0])[:starts]
    if first is not None:
        grid.append(_start_of(first, centre))
    found = [_minimise(start, logs, max_iterations) for start in grid]
    best = min(found, key=lambda end: end[1])[0]
    return _law_of(best, centre, least_loss=min(run.loss for run in runs))


def _grid(logs: Numbers) -> Iterator[Numbers]:
    """Yield starts (log A, log B, log E, alpha, beta), all about the runs' centre."""
    from scipy.optimize import nnls  # takes long to import

    losses = np.exp(logs[:, 2])  # (R,)
    least = _LEAST_TERM * losses.min()
    for alpha, beta in product(_EXPONENTS, _EXPONENTS):
        terms = np.stack(
            [np.exp(-alpha * logs[:, 0]), np.exp(-beta * logs[:, 1]), np.ones(len(logs))], axis=1
        )
        sizes, _ = nnls(terms / losses[:, None], np.ones(len(logs)))
        yield np.array([*np.log(np.maximum(sizes, least)), alpha, beta])


def _minimise(start: Numbers, logs: Numbers, max_iterations: int) -> tuple[Numbers, float]:
    from scipy.optimize import minimize

    found: Any = minimize(
        _objective,
        start,
        args=(logs,),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None), (None, None), (None, None), _EXPONENT_BOUNDS, _EXPONENT_BOUNDS],
        options={"maxiter": max_iterations, "ftol": 1e-14, "gtol": 1e-10},
    )
    return found.x, float(found.fun)


def _objective(constants: Numbers, logs: Numbers) -> tuple[float, Numbers]:
    """Return the summed Huber loss of log L and its gradient.

    constants: (log A, log B, log E, alpha, beta). logs: (R, 3), of N, D and L.
    """
    a, b, e, alpha, beta = constants
    terms = np.stack([a - alpha * logs[:, 0], b - beta * logs[:, 1], np.full(len(logs), e)])
    highest = terms.max(axis=0)
    shares = np.exp(terms - highest)  # (3, R), of the predicted loss once divided
    total = shares.sum(axis=0)
    shares /= total
    off = highest + np.log(total) - logs[:, 2]  # (R,)
    is_near = np.abs(off) <= _HUBER
    losses = np.where(is_near, 0.5 * off**2, _HUBER * (np.abs(off) - 0.5 * _HUBER))
    slope = np.clip(off, -_HUBER, _HUBER)  # (R,)
    of_terms = shares @ slope  # (3,)
    gradient = np.array(
        [
            *of_terms,
            -float(shares[0] * slope @ logs[:, 0]),
            -float(shares[1] * slope @ logs[:, 1]),
        ]
    )
    # In units of the threshold: L-BFGS stops by absolute steps of the objective.
    return float(losses.sum()) / _HUBER**2, gradient / _HUBER**2


def _law_of(constants: Numbers, centre: Numbers, *, least_loss: float) -> ScalingLaw:
    a, b, e, alpha, beta = (float(value) for value in constants)
    log_N, log_D, log_L = (float(value) for value in centre)
    constant = float(np.exp(e + log_L))
    return ScalingLaw(
        E=constant if constant > _LEAST_CONSTANT * least_loss else 0.0,
        A=float(np.exp(a + log_L + alpha * log_N)),
        alpha=alpha,
        B=float(np.exp(b + log_L + beta * log_D)),
        beta=beta,
    )


def _start_of(law: ScalingLaw, centre: Numbers) -> Numbers:
    log_N, log_D, log_L = (float(value) for value in centre)
    return np.array(
        [
            np.log(law.A) - log_L - law.alpha * log_N,
            np.log(law.B) - log_L - law.beta * log_D,
            np.log(max(law.E, _LEAST_TERM * np.exp(log_L))) - log_L,
            law.alpha,
            law.beta,
        ]
    )


def _spread(values: Sequence[float], number: int) -> list[float]:
    """Return as many values as asked for, those given in turn."""
    return [values[place % len(values)] for place in range(number)]


def _estimate(value: float, draws: Sequence[float]) -> Estimate:
    """Return a value with the middle 95% of draws."""
    if not draws:
        return Estimate(value)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
