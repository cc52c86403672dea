"""Inside a box: runs test code whose subject, the program, lives in another box.

The tests never meet the program: a name that they use and do not define is a `Remote`, every call
of which goes to the program's box, and back come plain values. So the program can neither see nor
change the tests, and `==` here is that of builtin types.
"""

import builtins
import json
import random
import sys
from traceback import walk_tb
from types import FunctionType
from typing import Any

from reward.boxes import values
from reward.boxes.channel import READY, Answering, Asking, Ended

_MAX_LINE = 100


class ProgramError(Exception):
    """The program raised an exception of its own."""


class NoAnswer(BaseException):
    """The program's box wrote nonsense. No Exception: code under test must not catch it."""


def judge(request: dict[str, Any], parent: Answering, box: Asking) -> None:
    """Run tests on a program and report `[status, reason]`, as reward/sandbox.py reads them.

    request: `program`, `tests`, `given` and `entry_point`, as of `reward.sandbox.run_tests`.
    """
    random.seed(0)
    try:
        if box.hello() == READY:
            takes_stops = "StopIteration" in request["tests"]
            status, reason = _judged(request, _Program(box, takes_stops=takes_stops))
        else:
            status, reason = "infrastructure", "the box of the program did not start"
    except Ended:
        status, reason = "died", ""
    except NoAnswer as error:
        status, reason = "no reply", str(error)
    parent.send(json.dumps([status, reason]).encode())


def _judged(request: dict[str, Any], program: "_Program") -> tuple[str, str]:
    tests, entry_point = request["tests"], request["entry_point"]
    names = _Names(program)
    try:
        code = compile(tests, "<tests>", "exec")
        exec(compile(request["given"], "<given>", "exec"), names)  # noqa: S102
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the tests' fault
        return "broken", f"the tests cannot be run: {type(error).__name__}: {error}"
    if entry_point:
        names[entry_point] = Remote(program, {"name": entry_point})
    try:
        program.load(request["program"])
    except Exception as error:  # noqa: BLE001 - a program may raise anything
        return "failed", _described(error)
    try:
        exec(code, names)  # noqa: S102
        if entry_point and isinstance(names.get("check"), FunctionType):
            names["check"](names[entry_point])
    except AssertionError as error:
        return "failed", f"{_line(error, tests)} does not hold"
    except (Ended, NoAnswer):
        raise
    except BaseException as error:  # noqa: BLE001 - what a wrong value leads to cannot be listed
        return "failed", f"{_line(error, tests)} raises {_described(error)}"
    program.require_alive()
    return ("finished", "") if program.is_asked else ("broken", "the tests ask the program nothing")


def _described(error: BaseException) -> str:
    return str(error) if isinstance(error, ProgramError) else f"{type(error).__name__}: {error}"


def _line(error: BaseException, tests: str) -> str:
    numbers = [
        number
        for frame, number in walk_tb(error.__traceback__)
        if frame.f_code.co_filename == "<tests>"
    ]
    if not numbers:
        return "a test"
    line = tests.split("\n")[numbers[-1] - 1].strip()
    return f"`{line}`" if len(line) <= _MAX_LINE else f"`{line[:_MAX_LINE]}...`"


class _Names(dict[str, Any]):
    """The tests' names; one that nobody defined is the program's."""

    def __init__(self, program: "_Program") -> None:
        super().__init__(__name__="tests")
        self._program = program

    def __missing__(self, name: str) -> object:
        if name in vars(builtins):
            return vars(builtins)[name]
        return Remote(self._program, {"name": name})


class _Program:
    """The program, as seen from here: requests and replies.

    takes_stops: whether its StopIterations are what they are called, see `_error`.
    """

    def __init__(self, box: Asking, *, takes_stops: bool) -> None:
        self._box = box
        self._budget = values.Budget()
        self._takes_stops = takes_stops
        self._failure: Ended | NoAnswer | None = None
        self.is_asked = False

    def load(self, source: str) -> None:
        """Run the program's source. Raises what it raises."""
        self.ask({"program": source})
        self.is_asked = False

    def ask(self, request: dict[str, Any]) -> Any:
        """Return the value that comes back, or raise the exception."""
        self.is_asked = True
        message = json.dumps(request).encode()
        try:
            value, error = self._read(values.parse(self._box.ask(message), self._budget))
        except Ended as ended:
            self._failure = ended
            raise
        except ValueError as nonsense:
            self._failure = NoAnswer(str(nonsense))
            raise self._failure from nonsense
        if error is not None:
            raise error
        return value

    def require_alive(self) -> None:
        """Raise what went wrong with an answer, even if the tests caught it."""
        if self._failure is not None:
            raise self._failure

    def _read(self, reply: Any) -> tuple[Any, Exception | None]:
        match reply:
            case {"value": value}:
                return values.decode(value, self._remote, self._budget), None
            case {"raised": [str(name), str(words)]}:
                return None, _error(name, words, takes_stops=self._takes_stops)
            case _:
                raise ValueError("neither a value nor an exception")

    def _remote(self, reference: dict[str, Any]) -> object:
        match reference:
            case {"object": [int(), str()]}:  # never a name: `math` here is the tests' own module
                return Remote(self, reference)
            case _:
                return values.unknown(reference)


class Remote:
    """Something in the program's box: a function by its name, or an object it returned.

    Equal to nothing but itself. Attributes of a name that is a module's are the module's own:
    `math.pi` in tests means what it says, whatever the program calls `math`.
    """

    def __init__(self, program: _Program, reference: dict[str, Any]) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_reference", reference)

    def __call__(self, *arguments: object, **keywords: object) -> Any:
        """Call it over there. Raises TypeError for an argument that cannot go there."""
        return self._program.ask(
            {
                "call": self._reference,
                "arguments": values.encode(list(arguments), _referred),
                "keywords": values.encode(keywords, _referred),
            }
        )

    def __getattr__(self, name: str) -> Any:
        module = sys.modules.get(self._reference.get("name", ""))
        if module is not None:
            return getattr(module, name)
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask({"get": [self._reference, name]})

    def __setattr__(self, name: str, value: object) -> None:
        self._program.ask({"set": [self._reference, name, values.encode(value, _referred)]})

    def __iter__(self) -> Any:
        return iter(self._program.ask({"list": self._reference}))

    def __bool__(self) -> bool:
        raise TypeError("an object of the program is neither true nor false")


def _referred(value: object) -> dict[str, Any]:
    if isinstance(value, Remote):
        return object.__getattribute__(value, "_reference")
    raise TypeError(f"the tests pass a {type(value).__name__}, which cannot leave their box")


def _error(name: str, words: str, *, takes_stops: bool) -> Exception:
    """Return the builtin exception of that name, so that tests can expect it, or a ProgramError.

    A StopIteration is a ProgramError unless the tests speak of it: in `all(map(check, pairs))` it
    would end the pairs, and what was not checked would hold.
    """
    kind = vars(builtins).get(name)
    if kind is StopIteration and not takes_stops:
        return ProgramError(f"{name}: {words}")
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(words)
        except TypeError:  # UnicodeDecodeError takes five arguments
            pass
    return ProgramError(f"{name}: {words}")
