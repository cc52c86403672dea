"""G10a: recipes drawn at random, as texts and as trees, are planned or refused in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.plan.plan import make
from pipeline.plan.room import check_room
from pipeline.recipe.load import load
from pipeline.store.store import Store
from tests.claims.bad_recipes import GOOD, TEXTS, with_value, written
from tests.claims.claim import Claim
from tests.claims.fuzzing import Reader, fuzzing_cases, mutate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

_TOKENS = (
    *(b"&a ", b"*a", b"<<: ", b"!!python/name:os.system", b"---\n", b"...\n", b"%YAML 1.1\n"),
    *(b"\t", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"{", b"[", b"- ", b"? ", b": ", b"|2\n", b"'"),
    *(b"1e999", b".nan", b"-.inf", b"0x", b"9" * 200, b"~", b"$words", b"$", b"../", b"https://x"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x", "$", "$words", "$base", "../../etc", "/dev/zero", "/proc/kmsg"),
    *(-1, 0, 1, 2, 3, 10**9, 2**31, 2**63, 10**30, 0.5, -0.5, 1e-320, 1e308, float("nan")),
    *([], {}, [[]], [None], ["x"], {"x": 1}, {"a": {"b": []}}, "x" * 300, "\u202e", "1e-4", "a:b"),
)


def _place(random: Random, value: Any) -> Iterator[str]:
    """Yield the parts of a way to somewhere in a tree."""
    while isinstance(value, dict | list) and value:
        if isinstance(value, list):
            key: Any = random.randrange(len(value))
        else:
            key = random.choice(list(value))
        yield str(key)
        value = value[key]
        if random.random() < 0.15:
            return


def _draw(random: Random) -> bytes:
    """Return a good recipe with values of other kinds in it, or with its text damaged; or both."""
    if random.random() < 0.1:
        return mutate(random, random.choice(list(TEXTS.values()))[:20_000], _TOKENS)
    if random.random() < 0.3:
        content = written(GOOD)
    else:
        place = ".".join(_place(random, GOOD))
        if random.random() < 0.3:
            place = f"{place}.{random.choice(('x', 'lora', 'data', 'model', 'r', 'rows', 'form'))}"
        try:
            content = written(with_value(place, random.choice(_VALUES)))
        except (TypeError, ValueError, KeyError, IndexError):  # there is no such place
            content = json.dumps(random.choice(_VALUES)).encode()
    return mutate(random, content, _TOKENS) if random.random() < 0.5 else content


def _read(content: bytes, folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.unlink(missing_ok=True)  # a file emptied and filled again is flushed by ext4
    path.write_bytes(content)
    try:
        plan = make(load(folder / "recipe.yaml"), Store(folder / "runs"))
        check_room(plan)
    except PosttrainError as error:
        line = str(error)
        assert "\n" not in line
        assert line.isprintable()
        assert ": " in line
        raise
    return "planned"


_READER = Reader(_draw, _read, (PosttrainError,))

CLAIM = Claim(
    "G10a",
    "a recipe drawn at random is planned or refused in one line",
    lambda random, times: fuzzing_cases(_READER, random, times),
    least=500,
)
