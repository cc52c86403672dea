"""What the names in a recipe stand for: files, models, outputs of stages.

Resolves and checks names; loads no model and reads no data. Errors are ValueErrors of one line; the
caller, who knows where in the recipe the name stands, adds the place.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel

from pipeline.config.marks import RefersTo
from pipeline.errors import closest
from pipeline.files.names import ADAPTER_CONFIG, ARTIFACT, CONFIG, TOKENIZER, TOKENIZER_CONFIG
from pipeline.files.packages import PACKAGE, package_file
from pipeline.files.plain_files import other_than_a_file

Location = tuple[str | int, ...]
Typed = tuple[Any, tuple[Any, ...]]  # a type and the markers that apply to it

_ROOT = re.compile(r"([A-Za-z][A-Za-z0-9_-]+):(?!//)(.*)", re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HUB_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{,94}[A-Za-z0-9_])?"  # the hub's own limit is 96
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{,199}")
_HUB = re.compile(rf"({_HUB_PART}/{_HUB_PART})(?:@({_REVISION.pattern}))?")
_HUB_DATA = re.compile(rf"{_HUB_PART}(?:/{_HUB_PART})?")  # the oldest have no owner
# In an adapter's properties: the path of its base model, from the artifact's folder.
BASE_FOLDER = "base_folder"
_MODEL_FILES = (CONFIG, ADAPTER_CONFIG)
_TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG)
_NO_BASE = "does not say which model it adapts; save the adapter anew"
_FOLDER = "name the folder that holds the model (a GGUF is taken in by `stage: adopt`, as `gguf:`)"
_MAX_NAME_BYTES = 255
_MAX_PATH_CHARACTERS = 2000


@dataclass(frozen=True)
class Places:
    """Where a recipe's paths lead: base is its folder, roots are its named data folders.

    revisions: commit by hub id, from the recipe's lock; empty until a run has looked them up.
    elsewhere: the second folder to resolve relative paths from: the current folder, for a recipe
    that comes with posttrain. made: the folders of finished stages that make rows, by name.
    """

    base: Path
    roots: Mapping[str, Path] = field(default_factory=dict[str, Path])
    revisions: Mapping[str, str] = field(default_factory=dict[str, str])
    elsewhere: Path | None = None
    made: Mapping[str, Path] = field(default_factory=dict[str, Path])

    def file(self, text: str) -> Path:
        """Return the path for `root:rest`, `package:name/file`, `/absolute`, `~/home` or `file`."""
        if not text or not text.isprintable():
            raise ValueError(f"{text!r} is not a path; write the name of a file or folder")
        if _URL.match(text):
            hint = "write `owner/name`" if "huggingface.co/" in text else "download it first"
            raise ValueError(f"`{text}` is a web address, not a path; {hint}")
        if len(text) > _MAX_PATH_CHARACTERS or any(
            len(name.encode()) > _MAX_NAME_BYTES for name in text.split("/")
        ):
            raise ValueError(f"`{text[:40]}...` is too long for a path")
        rooted = _ROOT.fullmatch(text)
        if rooted:
            return self._below_root(rooted[1], rooted[2])
        path = self.base / _home(text)
        if self.elsewhere is None or path.exists():
            return path
        return self.elsewhere / _home(text)

    def _below_root(self, root: str, rest: str) -> Path:
        if root not in self.roots:
            if root == PACKAGE:
                return package_file(rest)
            known = ", ".join(sorted(self.roots)) or "none"
            hint = closest(root, self.roots) or f"known: {known}; write `./` before a file name"
            raise ValueError(f"there is no root `{root}:`; {hint}")
        if rest.startswith(("/", "~")):
            raise ValueError(f"`{root}:{rest}` begins at another place than its root")
        return self.base / _home(str(self.roots[root])) / rest


@dataclass(frozen=True)
class Reference:
    """`$name` in a stage's config: where it stands, and which kinds of artifact it may name."""

    location: Location
    name: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class StageOutput:
    """The output of a stage in the recipe."""

    name: str


@dataclass(frozen=True)
class LocalModel:
    """A folder with a model, an adapter or a tokenizer in it."""

    path: Path


@dataclass(frozen=True)
class HubModel:
    """A repository on the hub. revision: a branch, tag or commit, as the recipe has it."""

    id: str
    revision: str | None


def stage_references(config: BaseModel) -> list[Reference]:
    """Return every `$name` in fields marked with RefersTo, at any depth, in the fields' order.

    Locations are as in the recipe: aliases as written, indices of lists.
    """
    return list(_in_block(config, ()))


