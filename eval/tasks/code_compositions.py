"""Functions of one line that do one thing with one value: `the sum of {x}`, then `plus {k}`.

Each of a few values goes with each of a few steps, so that a model can put together what it has
seen apart. The second half of the table in code_families.py.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from eval.tasks.code_families import Arguments, Constant, Family, Takes, letters


@dataclass(frozen=True)
class _Part:
    """A value of the parameters; make: draws arguments for which it is the given number."""

    takes: Takes
    says: str
    body: str
    run: Callable[..., int]
    make: Callable[[random.Random, int], Arguments]
    largest: int = 60  # constant that it is compared or calculated with


@dataclass(frozen=True)
class _Step:
    """What is done to a value {a} with a constant {k}."""

    names: tuple[str, ...]
    says: str
    body: str
    run: Callable[[int, int], bool | int]


def _around(rng: random.Random, number: int) -> int:
    return number + rng.randint(1, 9)


def _list_with(rng: random.Random, number: int, pick: Callable[..., int]) -> list[int]:
    """Return three numbers of which `pick` gives the one asked for."""
    while True:
        numbers = [number, *(max(0, number + rng.randint(-9, 9)) for _ in range(2))]
        rng.shuffle(numbers)
        if pick(numbers) == number and numbers[0] != numbers[-1]:
            return numbers


def _summing_to(rng: random.Random, number: int) -> list[int]:
    first, second = rng.randint(0, 9), rng.randint(0, 9)
    return [first, number - first - second, second]


def _first(numbers: list[int]) -> int:
    return numbers[0]


def _last(numbers: list[int]) -> int:
    return numbers[-1]


_PARTS = (
    _Part("number", "{x}", "{x}", lambda x: x, lambda rng, t: (t,)),
    _Part(
        "two numbers",
        "the larger of {x} and {y}",
        "max({x}, {y})",
        max,
        lambda rng, t: rng.choice(((t, t - rng.randint(1, 9)), (t - rng.randint(1, 9), t))),
    ),
    _Part(
        "two numbers",
        "the smaller of {x} and {y}",
        "min({x}, {y})",
        min,
        lambda rng, t: rng.choice(((t, _around(rng, t)), (_around(rng, t), t))),
    ),
    _Part(
        "two numbers",
        "the product of {x} and {y}",
        "{x} * {y}",
        lambda x, y: x * y,
        lambda rng, t: rng.choice(((t, 1), (1, t), (2, t))),
    ),
    _Part("list", "the sum of {x}", "sum({x})", sum, lambda rng, t: (_summing_to(rng, t),)),
    _Part(
        "list",
        "the length of {x}",
        "len({x})",
        len,
        lambda rng, t: ([rng.randint(0, 60) for _ in range(max(1, t))],),
        largest=12,
    ),
    _Part(
        "list",
        "the largest element of {x}",
        "max({x})",
        max,
        lambda rng, t: (_list_with(rng, t, max),),
    ),
    _Part(
        "list",
        "the smallest element of {x}",
        "min({x})",
        min,
        lambda rng, t: (_list_with(rng, t, min),),
    ),
    _Part(
        "list",
        "the first element of {x}",
        "{x}[0]",
        _first,
        lambda rng, t: (_list_with(rng, t, _first),),
    ),
    _Part(
        "list",
        "the last element of {x}",
        "{x}[-1]",
        _last,
        lambda rng, t: (_list_with(rng, t, _last),),
    ),
    _Part(
        "word",
        "the length of {x}",
        "len({x})",
        len,
        lambda rng, t: (letters(rng, t),),
        largest=12,
    ),
)
_STEPS = (
    _Step(("add", "increase"), "{a}, plus {k}", "{a} + {k}", lambda a, k: a + k),
    _Step(("subtract", "decrease"), "{a}, minus {k}", "{a} - {k}", lambda a, k: a - k),
    _Step(("multiply", "scale"), "{a}, times {k}", "{a} * {k}", lambda a, k: a * k),
    _Step(("missing", "left"), "{k} minus {a}", "{k} - {a}", lambda a, k: k - a),
    _Step(
        ("is_more", "is_large"), "whether {a} is greater than {k}", "{a} > {k}", lambda a, k: a > k
    ),
    _Step(("is_less", "is_small"), "whether {a} is less than {k}", "{a} < {k}", lambda a, k: a < k),
    _Step(
        ("reaches", "is_enough"), "whether {a} is at least {k}", "{a} >= {k}", lambda a, k: a >= k
    ),
    _Step(("is_same", "matches"), "whether {a} is equal to {k}", "{a} == {k}", lambda a, k: a == k),
    _Step(
        ("divides", "is_multiple"),
        "whether {a} is divisible by {k}",
        "{a} % {k} == 0",
        lambda a, k: a % k == 0,
    ),
)


def _composed(part: _Part, step: _Step) -> Family:
    # `x, plus 3` reads oddly; `the sum of x, plus 3` says what is added to what.
    says = step.says if " " in part.says else step.says.replace("{a},", "{a}")

    def run(*given: int) -> bool | int:
        return step.run(part.run(*given[:-1]), given[-1])

    def arguments(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
        k = int(constants[0])
        target = rng.choice((k - 1, k, k, k + 1, 2 * k, rng.randint(1, k + 9)))
        return part.make(rng, min(target, part.largest * 2))

    return Family(
        part.takes,
        step.names,
        says.replace("{a}", part.says),
        "return " + step.body.replace("{a}", part.body),
        run,
        [(k,) for k in range(2, part.largest + 1)],
        arguments,
    )


COMPOSITIONS = tuple(_composed(part, step) for part in _PARTS for step in _STEPS)
