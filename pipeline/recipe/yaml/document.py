"""A recipe file as plain values with their places in the file, and `--set` applied to them.

Reading YAML is in parser.py; what the values mean is not known here (config/).
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pipeline.errors import PosttrainError
from pipeline.files.plain_files import other_than_a_file
from pipeline.recipe.yaml.parser import MAX_BYTES, MAX_DEPTH, Location, Parsed, Position, parse
from pipeline.text.values import name_kind, shorten

_FIELD_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class Document:
    """A recipe as written.

    positions: the 1-based line and column of the key, by location; for a list's item, which has no
        key, where the item begins.
    value_positions: where an entry's value begins, unless it is a block below its key.
    overridden: the option of `--set` that wrote a location, by location.
    written: the document before sweeps were written out as stages; None where that is this one.
    """

    path: Path
    value: dict[str, Any]
    positions: Mapping[Location, Position]
    value_positions: Mapping[Location, Position] = field(default_factory=dict[Location, Position])
    overridden: Mapping[Location, str] = field(default_factory=dict[Location, str])
    written: "Document | None" = None

    def where(self, location: Sequence[str | int] = (), *, key: bool = False) -> str:
        """Return `file:line:column` of a value, of its key, or of the nearest ancestor's key.

        Takes pydantic's locations: skips parts that name a member of a union, and the index 0 of a
        list of one item that was written without brackets.
        """
        option = self.overridden.get(self._existing(location)[0])
        return option or _place(_quote(self.path), self.position(location, key=key))

    def position(self, location: Sequence[str | int] = (), *, key: bool = False) -> Position:
        """Return the line and column that `where` names; (0, 0) for what `--set` wrote."""
        existing, is_whole = self._existing(location)
        if existing in self.overridden:
            return (0, 0)
        position = self.positions.get(existing, (1, 1))
        return self.value_positions.get(existing, position) if is_whole and not key else position

    def _existing(self, location: Sequence[str | int]) -> tuple[Location, bool]:
        """Return the part of a location that exists, and whether that is all of it."""
        existing: Location = ()
        value: Any = self.value
        for part in location:
            if _has(value, part):
                value = value[part]
                existing = (*existing, part)
            elif _is_missing_field(part, value):
                return existing, False
        return existing, True


def read(path: Path) -> Document:
    """Read a recipe; PosttrainError, with its place, for a fault in the file or its text."""
    shown = _quote(path)
    parsed = parse(_text(path, shown), lambda position: _place(shown, position))
    if parsed.value is None:
        where = _place(shown, (1, 1))
        raise PosttrainError(where, "the file is empty", "a recipe has `name:` and `stages:`")
    if not isinstance(parsed.value, dict):
        where = _place(shown, parsed.positions[()])
        message = (
            f"a recipe is a mapping with `name:` and `stages:`, this is {name_kind(parsed.value)}"
        )
        raise PosttrainError(where, message, "write `key: value` lines")
    return Document(path, parsed.value, parsed.positions, parsed.value_positions)


def read_plain(path: Path) -> Any:
    """Read a YAML file that is not a recipe, such as Accelerate's; PosttrainError as in `read`."""
    shown = _quote(path)
    return parse(_text(path, shown), lambda position: _place(shown, position)).value


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """Return a new document with every `a.b.0.c=value` applied, in order."""
    value = copy.deepcopy(document.value)
    positions, value_positions = dict(document.positions), dict(document.value_positions)
    overridden = dict(document.overridden)
    for text in overrides:
        label, keys, new = _override(text)
        location, created = assign(value, keys, new.value, label)
        for table in (positions, value_positions, overridden):
            for old in [old for old in table if old[: len(location)] == location]:
                del table[old]
        below = [location + inner for inner in new.positions]
        overridden.update(dict.fromkeys((*created, location, *below), label))
    return Document(document.path, value, positions, value_positions, overridden)


def _is_missing_field(part: str | int, value: Any) -> bool:
    """Whether a part that is not a key of a mapping is nevertheless the name of a field.

    The tag of a union looks like one too, but the mapping has it as the value of a field.
    """
    if not isinstance(part, str) or not isinstance(value, dict):
        return False
    return _FIELD_NAME.fullmatch(part) is not None and part not in value.values()