def model_source(
    text: str, places: Places, *, kinds: tuple[str, ...] = ("policy", "tokenizer")
) -> StageOutput | LocalModel | HubModel:
    """Return what `$stage`, a folder, or a hub id `owner/name@revision` stands for.

    kinds: what a folder may hold; a `policy` has a config, a `tokenizer` may stand alone.
    """
    if text.startswith("$"):
        if text == "$":
            raise ValueError("`$` needs the name of a stage after it; write `$NAME`")
        return StageOutput(text[1:])
    path = places.file(text)
    looks_like_path = text.startswith((".", "/", "~")) or _ROOT.fullmatch(text) is not None
    try:
        if looks_like_path or path.is_dir():
            return LocalModel(_model_folder(text, path, kinds))
    except OSError as error:
        raise ValueError(f"`{text}` cannot be read: {error.strerror}") from error
    hub = _HUB.fullmatch(text)
    if hub and not any(run in hub[1] for run in ("--", "..")):
        return HubModel(hub[1], hub[2])
    raise ValueError(
        f"`{text}` is neither a folder nor a hub id; write a stage as `$name`, a folder as "
        "`./name`, a hub model as `owner/name` or `owner/name@revision`"
    )


def dataset_problem(name: str, revision: str | None) -> tuple[str, str, str] | None:
    """Return (the key, what is wrong, what to do) with the hub's name for a data set, or None."""
    if not _HUB_DATA.fullmatch(name) or any(run in name for run in ("--", "..")):
        what = f"`{name}` is no name of a data set on the hub"
        return "hub", what, "write `owner/name`; `file:` is for a file of yours"
    if revision is not None and not _REVISION.fullmatch(revision):
        return "revision", f"`{revision}` is no revision", "write a branch, a tag or a commit"
    return None


def adapter_base(folder: Path) -> LocalModel | HubModel | None:
    """Return the base model that a saved adapter belongs to; None for a folder without an adapter.

    A relative path in the adapter's config starts from the adapter's folder. A stage's adapter
    names only the folder of its base; artifact.json has the path to it.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file() or other_than_a_file(path) is not None:
        return None  # whoever reads the folder says what is wrong with it
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"`{path}` {_NO_BASE}") from error
    if not isinstance(name, str) or not name:
        raise ValueError(f"`{path}` {_NO_BASE}")
    for local in (*_read_recorded_bases(folder), folder / _home(name)):
        if local.is_dir():
            return LocalModel(local.resolve())
    if not _HUB.fullmatch(name):
        raise ValueError(
            f"the model `{name}`, which the adapter `{folder}` belongs to, is gone; put it back"
        )
    return HubModel(name, config.get("revision"))


def _read_recorded_bases(folder: Path) -> list[Path]:
    """Return where the stage that made an adapter, or a critic beside it, had its base model."""
    for artifact in (folder, folder.parent):
        try:
            record = json.loads((artifact / ARTIFACT).read_text(encoding="utf-8"))
            return [artifact / place for place in record["properties"][BASE_FOLDER]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # missing or unreadable: whoever verifies the artifact says what is wrong
    return []


def _home(text: str) -> Path:
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"`{text}`: no such home folder") from error


def _model_folder(text: str, path: Path, kinds: tuple[str, ...]) -> Path:
    if not path.exists():
        raise ValueError(f"there is no folder `{text}`; looked for {path}")
    if not path.is_dir():
        raise ValueError(f"`{text}` is a file; {_FOLDER}")
    expected = (*_MODEL_FILES, *(_TOKENIZER_FILES if "tokenizer" in kinds else ()))
    if not any((path / name).is_file() for name in expected):
        message = f"the folder `{text}` holds no model: it has no {' or '.join(expected)}"
        raise ValueError(f"{message}; name another, or save one there")
    return path


def _in_block(block: BaseModel, location: Location) -> Iterator[Reference]:
    for name, info in type(block).model_fields.items():
        typed = _flatten_union(info.annotation, tuple(info.metadata))
        yield from _in_value(getattr(block, name), list(typed), (*location, info.alias or name))


def _in_value(value: Any, types: list[Typed], location: Location) -> Iterator[Reference]:
    """Yield the references in a value of any of these types."""
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, BaseModel):
        yield from _in_block(value, location)
    elif isinstance(value, str) and value.startswith("$"):
        markers = [marker for _, own in types for marker in own if isinstance(marker, RefersTo)]
        if markers:
            yield Reference(location, value[1:], markers[0].kinds)
    elif isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(cast("list[Any]", value))
    for key, item in items:
        inner = [reference for typed in types for reference in _item_types(typed, key)]
        yield from _in_value(item, inner, (*location, key))


def _item_types(typed: Typed, key: str | int) -> Iterator[Typed]:
    """Yield the types that a container's annotation gives for the item at a key or index."""
    annotation, markers = typed
    arguments = get_args(annotation)
    if not arguments:
        return
    is_fixed = isinstance(key, int) and key < len(arguments) and arguments[-1] is not Ellipsis
    if isinstance(key, str):
        yield from _flatten_union(arguments[-1], markers)
    else:
        yield from _flatten_union(arguments[key if is_fixed else 0], markers)


def _flatten_union(annotation: Any, markers: tuple[Any, ...]) -> Iterator[Typed]:
    """Yield the members of a union with their markers, including those on the whole."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        yield from _flatten_union(inner, (*own, *markers))
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _flatten_union(member, markers)
    else:
        yield annotation, markers
