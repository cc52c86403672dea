"""A user's own code: `module:name` in a file beside the recipe, or in an installed package.

A file beside the recipe is loaded by its path, under a private name, so that a user's `reward.py`
or `eval.py` is never mistaken for our package, or the reverse. Such files import one another as if
they were run as scripts, through an `__import__` of their own; sys.path stays as it is. Errors are
ValueErrors of one line; the caller, who knows the place in the recipe, adds it.
"""

import ast
import builtins
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import walk_tb
from types import CodeType, ModuleType
from typing import Any

from pipeline.config.user_errors import UserErrors
from pipeline.errors import closest
from pipeline.files.plain_files import COPY_IT, other_than_a_file

_MAX_IDENTIFIER = 60
_OURS = Path(__file__).parents[2]
_PACKAGES = ("eval", "pipeline", "reward")


def load_object(text: str, base: Path) -> Any:
    """Return the object that `module:attribute` names.

    base: the recipe's folder. A file there takes precedence over an installed module. Whatever the
    module raises becomes a ValueError.
    """
    module_name, attribute = _parts(text)
    path = object_source(text, base)
    file = _own_file(module_name, base)
    missing = object()
    errors = UserErrors(
        tell=lambda line: ValueError(f"`{text}` cannot be imported: {line}"),
        place=lambda error: _place(error, path, base),
        is_theirs=lambda error: isinstance(error, Exception | SystemExit),
    )
    with errors:
        module = import_module(module_name) if file is None else _load_file(file, base)
        user_object = getattr(module, attribute, missing)
    if user_object is missing:
        raise no_such_name(text, "the module", vars(module))
    return user_object


def object_source(text: str, base: Path) -> Path | None:
    """Return the file of `module:attribute`, importing nothing; None if it has no source."""
    module_name, _ = _parts(text)
    file = _own_file(module_name, base)
    if file is not None:
        return file
    spec = _find_installed(module_name)
    if spec is None:
        shown = f"{module_name.replace('.', '/')}.py"
        hint = closest(module_name, (path.stem for path in base.glob("*.py")))
        hint = hint or "check the name"
        looked = f"no file {shown} beside the recipe, no installed module `{module_name}`"
        raise ValueError(f"`{text}`: {looked}; {hint}")
    is_source = spec.has_location and (spec.origin or "").endswith(".py")
    return Path(str(spec.origin)) if is_source else None


def no_such_name(text: str, module: str, names: Iterable[str]) -> ValueError:
    """Return the error for a `module:name` that is not among the `names` of the module."""
    public = sorted(name for name in names if not name.startswith("_"))
    name = text.rpartition(":")[2]
    hint = closest(name, public) or f"it has {', '.join(public[:10]) or 'nothing'}"
    return ValueError(f"`{text}`: {module} has no `{name}`; {hint}")


def files_beside(source: Path, base: Path) -> dict[str, Path]:
    """Return the files beside a recipe that a file there imports, and they in turn, by their path.

    They are part of a fingerprint. Runs nothing; a file that cannot be parsed imports nothing.
    """
    root = base.resolve()
    files: set[Path] = set()
    waiting = [source] if source.resolve().is_relative_to(root) else []
    while waiting:
        for imported in _find_imported_files(waiting.pop(), base):
            if imported not in files and imported.resolve() != source.resolve():
                files.add(imported)
                waiting.append(imported)
    return {str(path.relative_to(root)): path for path in sorted(files)}


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
    actual = other_than_a_file(path)
    if actual is not None and not path.is_dir():
        raise ValueError(f"`{path.name}` is {actual}, not a file; {COPY_IT}")
    return path if path.is_file() else None


