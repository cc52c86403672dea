"""What the functions of task `code` do: wordings, bodies and what they give. A table, not a task.

A family is one kind of function with blanks: {x} and {y} are its parameters, {k} and {j} its
constants. Those that put a value and a step together are in code_compositions.py.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Takes = Literal["number", "two numbers", "list", "word"]
Constant = int | str
Argument = int | str | list[int]
Value = bool | int | str | list[int]
Arguments = tuple[Argument, ...]


@dataclass(frozen=True, eq=False)
class Family:
    """One kind of function.

    names: of such functions. says: completes the docstring `Return ...`. body: its lines, not yet
    indented. run: what it gives for arguments and constants. constants: that it may have.
    arguments: draws arguments that are telling for these constants.
    """

    takes: Takes
    names: tuple[str, ...]
    says: str
    body: str
    run: Callable[..., Value]
    constants: Sequence[tuple[Constant, ...]]
    arguments: Callable[[random.Random, tuple[Constant, ...]], Arguments]


def letters(rng: random.Random, size: int) -> str:
    """Return a word of few different letters."""
    return "".join(rng.choice("abcd") for _ in range(size))


def _numbers_around(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
    """Return a list of numbers below, at and above the constant."""
    k = int(constants[-1])
    around = (k - 1, k, k, k + 1, k + rng.randint(1, 20), rng.randint(0, k))
    return (rng.sample(around, rng.randint(2, 5)),)


def _number_around(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
    numbers = [k for k in constants if isinstance(k, int)]
    k = rng.choice(numbers)
    return (rng.choice((k - 1, k, k + 1, k + rng.randint(1, 60), rng.randint(0, k), 4 * k)),)


def _longer_list(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
    return ([rng.randint(0, 60) for _ in range(int(constants[0]) + rng.randint(1, 4))],)


def _longer_word(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
    return (letters(rng, int(constants[0]) + rng.randint(1, 4)),)


def _word(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
    return (letters(rng, rng.randint(2, 4)),)


def _word_of_them(rng: random.Random, constants: tuple[Constant, ...]) -> Arguments:
    """Return a word in which the constants occur, often at an end of it."""
    parts = [str(constant) for constant in constants] + [letters(rng, 1), str(constants[0])]
    return ("".join(rng.sample(parts, rng.randint(1, len(parts)))),)


_NUMBERS = [(k,) for k in range(2, 61)]
_SMALL = [(k,) for k in range(2, 16)]
_LETTERS = "abcdefghijklmnoprstuwy"
_ONE_LETTER = [(letter,) for letter in _LETTERS]
_TWO_LETTERS = [(one, other) for one in _LETTERS for other in _LETTERS if one != other]
_ENDS = [(one + other,) for one in "abdefglmnrst" for other in "aeinorst" if one != other]
_LABELS = (("big", "small"), ("high", "low"), ("hot", "cold"), ("old", "young"), ("yes", "no"))


def _above(numbers: list[int], k: int) -> list[int]:
    return [number for number in numbers if number > k]


def _below(numbers: list[int], k: int) -> list[int]:
    return [number for number in numbers if number < k]


def _halved(number: int, k: int) -> int:
    while number > k:
        number //= 2
    return number


_LISTS = (
    Family(
        "list",
        ("add_each", "raise_all"),
        "the elements of {x}, each plus {k}",
        "return [n + {k} for n in {x}]",
        lambda x, k: [n + k for n in x],
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("scale_each", "scale_all"),
        "the elements of {x}, each times {k}",
        "return [n * {k} for n in {x}]",
        lambda x, k: [n * k for n in x],
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("keep_large", "above"),
        "the elements of {x} greater than {k}",
        "return [n for n in {x} if n > {k}]",
        _above,
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("keep_small", "below"),
        "the elements of {x} less than {k}",
        "return [n for n in {x} if n < {k}]",
        _below,
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("count", "how_often"),
        "how often {k} occurs in {x}",
        "return {x}.count({k})",
        lambda x, k: x.count(k),
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("contains", "has"),
        "whether {k} occurs in {x}",
        "return {k} in {x}",
        lambda x, k: k in x,
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("append", "extend"),
        "{x} with {k} at the end",
        "return {x} + [{k}]",
        lambda x, k: [*x, k],
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "list",
        ("first", "start"),
        "the first {k} elements of {x}",
        "return {x}[:{k}]",
        lambda x, k: x[:k],
        _SMALL,
        _longer_list,
    ),
    Family(
        "list",
        ("smallest", "lowest"),
        "the smallest {k} elements of {x} in order",
        "return sorted({x})[:{k}]",
        lambda x, k: sorted(x)[:k],
        _SMALL,
        _longer_list,
    ),
)
_WORDS = (
    Family(
        "word",
        ("repeat", "copies"),
        "{x} repeated {k} times",
        "return {x} * {k}",
        lambda x, k: x * k,
        _SMALL,
        _word,
    ),
    Family(
        "word",
        ("shout", "call"),
        "{x} in upper case, repeated {k} times",
        "return {x}.upper() * {k}",
        lambda x, k: x.upper() * k,
        _SMALL,
        _word,
    ),
    Family(
        "word",
        ("start", "prefix"),
        "the first {k} characters of {x}",
        "return {x}[:{k}]",
        lambda x, k: x[:k],
        _SMALL,
        _longer_word,
    ),
    Family(
        "word",
        ("end", "suffix"),
        "the last {k} characters of {x}",
        "return {x}[-{k}:]",
        lambda x, k: x[-k:],
        _SMALL,
        _longer_word,
    ),
    Family(
        "word",
        ("ends", "has_ending"),
        'whether {x} ends with "{k}"',
        'return {x}.endswith("{k}")',
        lambda x, k: x.endswith(k),
        _ENDS,
        _word_of_them,
    ),
    Family(
        "word",
        ("begins", "has_start"),
        'whether {x} starts with "{k}"',
        'return {x}.startswith("{k}")',
        lambda x, k: x.startswith(k),
        _ENDS,
        _word_of_them,
    ),
    Family(
        "word",
        ("append", "extend"),
        '{x} with "{k}" at the end',
        'return {x} + "{k}"',
        lambda x, k: x + k,
        _ENDS,
        _word_of_them,
    ),
    Family(
        "word",
        ("count", "how_often"),
        'how often "{k}" occurs in {x}',
        'return {x}.count("{k}")',
        lambda x, k: x.count(k),
        _ONE_LETTER,
        _word_of_them,
    ),
    Family(
        "word",
        ("replace", "change"),
        '{x} with "{j}" replaced by "{k}"',
        'return {x}.replace("{j}", "{k}")',
        lambda x, j, k: x.replace(j, k),
        _TWO_LETTERS,
        _word_of_them,
    ),
)
STATEMENTS = _LISTS + _WORDS

SEVERAL_LINES = (
    Family(
        "number",
        ("cap", "limit"),
        "{x}, but at most {k}",
        "if {x} > {k}:\n    return {k}\nreturn {x}",
        min,
        _NUMBERS,
        _number_around,
    ),
    Family(
        "number",
        ("floor", "lift"),
        "{x}, but at least {k}",
        "if {x} < {k}:\n    return {k}\nreturn {x}",
        max,
        _NUMBERS,
        _number_around,
    ),
    Family(
        "number",
        ("clamp", "bound"),
        "{x}, but at least {j} and at most {k}",
        "if {x} < {j}:\n    return {j}\nif {x} > {k}:\n    return {k}\nreturn {x}",
        lambda x, j, k: min(max(x, j), k),
        [(j, k) for j in range(2, 30) for k in range(j + 5, 61, 3)],
        _number_around,
    ),
    Family(
        "number",
        ("distance", "gap"),
        "the distance of {x} from {k}",
        "if {x} > {k}:\n    return {x} - {k}\nreturn {k} - {x}",
        lambda x, k: abs(x - k),
        _NUMBERS,
        _number_around,
    ),
    *(
        Family(
            "number",
            ("label", "describe"),
            f'"{yes}" if {{x}} is greater than {{k}}, else "{no}"',
            f'if {{x}} > {{k}}:\n    return "{yes}"\nreturn "{no}"',
            lambda x, k, yes=yes, no=no: yes if x > k else no,
            _NUMBERS,
            _number_around,
        )
        for yes, no in _LABELS
    ),
    Family(
        "number",
        ("halve", "shrink"),
        "{x}, halved until it is at most {k}",
        "while {x} > {k}:\n    {x} = {x} // 2\nreturn {x}",
        _halved,
        _NUMBERS,
        _number_around,
    ),
    Family(
        "number",
        ("grow", "climb"),
        "{x} with {j} added {k} times",
        "for _ in range({k}):\n    {x} = {x} + {j}\nreturn {x}",
        lambda x, j, k: x + j * k,
        [(j, k) for j in range(2, 30) for k in range(2, 16) if j != k],
        _number_around,
    ),
    *(
        Family(
            "list",
            names,
            f"{what} elements of {{x}} {adjective} than {{k}}",
            f"total = 0\nfor n in {{x}}:\n    if n {sign} {{k}}:\n"
            f"        total += {n}\nreturn total",
            lambda x, k, reduce=reduce, keep=keep: reduce(keep(x, k)),
            _NUMBERS,
            _numbers_around,
        )
        for what, n, reduce, names in (
            ("the sum of the", "n", sum, ("add_up", "total_of")),
            ("the number of", "1", len, ("count_up", "number_of")),
        )
        for adjective, sign, keep in (("greater", ">", _above), ("less", "<", _below))
    ),
    *(
        Family(
            "list",
            ("find", "search"),
            f"the first element of {{x}} {adjective} than {{k}}, else 0",
            f"for n in {{x}}:\n    if n {sign} {{k}}:\n        return n\nreturn 0",
            lambda x, k, keep=keep: (keep(x, k) or [0])[0],
            _NUMBERS,
            _numbers_around,
        )
        for adjective, sign, keep in (("greater", ">", _above), ("less", "<", _below))
    ),
    Family(
        "list",
        ("skip", "leave_out"),
        "the elements of {x} that are not {k}",
        "kept = []\nfor n in {x}:\n    if n != {k}:\n        kept.append(n)\nreturn kept",
        lambda x, k: [n for n in x if n != k],
        _NUMBERS,
        _numbers_around,
    ),
    Family(
        "word",
        ("count_both", "tally"),
        'how many letters of {x} are "{j}" or "{k}"',
        'total = 0\nfor c in {x}:\n    if c == "{j}" or c == "{k}":\n'
        "        total += 1\nreturn total",
        lambda x, j, k: x.count(j) + x.count(k),
        _TWO_LETTERS,
        _word_of_them,
    ),
)
