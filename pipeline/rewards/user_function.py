"""Calls a user's reward function as TRL would, and names its line if it fails.

Sync or async. Judges not what the function returns (composition.py does), and awaits nothing
(event_loop.py does).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from numbers import Real
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.config.reward_signature import HANDED_TO_REWARDS
from pipeline.config.user_errors import UserErrors
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from transformers import TrainerState

    from pipeline.rewards.responses import Responses

TERM_METRICS = ("mean", "std", "n", "none")


def as_finite(value: Any) -> float:
    """Return a number as a float; ValueError says what else it is: "nan", "a value of type x"."""
    kind = f"a value of type {type(value).__name__}"
    try:
        if isinstance(value, torch.Tensor | np.generic) and value.ndim == 0:
            value = value.item()
        if not isinstance(value, Real):
            raise ValueError(kind)  # noqa: TRY004
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, RuntimeError, AttributeError) as error:  # a tensor without content, a class
        raise ValueError(kind) from error
    if not math.isfinite(number):
        raise ValueError(str(number))
    return number


class UserFunction:
    """A reward function as the `score` of a term."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function

    @property
    def is_async(self) -> bool:
        """Whether a call only begins with the work, which is done where it is awaited."""
        call = getattr(self.function, "__call__", None)  # noqa: B004  its own, not whether it has one
        return any(inspect.iscoroutinefunction(callee) for callee in (self.function, call))

    def __call__(self, responses: Responses, state: TrainerState | None) -> Any:
        """Return what the function returns; PosttrainError for whatever it raises.

        Of an async function: something to await, with the same result and the same errors.
        """
        for column in HANDED_TO_REWARDS:
            if column in responses.columns:
                message = f"the prompts have a column `{column}`, a name that is taken"
                raise PosttrainError(f"reward `{self.name}`", message, "rename the column")
        logs = _Logs(self.name, responses)
        with _user_errors(self.name):
            # Copies: a function that sorts a list in place must not change what is trained on.
            result = self.function(
                prompts=copy.deepcopy(list(responses.prompts)),
                completions=copy.deepcopy(list(responses.completions)),
                completion_ids=copy.deepcopy(list(responses.completion_ids)),
                **copy.deepcopy(responses.handed),
                trainer_state=state,
                log_extra=logs.extra,
                log_metric=logs.metric,
            )
        return self._await(result) if inspect.isawaitable(result) else result

    async def _await(self, result: Awaitable[Any]) -> Any:
        with _user_errors(self.name):
            return await result


class _Logs:
    """What a function logs of the responses it was called with."""

    def __init__(self, name: str, responses: Responses) -> None:
        self._where = f"reward `{name}`"
        self._responses = responses

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """Keep a value a response, for the samples."""
        values, expected = list(values), len(self._responses)
        if len(values) != expected:
            message = f"logged {len(values)} values of `{column}` for {expected} responses"
            raise PosttrainError(self._where, message)
        self._responses.logged.columns[column] = values

    def metric(self, name: str, value: float) -> None:
        """Keep a number, for the metrics."""
        try:
            number = as_finite(value)
        except ValueError as error:
            raise PosttrainError(
                self._where, f"logged {error} as `{name}`", "log a number"
            ) from error
        if name in TERM_METRICS:
            message = f"logged a metric `{name}`, a name that is taken"
            raise PosttrainError(self._where, message, "rename it")
        self._responses.logged.metrics.setdefault(name, []).append(number)


def _user_errors(name: str) -> UserErrors:
    """Return what makes of whatever a user's function raises one PosttrainError."""
    return UserErrors(
        tell=lambda line: PosttrainError(f"reward `{name}`", line),
        place=_place,
        is_theirs=_is_theirs,
    )


def _is_theirs(error: BaseException) -> bool:
    if isinstance(error, asyncio.CancelledError):
        return not _is_cancelled()
    return not isinstance(error, PosttrainError | KeyboardInterrupt)


def _is_cancelled() -> bool:
    """Whether somebody else wants the running task to end, because another reward has failed."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop is running here
        return False
    return task is not None and task.cancelling() > 0


def _place(error: BaseException) -> str:
    """Return `file.py:line` of the user's own code, however deep in a library it went wrong."""
    frames = list(walk_tb(error.__traceback__))
    ours = [frame.f_globals.get("__name__") == __name__ for frame, _ in frames]
    theirs = frames[len(ours) - ours[::-1].index(True) :]
    if not theirs:  # the call itself failed: an argument is missing
        return ""
    path = theirs[0][0].f_code.co_filename
    line = [line for frame, line in theirs if frame.f_code.co_filename == path][-1]
    return f"{Path(path).name}:{line}"
