"""G8: whatever a reward function returns or raises, nothing becomes a number silently.

It is a number, None, which counts and is said, or one line that names the reward.
"""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import PosttrainError
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.terms import function_term
from tests import small_rollouts
from tests.claims.claim import Case, Claim, Outcome, fails
from tests.claims.reward_rows import ERRORS, NO_LISTS, NO_NUMBERS, NUMBER
from tests.unit.rewards.responses import responses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from torch import Tensor


_TEXTS = [f"response {number}" for number in range(NUMBER)]
_MAX_LINE = 1500


def _scores(
    *functions: Callable[..., Any], weights: tuple[float, ...] = (), **settings: Any
) -> Any:
    """Return what the functions give the responses, all the way to scores."""
    names = ["own", "other", "third"]
    terms = [
        function_term(function, name, weight)
        for function, name, weight in zip(
            functions, names, weights or (1.0,) * len(functions), strict=False
        )
    ]
    composition = RewardComposition(terms, **settings)
    rows = responses(*_TEXTS)
    raw = composition.raw(rows)
    return composition.combine(raw, torch.tensor(rows.has_eos), [rows.logged])


def _refused(attempt: Callable[[], Any], named: str = "own") -> Outcome:
    """Expect one line that names the reward."""
    try:
        found = attempt()
    except PosttrainError as error:
        line = str(error)
        if "\n" in line or len(line) > _MAX_LINE or named not in line or error.exit_code != 2:
            return fails(f"it says {line[:300]!r}")
        return Outcome(labels={"refused": 1})
    return fails(f"it is taken: {found}"[:300])


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    async def awaited(**given: Any) -> Any:
        await asyncio.sleep(0)
        return function(**given)

    return awaited


def _number_refused(value: Any, place: int, how: str, _: Path) -> Outcome:
    def reward(**given: Any) -> list[Any]:
        found: list[Any] = [float(number) for number in range(NUMBER)]
        found[place] = value
        return found

    return _refused(lambda: _scores(_awaited(reward) if how == "awaited" else reward))


def _list_refused(made: Callable[[], Any], how: str, _: Path) -> Outcome:
    def reward(**given: Any) -> Any:
        return made()

    return _refused(lambda: _scores(_awaited(reward) if how == "awaited" else reward))


def _error_told(made: Callable[[], BaseException], how: str, _: Path) -> Outcome:
    def reward(**given: Any) -> Any:
        raise made()

    return _refused(lambda: _scores(_awaited(reward) if how == "awaited" else reward))


def _plain(*values: Any) -> Callable[..., Any]:
    return lambda **given: list(values)


def _sums_refused(weights: tuple[float, float], normalise: str, _: Path) -> Outcome:
    """Finite numbers whose sum is none."""
    large = 1e300 if weights[0] < 2 else 1e17
    one, other = _plain(large, 1.0, 2.0, 3.0), _plain(large, 0.0, 0.0, 0.0)
    return _refused(lambda: _scores(one, other, weights=weights, normalise=normalise))


def _none_counted(number: int, normalise: str, _: Path) -> Outcome:
    """Some responses without a reward: they have no score, and are counted."""
    values = [None] * number + [float(place) for place in range(NUMBER - number)]
    if number == NUMBER:
        return _refused(lambda: _scores(_plain(*values), normalise=normalise))
    logging.disable(logging.WARNING)
    try:
        found = _scores(_plain(*values), normalise=normalise)
    finally:
        logging.disable(logging.NOTSET)
    is_right = bool((found.scores.isnan() == torch.tensor([v is None for v in values])).all())
    if not is_right or found.metrics["rewards/own/none"] != number:
        return fails(f"{values} are {found.scores}, {found.metrics}")
    return Outcome(labels={"counted": 1})


def _late(order: list[int], _: Path) -> Outcome:
    """Functions that answer late, in any order, answer for themselves."""

    def late(number: int) -> Callable[..., Any]:
        async def reward(**given: Any) -> list[float]:
            await asyncio.sleep(0.02 * order[number])
            return [float(number + 1)] * NUMBER

        return reward

    found = _scores(*map(late, range(3)), weights=(1.0, 10.0, 100.0))
    expected = torch.full((NUMBER,), 321.0, dtype=torch.float64)
    return Outcome(labels={"late": 1}) if found.scores.equal(expected) else fails(str(found))


def _late_error(is_late: bool, _: Path) -> Outcome:
    async def endless(**given: Any) -> list[float]:
        await asyncio.sleep(100)
        return [0.0] * NUMBER

    async def failing(**given: Any) -> list[float]:
        await asyncio.sleep(0.05 * is_late)
        raise ValueError

    return _refused(lambda: _scores(endless, failing), "other")


