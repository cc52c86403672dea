"""YAML text as plain values, with their lines and columns; knows neither files nor recipes.

YAML 1.2 core schema for unquoted values: `1e-4` is a number, `no` and `12:30:00` are text, `012` is
twelve. Refused, because they hide what a text says: duplicate keys, keys that are not text, tags,
merge keys, several documents. Built on PyYAML's events instead of its constructor, which reads YAML
1.1, forgets positions and recurses into hostile nesting.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.error import Mark, MarkedYAMLError
from yaml.reader import ReaderError

from pipeline.errors import PosttrainError
from pipeline.text.values import name_kind, shorten

MAX_BYTES = 1_000_000
MAX_VALUES = 10_000
MAX_DEPTH = 40
MAX_NUMBER_CHARACTERS = 100  # int() is quadratic in the digits, and fails above 4,300 of them

Location = tuple[str | int, ...]
Position = tuple[int, int]
At = Callable[[Position], str]
Plain = dict[str, Any] | list[Any] | str | int | float | None

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONSTANT: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# (what PyYAML says, what we say, what to do, whether the cause is where the construct began)
_SYNTAX = (
    ("could not find expected ':'", "this line has no `:` after its key", "write `k: v`", True),
    (
        "mapping values are not allowed",
        "a `:` is not allowed here",
        "quote a text that contains `: `, or check the indentation",
        False,
    ),
    (
        "sequence entries are not allowed",
        "a list item is not allowed here",
        "begin the list on a line of its own",
        False,
    ),
    ("quoted scalar: found unexpected (end|doc)", "this quote is never closed", "close it", True),
    ("double-quoted", "this escape is unknown", "write `\\\\` for a backslash", False),
    (
        "an (alias|anchor): ",
        "`*` and `&` begin an alias or an anchor",
        "quote a text that begins with one",
        True,
    ),
    (" tag", "tags (`!...`) are not allowed", "quote a text that begins with `!`", True),
    ("<block end>, but found ':'", "a key is missing before this `:`", "write `k: v`", False),
    ("<block end>.*<scalar>", "a text goes on after its quotes", "quote all of it", False),
    (
        "<block end>",
        "this does not continue what stands above it",
        "check the indentation and the brackets",
        False,
    ),
    ("<document start>", "this belongs to no document", "delete the `...` or `%` above it", False),
    ("expected the node content", "a value is missing before this", "write or quote it", False),
)
_NO_CHARACTER = re.compile(r"[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Parsed:
    """What a text says.

    positions: the 1-based line and column of the key, by location; for a list's item, which has no
        key, where the item begins.
    value_positions: where an entry's value begins, unless it is a block below its key.
    is_block: whether the whole value is a list or mapping written without brackets.
    """

    value: Plain
    positions: dict[Location, Position]
    value_positions: dict[Location, Position]
    is_block: bool


def parse(text: str, at: At) -> Parsed:
    """Read one document, None if it is empty; errors are PosttrainErrors at `at(position)`."""
    builder = _Builder(at)
    try:
        loader: Any = yaml.SafeLoader(text)
    except ReaderError as error:
        before = text[: error.position]
        position = before.count("\n") + 1, error.position - before.rfind("\n")
        message = f"control character U+{ord(text[error.position]):04X} in the text"
        raise PosttrainError(at(position), message, "delete it") from error
    while True:
        try:
            if not loader.check_event():
                break
            event: yaml.Event = loader.get_event()
        except MarkedYAMLError as error:
            raise _syntax_error(error, at) from error
        except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", `%YAML 1.` with 5,000 digits
            where = at(_position(loader.get_mark()))
            raise PosttrainError(where, "this number is too large", "correct it") from error
        builder.take(event)
    is_block = bool(builder.nodes) and _is_block(builder.nodes[0])
    return Parsed(builder.value, builder.positions, builder.value_positions, is_block)


@dataclass
class _Open:
    """A collection that has not ended yet. key: of the entry whose value comes next."""

    container: dict[str, Any] | list[Any]
    location: Location
    key: str | None = None


class _Builder:
    """Builds values from events, iteratively: the text's depth is never the stack's depth."""

    def __init__(self, at: At) -> None:
        self.value: Plain = None
        self.positions: dict[Location, Position] = {}
        self.value_positions: dict[Location, Position] = {}
        self.nodes: list[yaml.Event] = []  # as added, aliases written out
        self._at = at
        self._open: list[_Open] = []
        self._anchors: dict[str, int] = {}  # where in `nodes` the anchored one begins
        self._taken = yaml.Event()  # what is being added, or the alias that stands for it
        self._num_values = 0
        self._num_characters = 0

    def take(self, event: yaml.Event) -> None:
        self._taken = event
        if isinstance(event, yaml.DocumentStartEvent) and self.nodes:
            raise self._error(event, "a second document begins here", "one recipe a file")
        if isinstance(event, yaml.AliasEvent):
            for anchored in self._resolve_alias(event):
                self._add(anchored)
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor is not None:
                self._anchors[str(event.anchor)] = len(self.nodes)
            self._add(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._add(event)

    def _resolve_alias(self, alias: yaml.AliasEvent) -> list[yaml.Event]:
        name = str(alias.anchor)
        shown = shorten(name)
        if self._awaits_key():
            raise self._error(alias, "an alias cannot be a key", "write the key out")
        if name not in self._anchors:
            hint = "quote a text that begins with `*`"
            raise self._error(alias, f"the alias `*{shown}` has no `&{shown}` before it", hint)
        start, depth = self._anchors[name], 0
        for end, event in enumerate(self.nodes[start:], start + 1):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return self.nodes[start:end]
        raise self._error(alias, f"the alias `*{shown}` contains itself", "write it out")

    def _add(self, event: yaml.Event) -> None:
        self.nodes.append(event)
        if isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            hint = "quote a text that begins with `!`"
            raise self._error(event, "tags (`!...`) are not allowed", hint)
        elif isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
            if self._awaits_key():
                self._key(event, value)
            else:
                self._put(event, value)
        elif self._awaits_key():
            raise self._error(event, "a key must be text, not a collection", "quote it")
        else:
            self._put(event, {} if isinstance(event, yaml.MappingStartEvent) else [])

    def _scalar(self, event: yaml.ScalarEvent) -> Plain:
        text: str = event.value
        if event.style:
            if _NO_CHARACTER.search(text):
                hint = "write the character itself"
                raise self._error(event, "an escape names NUL or half a character", hint)
            return text
        is_integer = _INTEGER.fullmatch(text) is not None
        if is_integer or _FLOAT.fullmatch(text):
            if len(text) > MAX_NUMBER_CHARACTERS:
                raise self._error(event, "this number is too long", "quote it if it is text")
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            return int(text, base) if is_integer else float(text)
        if _NOT_FINITE.fullmatch(text):
            return float(text.replace(".", ""))
        return _CONSTANT.get(text, text)

    def _key(self, event: yaml.ScalarEvent, key: Plain) -> None:
        top, text = self._open[-1], shorten(event.value)
        if not event.style and key == "<<":
            raise self._error(event, "merge keys (`<<`) are not allowed", "write the keys out")
        if not isinstance(key, str):
            hint = f'quote it: "{text}"' if text else "write a key before the `:`"
            raise self._error(event, f"the key `{text}` is {name_kind(key)}, not text", hint)
        location = (*top.location, key)
        if location in self.positions:
            message = f"the key `{text}` is already in line {self.positions[location][0]}"
            raise self._error(event, message, "keep one of them")
        top.key = key
        self.positions[location] = _position(event.start_mark)

    def _put(self, event: yaml.Event, value: Plain) -> None:
        """Add a value where the next one belongs, and open it if it is a collection."""
        self._num_values += 1
        self._num_characters += len(value) if isinstance(value, str) else 0
        if self._num_values > MAX_VALUES or self._num_characters > MAX_BYTES:
            limit = f"{MAX_VALUES:,} values or {MAX_BYTES:,} characters"
            raise self._error(self._taken, f"more than {limit}, aliases written out", "write less")
        top = self._open[-1] if self._open else None
        location: Location = ()
        if top is None:
            self.value = value
            self.positions[location] = _position(event.start_mark)
        elif isinstance(top.container, list):
            location = (*top.location, len(top.container))
            top.container.append(value)
            self.positions[location] = _position(event.start_mark)
        elif top.key is not None:
            location = (*top.location, top.key)
            top.container[top.key] = value
            top.key = None
            if not _is_block(event):
                self.value_positions[location] = _position(event.start_mark)
        if isinstance(value, dict | list):
            if len(self._open) == MAX_DEPTH:
                message = f"nested deeper than {MAX_DEPTH} levels"
                raise self._error(self._taken, message, "flatten it")
            self._open.append(_Open(value, location))

    def _awaits_key(self) -> bool:
        top = self._open[-1] if self._open else None
        return top is not None and isinstance(top.container, dict) and top.key is None

    def _error(self, event: yaml.Event, message: str, hint: str) -> PosttrainError:
        return PosttrainError(self._at(_position(event.start_mark)), message, hint)


def _is_block(event: yaml.Event) -> bool:
    """Whether this is a collection without brackets: its place is then that of its key."""
    return isinstance(event, yaml.CollectionStartEvent) and not event.flow_style


def _position(mark: Mark) -> Position:
    return mark.line + 1, mark.column + 1


def _syntax_error(error: MarkedYAMLError, at: At) -> PosttrainError:
    """Say in a user's words what PyYAML stumbled over, and where its cause is."""
    gave_up = _position(error.problem_mark) if error.problem_mark else (1, 1)
    began = _position(error.context_mark) if error.context_mark else gave_up
    complaint = f"{error.context}: {error.problem}"
    if match := re.search(r"character '(.*)' that cannot start", complaint):
        if match[1] == "\\t":
            return PosttrainError(at(gave_up), "a tab is not allowed here", "use spaces")
        return PosttrainError(at(gave_up), f"a value cannot begin with {match[1]}", "quote it")
    if match := re.search(r"parsing a flow .*'([]}])', but got", complaint):
        if "<stream end>" in complaint:
            return PosttrainError(
                at(began), f"the bracket is never closed with {match[1]}", "close it"
            )
        message = f"the bracket of line {began[0]} goes on here without a comma or {match[1]}"
        return PosttrainError(at(gave_up), message, "close it, or quote the text")
    for sign, message, hint, is_where_it_began in _SYNTAX:
        if re.search(sign, complaint):
            return PosttrainError(at(began if is_where_it_began else gave_up), message, hint)
    return PosttrainError(at(gave_up), f"this is not YAML: {error.problem}", "correct or quote it")
