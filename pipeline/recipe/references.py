"""What the names in a recipe stand for: files, models, other stages, a user's own code.

Resolves and checks names; loads no model and reads no data. Errors are ValueErrors of one line, to
which the caller, who knows where in the recipe the name stands, adds the place.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import walk_tb
from types import CodeType, ModuleType, TracebackType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel

from pipeline.errors import closest
from pipeline.recipe.config import RefersTo
from pipeline.recipe.plain_files import COPY_IT, other_than_a_file

Location = tuple[str | int, ...]
Typed = tuple[Any, tuple[Any, ...]]  # a type and the markers that apply to it

_ROOT = re.compile(r"([A-Za-z][A-Za-z0-9_-]+):(?!//)(.*)", re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HUB_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{,94}[A-Za-z0-9_])?"  # the hub's own limit is 96
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{,199}")
_HUB = re.compile(rf"({_HUB_PART}/{_HUB_PART})(?:@({_REVISION.pattern}))?")
_HUB_DATA = re.compile(rf"{_HUB_PART}(?:/{_HUB_PART})?")  # the oldest have no owner
# Of an adapter's properties: where the whole model below is, from the artifact's folder.
BASE_FOLDER = "base_folder"
_MODEL_FILES = ("config.json", "adapter_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_MAX_NAME_BYTES = 255
_MAX_IDENTIFIER = 60
_MAX_PATH_CHARACTERS = 2000


@dataclass(frozen=True)
class Places:
    """Where a recipe's paths lead: base is its folder, roots are its named data folders.

    revisions: commit by hub id, from the recipe's lock; empty before a run has looked them up.
    """

    base: Path
    roots: Mapping[str, Path] = field(default_factory=dict[str, Path])
    revisions: Mapping[str, str] = field(default_factory=dict[str, str])

    def file(self, text: str) -> Path:
        """Return the path for `root:rest`, `/absolute`, `~/home` or one relative to the recipe."""
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
        return self.base / _home(text)

    def _below_root(self, root: str, rest: str) -> Path:
        if root not in self.roots:
            known = ", ".join(sorted(self.roots)) or "none"
            hint = closest(root, self.roots) or f"known: {known}; write `./` before a file name"
            raise ValueError(f"there is no root `{root}:`; {hint}")
        if rest.startswith(("/", "~")):
            raise ValueError(f"`{root}:{rest}` begins at another place than its root")
        return self.base / _home(str(self.roots[root])) / rest


@dataclass(frozen=True)
class Reference:
    """`$name` in a stage's config: where, and which kinds of artifact it may stand for."""

    location: Location
    name: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class StageOutput:
    """What another stage of the recipe makes."""

    name: str


@dataclass(frozen=True)
class LocalModel:
    """A folder with a model, an adapter or a tokenizer in it."""

    path: Path


@dataclass(frozen=True)
class HubModel:
    """A repository on the hub; revision: as the recipe gives it, a branch, tag or commit."""

    id: str
    revision: str | None


def stage_references(config: BaseModel) -> list[Reference]:
    """Return every `$name` in fields marked with RefersTo, at any depth, in the fields' order.

    Locations are those of the recipe: aliases as written, indices of lists.
    """
    return list(_in_block(config, ()))