def _logged_refused(value: Any, _: Path) -> Outcome:
    def reward(log_metric: Any, **given: Any) -> list[float]:
        log_metric("mine", value)
        return [0.0] * NUMBER

    return _refused(lambda: _scores(reward))


def _trains(returned: Callable[[int, int], Any], is_refused: bool, folder: Path) -> Outcome:
    """Train by PPO with a reward that goes wrong at its second rollout."""
    calls: list[int] = []

    def matches(completion_ids: Any, **given: Any) -> Any:
        calls.append(len(completion_ids))
        good = [len(ids) / 8 for ids in completion_ids]
        return good if len(calls) == 1 else returned(len(good), len(calls))

    before, small_rollouts.matches = small_rollouts.matches, matches
    logging.disable(logging.WARNING)
    try:
        run = small_rollouts.Run("trunk", str(folder / "run"), settings={"max_steps": 12})
        trainer = small_rollouts.trainer_of(run)
        outcome = _refused(trainer.train, "matches") if is_refused else _trained(trainer)
        weights: dict[str, Tensor] = trainer.model.state_dict()
        broken = [name for name, each in weights.items() if not bool(each.isfinite().all())]
        steps = trainer.state.global_step
    finally:
        small_rollouts.matches = before
        logging.disable(logging.NOTSET)
    if broken:
        return fails(f"{broken[:3]} are no numbers")
    if is_refused and steps > small_rollouts.ROLLOUT:
        return fails(f"{steps} steps were made, {small_rollouts.ROLLOUT} of them with good rewards")
    return outcome


def _trained(trainer: Any) -> Outcome:
    trainer.train()
    none = [
        line["rewards/matches/none"]
        for line in trainer.state.log_history
        if "rewards/matches/none" in line
    ]
    return Outcome(labels={"counted": 1}) if none[-1] > 0 else fails(f"None was given {none} times")


_IN_TRAINING: dict[str, tuple[Callable[[int, int], Any], bool]] = {
    "nan": (lambda number, _: [math.nan] * number, True),
    "one infinity": (lambda number, _: [1.0] * (number - 1) + [math.inf], True),
    "a number beyond fp32": (lambda number, _: [1e300] * number, True),
    "texts": (lambda number, _: ["1"] * number, True),
    "one too few": (lambda number, _: [1.0] * (number - 1), True),
    "nothing": (lambda number, _: None, True),
    "an error": (lambda number, _: [1 / 0] * number, True),
    "None for some": (
        lambda number, _: [None] * (number // 2) + [1.0] * (number - number // 2),
        False,
    ),
}


def _cases(random: Random, times: int) -> list[Case]:
    cases = []
    for how in ("plain", "awaited"):
        for name, value in NO_NUMBERS.items():
            for place in (0, NUMBER - 1):
                attempt = partial(_number_refused, value, place, how)
                cases.append(Case(f"{how}, {name} at {place}", attempt))
        cases += [
            Case(f"{how}, {name} for a list", partial(_list_refused, made, how))
            for name, made in NO_LISTS.items()
        ]
        cases += [
            Case(f"{how}, raises {name}", partial(_error_told, made, how))
            for name, made in ERRORS.items()
        ]
    for normalise in ("none", "running", "fixed"):
        for weights in ((1.0, 1.0), (1e10, -1e5)):
            attempt = partial(_sums_refused, weights, normalise)
            cases.append(Case(f"a sum with weights {weights}, {normalise}", attempt))
        for number in range(1, NUMBER + 1):
            attempt = partial(_none_counted, number, normalise)
            cases.append(Case(f"{number} of {NUMBER} None, {normalise}", attempt))
    for number in range(4 * times):
        order = random.sample(range(3), 3)
        cases.append(Case(f"late {number}", partial(_late, order)))
    cases += [Case(f"a late error, {late}", partial(_late_error, late)) for late in (False, True)]
    cases += [
        Case(f"logs {name}", partial(_logged_refused, value))
        for name, value in NO_NUMBERS.items()
        if not (isinstance(value, float) and math.isfinite(value) and type(value) is float)
    ]
    cases += [
        Case(f"in training, {name}", partial(_trains, returned, is_refused))
        for name, (returned, is_refused) in _IN_TRAINING.items()
    ]
    return cases


CLAIM = Claim(
    "G8",
    "what a reward gives is a number, a None that is counted, or one line that names the reward",
    _cases,
    least=250,
    shares={"refused": 0.8},
)
