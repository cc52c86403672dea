"""Inside a box: runs an untrusted program, then calls what it defined, as it is asked to.

Nothing here is safe from the program, which shares the process: replies are claims. What they are
worth is decided by a process that the program cannot reach (reward/sandbox.py, judge.py), and no
expected value ever comes here.
"""

import json
import random
import sys
from types import ModuleType
from typing import Any

from reward.boxes import values
from reward.boxes.channel import MAX_MESSAGE_BYTES, NONCE_BYTES, Answering

_MAX_WORDS = 300


def serve_program(request: dict[str, Any], channel: Answering) -> None:
    """Answer requests, the first of which is the program, until nobody asks any more."""
    random.seed(0)  # the same program gives the same answers
    program = _Program()
    while True:
        channel.send(program.reply(request))
        request = json.loads(channel.receive())


class _Program:
    """The names a program defined, and the objects of it that others hold references to."""

    def __init__(self) -> None:
        # A module of its own, so that dataclasses, pickle and typing find it; not `__main__`, so
        # that a main block, which may wait for input, does not run.
        self._module = ModuleType("program")
        sys.modules["program"] = self._module
        self._objects: list[object] = []

    def reply(self, request: dict[str, Any]) -> bytes:
        """Do what is asked; return the value, or what was raised, as JSON."""
        try:
            reply = json.dumps({"value": values.encode(self._done(request), self._refer)}).encode()
        except BaseException as error:  # noqa: BLE001 - a program may raise anything, SystemExit too
            return raised(error)
        return limited(reply)

    def _done(self, request: dict[str, Any]) -> object:
        match request:
            case {"program": source}:
                exec(compile(source, "<program>", "exec"), vars(self._module))  # noqa: S102
                return None
            case {"call": called, "arguments": arguments, "keywords": keywords}:
                given = values.decode(arguments, self._resolve, values.unlimited())
                named = values.decode(keywords, self._resolve, values.unlimited())
                return self._resolve(called)(*given, **named)
            case {"get": [owner, name]}:
                return getattr(self._resolve(owner), name)
            case {"set": [owner, name, value]}:
                given = values.decode(value, self._resolve, values.unlimited())
                setattr(self._resolve(owner), name, given)
                return None
            case {"list": iterable}:
                return list(self._resolve(iterable))
            case _:
                raise ValueError("unknown request")

    def _resolve(self, reference: dict[str, Any]) -> Any:
        match reference:
            case {"name": name}:
                if name not in vars(self._module):
                    raise NameError(f"the program defines no `{name}`")
                return vars(self._module)[name]
            case {"object": [number, _]}:
                return self._objects[number]
            case _:
                raise ValueError("unknown reference")

    def _refer(self, value: object) -> dict[str, Any]:
        self._objects.append(value)
        return {"object": [len(self._objects) - 1, type(value).__name__]}


def raised(error: BaseException) -> bytes:
    """Return the reply that stands for an exception: the name of its class, and its words."""
    try:
        words = str(error)
    except BaseException:  # noqa: BLE001 - the exception's class is the program's as well
        words = ""
    return json.dumps({"raised": [type(error).__name__, words[:_MAX_WORDS]]}).encode()


def limited(reply: bytes) -> bytes:
    """Return the reply, or an exception instead of one that is too long to be read."""
    if len(reply) <= MAX_MESSAGE_BYTES - NONCE_BYTES:
        return reply
    return raised(OverflowError(f"the result is longer than {MAX_MESSAGE_BYTES} bytes"))