def _override(text: str) -> tuple[str, list[str], Parsed]:
    """Read `a.b=value`: the option as errors show it, the keys, and the value."""
    name, equals, raw = text.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(key and key.isprintable() for key in keys):
        hint = "write `--set stages.NAME.FIELD=VALUE`"
        raise PosttrainError(f"--set {shorten(text)}", "this is not of the form a.b=value", hint)
    label = f"--set {shorten('.'.join(keys))}"
    new = parse(raw, lambda _: label)
    if new.is_block:
        hint = "write a list as `[a, b]`, a mapping as `{a: b}`, and quote a text with `: ` in it"
        raise PosttrainError(label, f"the value is {name_kind(new.value)} without brackets", hint)
    if len(keys) + max(map(len, new.positions), default=0) > MAX_DEPTH:
        raise PosttrainError(label, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
    return label, keys, new


def has_place(root: Any, keys: Sequence[str]) -> bool:
    """Whether a dotted key, as `assign` reads it, has a value already."""
    container: Any = root
    rest = list(keys)
    while rest:
        if not isinstance(container, dict | list):
            return False
        try:
            part, rest = _next(container, rest, (), "")
        except PosttrainError:  # no such item
            return False
        if not _has(container, part):
            return False
        container = cast("Any", container)[part]
    return True


def assign(
    root: dict[str, Any], keys: list[str], new: Any, label: str
) -> tuple[Location, list[Location]]:
    """Put a value into the tree; return its location and those of mappings made on the way.

    keys: of mappings, or indices of lists. label: where an error says that it is.
    """
    location: Location = ()
    created: list[Location] = []
    container: Any = root
    rest = keys
    while True:
        part, rest = _next(container, rest, location, label)
        location = (*location, part)
        if not rest:
            container[part] = new
            return location, created
        if not _has(container, part):
            created.append(location)
            container[part] = {}
        elif container[part] is None:
            container[part] = {}
        container = container[part]


def _next(
    container: Any, keys: list[str], location: Location, label: str
) -> tuple[str | int, list[str]]:
    """Return the dict key or list index that the first keys make here, and the remaining keys.

    A key with dots in it, such as a stage `sft.v2`, is preferred to a shorter one.
    """
    if isinstance(container, dict):
        lengths = range(len(keys), 1, -1)
        taken = next((n for n in lengths if ".".join(keys[:n]) in container), 1)
        return ".".join(keys[:taken]), keys[taken:]
    shown = shorten(".".join(map(str, location)))
    if not isinstance(container, list):
        message = f"`{shown}` is {name_kind(container)}, not a mapping"
        raise PosttrainError(label, message, "set it as a whole")
    size, index = len(cast("list[Any]", container)), keys[0]
    if not (index.isascii() and index.isdigit() and len(index) < 6 and int(index) < size):
        message = f"`{shown}` has no item `{shorten(index)}`"
        hint = f"count from 0 to {size - 1}" if size else "it is empty; set it as a whole"
        raise PosttrainError(label, message, hint)
    return int(index), keys[1:]


def _has(container: Any, part: str | int) -> bool:
    if isinstance(container, list):
        size = len(cast("list[Any]", container))
        return isinstance(part, int) and 0 <= part < size
    return isinstance(container, dict) and part in container


def _text(path: Path, shown: str) -> str:
    try:
        problem = other_than_a_file(path)
        if problem is not None:
            is_folder = path.is_dir()
            hint = "name the recipe file in it" if is_folder else "save the recipe as a file"
            what = "a folder" if is_folder else f"not a regular file: {problem}"
            raise PosttrainError(shown, f"this is {what}", hint)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise PosttrainError(shown, "no such file", "check the recipe's path") from error
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise PosttrainError(shown, message, "check the path and its permissions") from error
    except ValueError as error:
        message = "a file name cannot contain a NUL byte"
        raise PosttrainError(shorten(shown), message, "check the recipe's path") from error
    if len(content) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES:,} bytes"
        raise PosttrainError(_place(shown, (1, 1)), message, "is this a recipe?")
    return _decode(content, shown)


def _decode(content: bytes, shown: str) -> str:
    hint = "save the file as UTF-8 text"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PosttrainError(_place(shown, (1, 1)), "the file is UTF-16", hint)
    first_nul = content.find(b"\0")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong, message = error.start, f"byte 0x{content[error.start]:02x} is not UTF-8"
    else:
        if first_nul < 0:
            return text
        wrong, message = first_nul, "the file contains a NUL byte"
    line_start = content.rfind(b"\n", 0, wrong) + 1
    column = len(content[line_start:wrong].decode("utf-8-sig", "replace")) + 1
    raise PosttrainError(_place(shown, (content.count(b"\n", 0, wrong) + 1, column)), message, hint)


def _quote(path: Path) -> str:
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def _place(shown: str, position: Position) -> str:
    return f"{shown}:{position[0]}:{position[1]}"