def _find_installed(module: str) -> ModuleSpec | None:
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
    """Reads the source every time: leaves no __pycache__, and reads none that an edit outdates."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(path: Path, base: Path) -> ModuleType:
    """Load a user's file, once per content of it and of the files that it imports."""
    digest = hashlib.sha256()
    for file in (path.resolve(), *files_beside(path, base).values()):
        digest.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
    name = f"_posttrain_user_{digest.hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(path, base)}
    sys.modules[name] = module  # dataclasses and pickle look their module up
    is_whole = False
    try:
        spec.loader.exec_module(module)
        is_whole = True
    finally:
        if not is_whole:
            del sys.modules[name]
    return module


def _importer(file: Path, base: Path) -> Callable[..., Any]:
    """Return the `__import__` of a user's file: files beside the recipe first, then the usual."""

    def import_(
        name: str,
        globals_: Mapping[str, Any] | None = None,
        locals_: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        own = _find_named_files(name, fromlist or (), level, file, base)
        if not own:
            return builtins.__import__(name, globals_, locals_, fromlist or (), level)
        modules = {names: _load_file(path, base) for names, path in own.items()}
        whole = tuple(name.split(".")) if name else ()
        returned = modules.pop(whole, None) if fromlist or len(whole) == 1 else None
        if returned is None:  # a folder without __init__.py, or the first part of `import a.b`
            returned = ModuleType(whole[0] if whole else ".")
        for names, module in modules.items():
            _put_below(returned, names[-1:] if fromlist else names[1:], module)
        return returned

    return import_


def _put_below(top: ModuleType, names: Sequence[str], module: ModuleType) -> None:
    *folders, last = names
    for name in folders:
        top = vars(top).setdefault(name, ModuleType(name))
    setattr(top, last, module)


def _find_named_files(
    name: str, fromlist: Sequence[str], level: int, file: Path, base: Path
) -> dict[tuple[str, ...], Path]:
    """Return the files beside the recipe that an import means, by the parts of their names.

    `from a import b` means a.py, a/__init__.py or a/b.py. Only existing files count, so that a
    folder of data is never taken for a package. A file never imports itself, and modules of ours
    come first, so that `from eval.task import Task` works in a user's eval.py.
    """
    root = base.resolve()
    folder = file.resolve().parents[level - 1] if 0 < level <= len(file.resolve().parts) else root
    if not folder.is_relative_to(root):
        return {}
    names = tuple(name.split(".")) if name else ()
    candidates = [*([names] if names else []), *((*names, name) for name in fromlist)]
    path_by_name: dict[tuple[str, ...], Path] = {}
    for parts in candidates:
        path = folder.joinpath(*parts)
        forms = (path.with_name(f"{path.name}.py"), path / "__init__.py")
        there = next((form for form in forms if form.is_file()), None)
        is_other = there is not None and there.resolve() != file.resolve()
        if there is not None and is_other and not (level == 0 and _is_ours(parts)):
            path_by_name[parts] = there
    inside = [parts for parts in path_by_name if parts != names]
    return path_by_name if names in path_by_name or len(inside) == len(fromlist) else {}


def _is_ours(names: Sequence[str]) -> bool:
    """Whether one of our packages has a module of this name."""
    path = _OURS.joinpath(*names)
    is_there = path.is_dir() or path.with_name(f"{path.name}.py").is_file()
    return names[0] in _PACKAGES and len(names) > 1 and is_there


def _find_imported_files(file: Path, base: Path) -> Iterator[Path]:
    """Yield the files beside the recipe that a file's import statements mean."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _find_named_files(alias.name, (), 0, file, base).values()
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            yield from _find_named_files(node.module or "", names, node.level, file, base).values()


def _place(error: BaseException, path: Path | None, base: Path) -> str:
    """Return the innermost line of the user's own code, in the file or one beside the recipe."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}:{error.lineno}"
    if path is None:
        return "its module"
    folder = base.resolve()
    own = [
        f"{Path(file).name}:{line}"
        for frame, line in walk_tb(error.__traceback__)
        if (file := frame.f_code.co_filename) == str(path)
        or (Path(file).is_relative_to(folder) and sys.prefix not in file)
    ]
    return own[-1] if own else path.name
