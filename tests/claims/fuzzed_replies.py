"""G10c: replies of a box, drawn, and read as the trainer and the judge of tests read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reward.boxes import judge, values
from reward.sandbox import answer_of
from reward.verifiers.code import same
from tests.claims.claim import Case, Claim
from tests.claims.fuzzing import Reader, fuzzing_cases, mutate
from tests.unit.reward.hostile_replies import REFUSED, TAKEN

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_CONTAINERS = ("tuple", "deque", "dict", "tuple", "set", "frozenset")
_TAGS = (
    *(*_CONTAINERS, "complex", "bytes", "bytearray", "range"),
    *("type", "object", "name", "value", "raised", ""),
)
_ATOMS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, -2, 2**61 - 1, 2**63, 10**300, 10**4000),
    *(0.0, -0.0, 1.5, float("nan"), float("inf"), 1e308),
    *("", "a", "int", "ff", "\ud800", "\U0001f600", "\n\x1b[2J", "StopIteration", "x" * 3000),
    *({"complex": [1.0, float("nan")]}, {"bytes": "ff"}, {"bytearray": ""}, {"range": [0, 9, 2]}),
    *({"type": "int"}, {"set": []}, {"dict": []}, {"object": [1, "Node"]}),
)
_TOKENS = (
    *(json.dumps({tag: []}).encode() for tag in _TAGS),
    *(b"[", b"]", b"{", b"}", b",", b'"', b"\\ud800", b"NaN", b"1e999", b"-", b"0" * 5000),
    *(b'{"range": [0, 1000000000000, 1]}', b"[" * 1000, b"2305843009213693951,", b"\xff", b"\x00"),
)
_SAMPLES = tuple(
    reply.encode("utf-8", "surrogatepass")
    for reply in (*REFUSED.values(), *TAKEN.values())
    if len(reply) < 20_000
)


def draw(random: Random) -> bytes:
    """Return a reply: one of the known ones, changed, or a value of any tags, perhaps changed."""
    if random.random() < 0.4:
        return mutate(random, random.choice(_SAMPLES), _TOKENS)
    kind = random.choice(("value", "value", "value", "raised", "other"))
    reply = json.dumps({kind: _drawn(random, random.choice((1, 3, 8)))}).encode()
    return mutate(random, reply, _TOKENS) if random.random() < 0.3 else reply


def read(reply: bytes, _: Path) -> str:
    """Read a reply as each of its readers does; what one takes holds no more than the text."""
    answer = answer_of(reply, values.Budget())
    assert len(answer.error) <= 200
    assert answer.error.isprintable()
    judged = _judged(reply)
    if answer.error:
        return judged
    written = values.dumps(answer.value)
    assert len(written) <= 4 * len(reply) + 100, f"{len(written)} bytes of {len(reply)}"
    repr(answer.value)
    assert same(answer.value, values.loads(written))
    return "value"


def _judged(reply: bytes) -> str:
    program = judge._Program(_Replying(reply), takes_stops=False)
    try:
        program.ask({"get": []})
    except judge.NoAnswer:
        return "refused"
    except Exception as error:
        if b'"raised"' not in reply or isinstance(error, StopIteration):
            raise
        return "exception"
    return "value for the judge alone"


class _Replying:
    """A box that gives one reply."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def ask(self, _: bytes) -> bytes:
        return self._reply


def _drawn(random: Random, size: int) -> Any:
    """Return JSON data of about so many levels and a few elements in each."""
    if size == 0 or random.random() < 0.2:
        return random.choice(_ATOMS)
    items = [_drawn(random, size - 1) for _ in range(random.choice((0, 1, 1, 2, 2, 3)))]
    form = random.randint(0, 19)
    if form < 5:
        return items
    if form > 17:
        tag = random.choice(_TAGS)
        return {tag: _drawn(random, size - 1), **({"set": [1]} if form == 19 else {})}
    tag = random.choice(_CONTAINERS)
    if tag == "dict":
        return {tag: [[_drawn(random, random.choice((0, 1))), item] for item in items]}
    return {tag: items}


def _cases(random: Random, times: int) -> list[Case]:
    return fuzzing_cases(Reader(draw, read, (), input_s=3.0), random, times)


CLAIM = Claim(
    "G10c",
    "no reply of a box, drawn, raises, takes long, or is read as more than it holds",
    _cases,
    least=20_000,
    shares={"value": 0.15, "refused": 0.15},
)
