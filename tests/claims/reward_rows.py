"""What reward functions may return, raise and log that is no number a response."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import fractions
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBER = 4  # responses


class Changing(list[float]):
    """A list that is another one every time it is looked at."""

    def __len__(self) -> int:
        return NUMBER

    def __iter__(self) -> Iterator[float]:
        yield from [1.0] * 9


class Lying(float):
    """A number that says it is another thing."""

    def __float__(self) -> float:
        return "1"  # pyright: ignore[reportReturnType]


class Unprintable(Exception):
    """An exception without words."""

    def __str__(self) -> str:
        raise ValueError


class Apart(BaseException):
    """An exception of a kind that few expect."""


# In place of one of the numbers.
NO_NUMBERS: dict[str, Any] = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "a number beyond floats": 10**400,
    "a fraction beyond floats": fractions.Fraction(10**400),
    "a number beyond fp32": 1e300,
    "a number whose square is beyond fp32": -1e19,
    "a text": "1.0",
    "no text": "",
    "the text nan": "nan",
    "bytes": b"1",
    "a list": [1.0],
    "a tuple": (1.0, 2.0),
    "a dict": {"score": 1.0},
    "an object": object(),
    "a function": math.sqrt,
    "a class": float,
    "a complex number": 1 + 0j,
    "a decimal": decimal.Decimal(1),
    "a time": datetime.timedelta(1),
    "an ellipsis": ...,
    "a number that lies": Lying(1),
    "a tensor of nan": torch.tensor(math.nan),
    "a tensor of infinity": torch.tensor(math.inf, dtype=torch.bfloat16),
    "a tensor of one": torch.tensor([1.0]),
    "a tensor of none": torch.tensor([]),
    "a tensor without content": torch.empty((), device="meta"),
    "a complex tensor": torch.tensor(1j),
    "an array of one": np.array([1.0]),
    "an infinity of numpy": np.float32("inf"),
    "a nan of numpy": np.float64("nan"),
    "a text of numpy": np.str_("1"),
    "a time of numpy": np.datetime64("2024-01-01"),
    "a masked number": np.ma.masked,
    "a future": asyncio.Future(loop=asyncio.new_event_loop()),
}
# In place of the list.
NO_LISTS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "one number": lambda: 1.0,
    "a text of that length": lambda: "1234",
    "bytes of that length": lambda: b"1234",
    "a generator": lambda: (1.0 for _ in range(NUMBER)),
    "a map": lambda: map(float, range(NUMBER)),
    "a range": lambda: range(NUMBER),
    "a set": lambda: {1.0, 2.0, 3.0, 4.0},
    "a dict": lambda: dict.fromkeys(range(NUMBER), 1.0),
    "no numbers": list,
    "one too few": lambda: [1.0] * (NUMBER - 1),
    "one too many": lambda: [1.0] * (NUMBER + 1),
    "a number a token": lambda: [[1.0, 2.0]] * NUMBER,
    "a list in a list": lambda: [[1.0] * NUMBER],
    "a matrix": lambda: torch.ones(NUMBER, 1),
    "a matrix of numpy": lambda: np.ones((NUMBER, 1)),
    "one tensor": lambda: torch.tensor(1.0),
    "a tensor too long": lambda: torch.ones(NUMBER + 1),
    "a tensor of nan": lambda: torch.full((NUMBER,), math.nan),
    "a tensor without content": lambda: torch.ones(NUMBER, device="meta"),
    "a complex tensor": lambda: torch.ones(NUMBER, dtype=torch.complex64),
    "an array of texts": lambda: np.array(["1"] * NUMBER),
    "an array of objects": lambda: np.array([object()] * NUMBER),
    "a list that changes": Changing,
    "a class": lambda: list,
    "a function": lambda: lambda: [1.0] * NUMBER,
}
ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("x\ny"),
    "KeyError": lambda: KeyError("score"),
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "TimeoutError": lambda: TimeoutError("judge.example"),
    "OSError": lambda: OSError(28, "No space left on device"),
    "SystemExit": lambda: SystemExit(0),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "AssertionError": AssertionError,
    "a group": lambda: ExceptionGroup("x", [ValueError()]),
    "a base of its own": Apart,
    "one without words": Unprintable,
    "one with many words": lambda: ValueError("x" * 10_000_000),
    "one of surrogates": lambda: ValueError("\ud800\x1b[2J"),
}
