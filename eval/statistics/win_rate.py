"""How often one response is preferred to another: ties, several samples a prompt, lengths.

Not where preferences come from (see `eval.comparison.preference`): outcomes are 1 for a win, 0.5
for a tie, 0 for a loss, anything between for a judge that weighs. Every prompt counts the same,
however many samples it has, and intervals take prompts, not samples, as the independent draws.
Imports no torch.

After Dubois et al. 2024, "Length-Controlled AlpacaEval", whose figure `equal_length_win_rate` is
not: see there.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from eval.statistics.intervals import Interval, blaker, mean, mean_interval, tango

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def win_rate(
    outcomes: Sequence[float],
    prompts: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> tuple[float, Interval | None]:
    """Return the win rate, a tie counting half, and its interval.

    prompts: which prompt each outcome belongs to; None if each has its own.

    With one sample a prompt the interval is Tango's for wins minus losses, or Blaker's where
    nothing is tied; with several, or with outcomes between those, that of the mean over prompts.
    None for one prompt of several samples or one such outcome. Raises ValueError without outcomes,
    or for one that is not from 0 to 1.
    """
    by_prompt = _by_prompt(outcomes, prompts)
    if len(by_prompt) < len(outcomes) or not set(outcomes) <= {0, 0.5, 1}:
        rates = [mean([outcomes[i] for i in members]) for members in by_prompt]
        reach = mean_interval(rates, confidence=confidence)
        return mean(rates), reach and Interval(max(0.0, reach.low), min(1.0, reach.high))
    n, wins, losses = len(outcomes), outcomes.count(1), outcomes.count(0)
    if wins + losses == n:
        return wins / n, blaker(wins, n, confidence)
    found = tango(wins, losses, n, confidence)
    return mean(outcomes), Interval((1 + found.low) / 2, (1 + found.high) / 2)


def equal_length_win_rate(
    outcomes: Sequence[float],
    length_differences: Sequence[float],
    prompts: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> tuple[float, Interval] | None:
    """Return the win rate to expect if both responses were equally long, and its interval.

    length_differences: our length minus theirs, in any unit; outcomes, prompts: as in `win_rate`.

    A logistic regression by maximum likelihood of the outcomes (a tie is half a win, half a loss,
    0.8 is 0.8 of a win) on an intercept and tanh(difference / its standard deviation); the answer
    is sigmoid(intercept). AlpacaEval 2's length-controlled win rate is another figure: its
    regression has a term for the difficulty of each of its 805 instructions, which was fitted to
    the models of its leaderboard, averages over them, is penalised (L1, strength by
    cross-validation), and is drawn towards answers of its baseline that were made longer and
    shorter. None of this exists for other prompts.

    The interval is Student's t for the intercept with the variance between prompts (sandwich): with
    50 prompts it covered 96% at a rate of 0.5 and 87% at 0.95 in simulations, a bootstrap over
    prompts 92% and 79%.

    None where the regression has no finite answer, or too little to tell it from: fewer than three
    prompts, only wins, only losses, all differences equal, or lengths that separate wins from
    losses. In small samples near 0 or 1 that is often.
    Raises ValueError as `win_rate`.
    """
    import numpy as np

    by_prompt = _by_prompt(outcomes, prompts)
    difference = np.asarray(length_differences, np.float64)
    if len(difference) != len(outcomes):
        raise ValueError(f"{len(difference)} length differences for {len(outcomes)} outcomes")
    outcome = np.asarray(outcomes, np.float64)
    is_told = len(by_prompt) >= 3 and difference.min() < difference.max()
    if not is_told or not _do_overlap(difference[outcome > 0], difference[outcome < 1]):
        return None
    design = np.stack([np.ones(len(outcome)), np.tanh(difference / difference.std(ddof=1))], axis=1)
    weight = np.zeros(len(outcome))
    for members in by_prompt:
        weight[members] = 1 / (len(by_prompt) * len(members))
    intercept, error = _fit_intercept(design, outcome, weight, by_prompt)
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    reach = error * float(stdtrit(len(by_prompt) - 2, (1 + confidence) / 2))
    return _sigmoid(intercept), Interval(_sigmoid(intercept - reach), _sigmoid(intercept + reach))


def _by_prompt(outcomes: Sequence[float], prompts: Sequence[str] | None) -> list[list[int]]:
    """Return the positions of each prompt's outcomes, having checked both."""
    if not outcomes:
        raise ValueError("no outcome to take a win rate of")
    if not all(0 <= outcome <= 1 for outcome in outcomes):
        raise ValueError("an outcome is from 0 (loss) over 0.5 (tie) to 1 (win)")
    if prompts is None:
        return [[index] for index in range(len(outcomes))]
    if len(prompts) != len(outcomes):
        raise ValueError(f"{len(prompts)} prompts for {len(outcomes)} outcomes")
    positions: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        positions.setdefault(prompt, []).append(index)
    return list(positions.values())


def _do_overlap(winning: "Floats", losing: "Floats") -> bool:
    """Whether no length separates wins from losses: else the likelihood has no maximum."""
    return bool(
        len(winning)
        and len(losing)
        and losing.max() > winning.min()
        and winning.max() > losing.min()
    )


def _fit_intercept(
    design: "Floats", outcome: "Floats", weight: "Floats", by_prompt: list[list[int]]
) -> tuple[float, float]:
    """Return the intercept of a weighted logistic regression, and its standard error.

    design: (samples, 2), the intercept's column first. The error is that of prompts as clusters.
    """
    import numpy as np
    from scipy.optimize import minimize  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
    from scipy.special import expit  # pyright: ignore[reportMissingTypeStubs]

    def loss(coefficients: "Floats") -> "tuple[float, Floats]":
        logit = design @ coefficients
        losses = weight * (np.logaddexp(0, logit) - outcome * logit)
        return float(losses.sum()), design.T @ (weight * (expit(logit) - outcome))

    fit = cast("Any", minimize(loss, np.zeros(2), jac=True, method="BFGS", tol=1e-9))
    coefficients: Floats = fit.x
    rate: Floats = expit(design @ coefficients)
    curvature = design.T @ (design * (weight * rate * (1 - rate))[:, None])
    scores = design * (weight * (outcome - rate))[:, None]
    influence = np.array([scores[members].sum(axis=0) for members in by_prompt])
    influence = influence @ np.linalg.inv(curvature)
    n = len(by_prompt)
    return float(coefficients[0]), math.sqrt(float((influence[:, 0] ** 2).sum()) * n / (n - 2))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > 0 else 1 - 1 / (1 + math.exp(logit))
