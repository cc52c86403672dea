"""How the loss falls with a model's size and its data: L(N, D) = E + A / N^alpha + B / D^beta.

Fitted as in the third approach of Hoffmann et al. 2022 ("Training Compute-Optimal Large Language
Models", section 3.3): Huber loss on the difference of log L, BFGS from a grid of starts
(theirs with limited memory, which five constants do not need; bfgs.py). Intervals by a bootstrap
over runs, as Besiroglu et al. 2024 ("Chinchilla Scaling: A replication attempt") did. Not which
runs are fitted (pipeline/stages/scaling_law.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from eval.statistics.bfgs import minimise
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
_RESAMPLED_STARTS = 4  # beside the end of the whole fit
_ITERATIONS = 2000
_RESAMPLED_ITERATIONS = 400  # the ends of intervals move by less than another seed moves them
_DRAWS_AT_ONCE = 50
_EXPONENT_BOUNDS = (1e-3, 4.0)
# As shares of the smallest loss: a term at a start, since 0 has no log; and E at the end, where
# less is 0: a fit to log E never reaches that, and hardly leaves such a start.
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

    A draw is fitted from five starts, the law of all runs and the best ones of the grid, and stops
    after 400 iterations: most of the way in a few, then a long way along the law's flat directions.
    Raises ValueError as `fit_law` does.
    """
    law = fit_law(runs)
    generator = np.random.default_rng(seed)
    resampled: list[ScalingLaw] = []
    while len(resampled) < resamples:
        fewer = min(_DRAWS_AT_ONCE, resamples - len(resampled))
        drawn = np.stack([_draw(runs, generator) for _ in range(fewer)])
        resampled += _fit(
            runs,
            drawn,
            starts=_RESAMPLED_STARTS,
            max_iterations=_RESAMPLED_ITERATIONS,
            first=law,
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
    (law,) = _fit(runs, np.ones((1, len(runs))), starts=_STARTS, max_iterations=_ITERATIONS)
    return law


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


def _draw(runs: Sequence[TrainingRun], generator: np.random.Generator) -> Numbers:
    """Draw as many runs as there are, with a law of their own; return how often each, (R,)."""
    while True:
        drawn = generator.integers(0, len(runs), len(runs))
        sizes, amounts = {runs[n].parameters for n in drawn}, {runs[n].tokens for n in drawn}
        if min(len(sizes), len(amounts)) > 1:
            return np.bincount(drawn, minlength=len(runs)).astype(np.float64)


def _fit(
    runs: Sequence[TrainingRun],
    weights: Numbers,
    *,
    starts: int,
    max_iterations: int,
    first: ScalingLaw | None = None,
) -> list[ScalingLaw]:
    """Return a law for each of K weightings of the runs, the best end of its best `starts`.

    weights: (K, R), how often each has each run. first: a start beside those of the grid.
    """
    logs, centre = _centred_logs(runs)
    grid = np.stack(list(_grid(logs)))
    values = np.stack(
        [_objective(np.tile(start, (len(weights), 1)), logs, weights)[0] for start in grid]
    )  # (those of the grid, K)
    followed = grid[np.argsort(values, axis=0, kind="stable")[:starts]]  # (S, K, 5)
    if first is not None:
        of_first = np.tile(_start_of(first, centre), (1, len(weights), 1))
        followed = np.concatenate([followed, of_first])
    least, most = _EXPONENT_BOUNDS
    ends, values = minimise(
        lambda points, which: _objective(points, logs, weights[which % len(weights)]),
        followed.reshape(-1, followed.shape[-1]),
        lowest=np.array([-np.inf, -np.inf, -np.inf, least, least]),
        highest=np.array([np.inf, np.inf, np.inf, most, most]),
        max_iterations=max_iterations,
    )
    best = values.reshape(len(followed), -1).argmin(axis=0)
    least_loss = min(run.loss for run in runs)
    return [
        _law_of(end, centre, least_loss=least_loss)
        for end in ends.reshape(followed.shape)[best, np.arange(len(weights))]
    ]


def _centred_logs(runs: Sequence[TrainingRun]) -> tuple[Numbers, Numbers]:
    """Return log N, log D and log L (R, 3) about their means, and these (3,).

    The terms' sizes and exponents are then hardly correlated.
    """
    logs = np.log([[run.parameters, run.tokens, run.loss] for run in runs])
    centre = logs.mean(axis=0)
    return logs - centre, centre


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


def _objective(constants: Numbers, logs: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """Return for each of K laws the summed Huber loss of log L (K,), and its gradient (K, 5).

    constants: (K, 5), of log A, log B, log E, alpha, beta. logs: (R, 3), of N, D and L. weights:
    (K, R), how often each law's runs have each run.
    """
    a, b, e, alpha, beta = (column[:, None] for column in constants.T)
    log_N, log_D, log_L = logs.T
    terms = (a - alpha * log_N, b - beta * log_D, e)  # the last (K, 1), the others (K, R)
    highest = np.maximum(np.maximum(terms[0], terms[1]), terms[2])
    shares = [np.exp(term - highest) for term in terms]  # of the predicted loss, once divided
    total = shares[0] + shares[1] + shares[2]
    off = highest + np.log(total) - log_L
    is_near = np.abs(off) <= _HUBER
    losses = np.where(is_near, 0.5 * off**2, _HUBER * (np.abs(off) - 0.5 * _HUBER))
    slope = np.clip(off, -_HUBER, _HUBER)
    of_A, of_B, of_E = (weights * slope / total * share for share in shares)
    gradient = np.stack(
        [
            *(of_term.sum(axis=1) for of_term in (of_A, of_B, of_E)),
            -(of_A * log_N).sum(axis=1),
            -(of_B * log_D).sum(axis=1),
        ],
        axis=1,
    )
    return (weights * losses).sum(axis=1) / _HUBER**2, gradient / _HUBER**2


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