def model_source(
    text: str, places: Places, *, kinds: tuple[str, ...] = ("policy", "tokenizer")
) -> StageOutput | LocalModel | HubModel:
    """Return what `$stage`, a folder, or a hub id `owner/name@revision` stands for.

    kinds: what a folder may hold; a `policy` has a config, a `tokenizer` may be alone.
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
    """Return the whole model that a saved adapter belongs to; None for a folder without adapter.

    A relative path in the adapter's config is meant from the adapter's folder. An adapter that a
    stage made of a folder's model names that folder only; where it is stands in artifact.json.
    """
    path = folder / "adapter_config.json"
    if not path.is_file() or other_than_a_file(path) is not None:
        return None  # what else it is says whoever reads the folder
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"`{path}` does not say which model it adapts; save the adapter anew"
        ) from error
    if not isinstance(name, str) or not name:
        raise ValueError(f"`{path}` does not say which model it adapts; save the adapter anew")
    for local in (*_recorded_bases(folder), folder / _home(name)):
        if local.is_dir():
            return LocalModel(local.resolve())
    if not _HUB.fullmatch(name):
        raise ValueError(
            f"the model `{name}`, which the adapter `{folder}` belongs to, is gone; put it back"
        )
    return HubModel(name, config.get("revision"))


def _recorded_bases(folder: Path) -> list[Path]:
    """Return where the stage that made an adapter, or a critic beside it, had the model below."""
    for artifact in (folder, folder.parent):
        try:
            record = json.loads((artifact / "artifact.json").read_text(encoding="utf-8"))
            return [artifact / place for place in record["properties"][BASE_FOLDER]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # none is there, or it says nothing: whoever verifies it names what is wrong
    return []


def load_object(text: str, base: Path) -> Any:
    """Return the object that `module:attribute` names.

    base: the recipe's folder. A file there goes before an installed module, and is loaded by its
    path under a private name: a user's `reward.py` never stands for our package. Whatever the
    module raises becomes a ValueError.
    """
    module_name, attribute = _parts(text)
    path = object_source(text, base)
    file = _own_file(module_name, base)
    missing = object()
    with _UserCode(text, base, path):
        module = import_module(module_name) if file is None else _loaded(file)
        found = getattr(module, attribute, missing)
    if found is missing:
        public = [name for name in vars(module) if not name.startswith("_")]
        hint = closest(attribute, public) or f"it has {', '.join(sorted(public)[:10]) or 'nothing'}"
        raise ValueError(f"`{text}`: the module has no `{attribute}`; {hint}")
    return found


def object_source(text: str, base: Path) -> Path | None:
    """Return the file of `module:attribute`, importing nothing; None if it has no source."""
    module_name, _ = _parts(text)
    file = _own_file(module_name, base)
    if file is not None:
        return file
    spec = _installed(module_name)
    if spec is None:
        shown = f"{module_name.replace('.', '/')}.py"
        hint = closest(module_name, (path.stem for path in base.glob("*.py")))
        hint = hint or "check the name"
        looked = f"no file {shown} beside the recipe, no installed module `{module_name}`"
        raise ValueError(f"`{text}`: {looked}; {hint}")
    is_source = spec.has_location and (spec.origin or "").endswith(".py")
    return Path(str(spec.origin)) if is_source else None


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
        raise ValueError(f"`{text}` is a file; name the folder that holds the model")
    wanted = (*_MODEL_FILES, *(_TOKENIZER_FILES if "tokenizer" in kinds else ()))
    if not any((path / name).is_file() for name in wanted):
        message = f"the folder `{text}` holds no model: it has no {' or '.join(wanted)}"
        raise ValueError(f"{message}; name another, or save one there")
    return path


def _in_block(block: BaseModel, location: Location) -> Iterator[Reference]:
    for name, info in type(block).model_fields.items():
        typed = _flattened(info.annotation, tuple(info.metadata))
        yield from _in_value(getattr(block, name), list(typed), (*location, info.alias or name))


def _in_value(value: Any, types: list[Typed], location: Location) -> Iterator[Reference]:
    """Yield the references in a value that has one of some types."""
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
        inner = [found for typed in types for found in _item_types(typed, key)]
        yield from _in_value(item, inner, (*location, key))


def _item_types(typed: Typed, key: str | int) -> Iterator[Typed]:
    """Yield what a container's type says of the item at a key or index."""
    annotation, markers = typed
    arguments = get_args(annotation)
    if not arguments:
        return
    is_fixed = isinstance(key, int) and key < len(arguments) and arguments[-1] is not Ellipsis
    if isinstance(key, str):
        yield from _flattened(arguments[-1], markers)
    else:
        yield from _flattened(arguments[key if is_fixed else 0], markers)


def _flattened(annotation: Any, markers: tuple[Any, ...]) -> Iterator[Typed]:
    """Yield the members of a union, each with the markers on it and on what it stands in."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        yield from _flattened(inner, (*own, *markers))
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _flattened(member, markers)
    else:
        yield annotation, markers


def _parts(text: str) -> tuple[str, str]:
    module, colon, attribute = text.partition(":")
    names = [*module.split("."), attribute]
    is_named = all(name.isidentifier() and len(name) <= _MAX_IDENTIFIER for name in names)
    if not colon or not is_named:
        raise ValueError(
            f"`{text}` is not of the form `module:name`; write `a.b:c` for c in a/b.py"
        )
    return module, attribute


def _own_file(module: str, base: Path) -> Path | None:
    path = base.joinpath(*module.split(".")).with_suffix(".py")
    other = other_than_a_file(path)
    if other is not None and not path.is_dir():
        raise ValueError(f"`{path.name}` is {other}, not a file; {COPY_IT}")
    return path if path.is_file() else None


def _installed(module: str) -> ModuleSpec | None:
    """Find an installed module without importing its parents, as find_spec("a.b") would."""
    first, *rest = module.split(".")
    try:
        spec = find_spec(first)
    except ValueError:  # a module made by hand, such as __main__
        return None
    for name in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    return spec


class _Uncached(SourceFileLoader):
    """Reads the source each time: no __pycache__ beside a recipe, none that a quick edit leaves."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _loaded(path: Path) -> ModuleType:
    """Load a user's file once for each content it has."""
    identity = str(path.resolve()).encode() + b"\0" + path.read_bytes()
    name = f"_posttrain_user_{hashlib.sha256(identity).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    is_whole = False
    try:
        spec.loader.exec_module(module)
        is_whole = True
    finally:
        if not is_whole:
            del sys.modules[name]
    return module


@dataclass(frozen=True)
class _UserCode:
    """Makes of whatever a user's module raises one ValueError that names the line."""

    text: str
    base: Path
    path: Path | None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception | SystemExit):
            return
        said = " ".join(str(error).split())
        if isinstance(error, SyntaxError):
            place, said = f"{Path(error.filename or '?').name}:{error.lineno}", error.msg
        else:
            place = self._place(error)
        message = f"`{self.text}` cannot be imported: {place}: {type(error).__name__}: {said}"
        if isinstance(error, ModuleNotFoundError) and self._is_beside(error.name or ""):
            message += "; files beside a recipe cannot import each other: make one file of them"
        raise ValueError(message) from error

    def _place(self, error: BaseException) -> str:
        if self.path is None:
            return "its module"
        frames = walk_tb(error.__traceback__)
        lines = [line for frame, line in frames if frame.f_code.co_filename == str(self.path)]
        return f"{self.path.name}:{lines[-1]}" if lines else self.path.name

    def _is_beside(self, module: str) -> bool:
        return _own_file(module, self.base) is not None if module else False
