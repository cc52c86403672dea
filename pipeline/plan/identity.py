"""What decides a stage's result, as one JSON payload.

Its config with every reference replaced by what it stands for.

`$base` becomes the fingerprint of that stage, a file its sha256, a task its version, a hub id its
commit: so that renaming a stage or moving a folder changes nothing, and editing a file does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel

from pipeline.config import training_args
from pipeline.config.blocks import DataBlock
from pipeline.config.marks import (
    AbsentByDefault,
    Execution,
    NamesFile,
    NamesFolder,
    NamesObject,
    NamesTask,
    NamesTemplate,
    RefersTo,
)
from pipeline.config.references import (
    HubModel,
    LocalModel,
    StageOutput,
    adapter_base,
    model_source,
)
from pipeline.config.training_stage import TrainingStage
from pipeline.config.user_code import files_beside, object_source
from pipeline.data.reading.tasks import FileRows, HubRows, load_task, task_file, task_rows
from pipeline.errors import PosttrainError, closest
from pipeline.files.plain_files import COPY_IT, other_than_a_file
from pipeline.files.text_files import look_at
from pipeline.model_files.chat_templates import template_text
from pipeline.model_files.folder import check_folder
from pipeline.plan.followers import ASKED, decontaminate_of, measuring_stages
from pipeline.recipe.load import Location
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.trainer_arguments import default_arguments
from pipeline.stages import stage_of
from pipeline.store.hashed_files import HashedFiles
from pipeline.store.hub_lock import UNRESOLVED
from pipeline.store.lineage import verify_closure
from pipeline.store.store import check_finished, is_finished, read

_NOT_IDENTITY = frozenset({"seed"})  # the effective seed stands beside the config


@dataclass
class Identifier:
    """Computes the payloads of a recipe's stages, in order, remembering what it hashed.

    fingerprints: of the stages before, by name. commits: of hub ids. files: hashes them.
    unresolved: hub ids met without a commit.
    """

    recipe: Recipe
    fingerprints: Mapping[str, str]
    commits: Mapping[str, str]
    files: HashedFiles = field(default_factory=lambda: HashedFiles(None))
    unresolved: set[str] = field(default_factory=set[str])
    _hashes: dict[Path, str] = field(default_factory=dict[Path, str])

    def payload(self, name: str) -> dict[str, Any]:
        """Return what decides the result of the stage of this name."""
        config = self.recipe.stages[name]
        stage = stage_of(config.stage)
        seed = self.recipe.seed if config.seed is None else config.seed
        location: Location = ("stages", name)
        described = self._block(config, location)
        if isinstance(config, TrainingStage):
            described["training_args"] = training_args.identity(
                config.training_args, default_arguments(self.recipe, config)
            )
            if decontaminate_of(self.recipe, name) == "drop":
                measured = measuring_stages(self.recipe, name)
                described["leaves_out"] = [self.questions(later) for later in measured]
        return {
            "stage": config.stage,
            "version": stage.version,
            **(self._own_code(self._source(config.stage, location)) if ":" in config.stage else {}),
            "seed": seed if stage.is_seeded and config.draws else None,
            **{key: value for key, value in described.items() if key != "stage"},
        }

    def questions(self, name: str) -> dict[str, Any]:
        """Return what decides which items a measuring stage asks."""
        config = self.recipe.stages[name]
        fields = type(config).model_fields
        described: dict[str, Any] = {}
        for key in (key for key in ASKED if key in fields):
            markers = [*fields[key].metadata, *_markers(fields[key].annotation)]
            value = _without_stages(getattr(config, key))
            if value != fields[key].default or not _is_later(markers):
                described[key] = self._value(value, markers, ("stages", name, key))
        return described

    def _block(self, block: BaseModel, location: Location) -> dict[str, Any]:
        if isinstance(block, DataBlock):
            return self._data(block, location)
        described: dict[str, Any] = {}
        for name, info in type(block).model_fields.items():
            markers = [*info.metadata, *_markers(info.annotation)]
            if name in _NOT_IDENTITY or any(isinstance(marker, Execution) for marker in markers):
                continue
            value = getattr(block, name)
            if _is_later(markers) and value == info.default:
                continue
            described[name] = self._value(value, markers, (*location, name))
        for name, value in (block.model_extra or {}).items():
            described[name] = self._value(value, [], (*location, name))
        return described

    def _value(self, value: Any, markers: list[Any], location: Location) -> Any:
        if isinstance(value, BaseModel):
            return self._block(value, location)
        if isinstance(value, list | tuple):
            return [
                self._value(inner, markers, (*location, number))
                for number, inner in enumerate(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            ]
        if isinstance(value, dict):
            return {
                str(key): self._value(inner, markers, (*location, str(key)))  # pyright: ignore[reportUnknownArgumentType]
                for key, inner in value.items()  # pyright: ignore[reportUnknownVariableType]
            }
        if isinstance(value, str):
            refers = next((marker for marker in markers if isinstance(marker, RefersTo)), None)
            if refers is not None:
                return value if value in refers.words else self._model(value, location, refers)
            if any(isinstance(marker, NamesObject) for marker in markers):
                return self._object(value, location)
            if any(isinstance(marker, NamesTask) for marker in markers):
                return self._task(value, location)
            if any(isinstance(marker, NamesTemplate) for marker in markers):
                return self._template(value, location)
            if any(isinstance(marker, NamesFolder) for marker in markers):
                return self._folder(value, location)
            if any(isinstance(marker, NamesFile) for marker in markers):
                return self._file_with_name(value, location)
        return value

    def _model(self, reference: str, location: Location, refers: RefersTo) -> dict[str, Any]:
        try:
            source = model_source(reference, self.recipe.places)
        except ValueError as error:
            hint = f"did you mean `${reference}`?" if reference in self.recipe.stages else ""
            hint = hint or closest(reference, refers.words)
            raise self.recipe.error(location, str(error), hint) from error
        if isinstance(source, StageOutput):
            return {"artifact": self.fingerprints[source.name]}
        if isinstance(source, HubModel):
            return {"hub": source.id, "revision": self._commit("models", source)}
        # Before the files are read for their hashes, which takes minutes of a large model.
        check_folder(source.path)
        check_finished(source.path)
        if is_finished(source.path):  # a stage's result, named by its folder
            verify_closure(read(source.path), trusts_record=True)
        described: dict[str, Any] = {
            "folder": source.path.name,
            "files": self._tree(source.path),
        }
        try:
            base = adapter_base(source.path)
        except ValueError as error:
            raise self.recipe.error(location, str(error)) from error
        if isinstance(base, LocalModel):
            described["base"] = self._tree(base.path)
        elif base is not None:
            described["base"] = {"hub": base.id, "revision": self._commit("models", base)}
        return described

    def _commit(self, kind: str, source: HubModel) -> str:
        if source.revision:
            return source.revision
        key = f"{kind}/{source.id}"
        if key not in self.commits:
            self.unresolved.add(key)
        return self.commits.get(key, UNRESOLVED)

    def _task(self, name: str, location: Location) -> dict[str, Any]:
        places = self.recipe.places
        try:
            task, source = load_task(name, places), task_file(name, places.base)
            rows = task_rows(name, places)
        except ValueError as error:
            hint = "" if "; " in str(error) else "`posttrain list tasks` says what there is"
            raise self.recipe.error(location, str(error), hint) from error
        described: dict[str, Any] = {"task": name, "version": task.version}
        if task.source:
            described["source"] = task.source
        described |= self._own_code(source)
        if rows:
            described["task"] = task.name
            described["rows"] = {split: self._rows(part, location) for split, part in rows.items()}
        return described

    def _object(self, text: str, location: Location) -> dict[str, Any]:
        """Return what stands for a user's own code: the source of its file, beside the name."""
        return {"object": text, **self._own_code(self._source(text, location))}

    def _source(self, text: str, location: Location) -> Path | None:
        try:
            return object_source(text, self.recipe.places.base)
        except ValueError as error:
            raise self.recipe.error(location, str(error)) from error

    def _own_code(self, source: Path | None) -> dict[str, Any]:
        """Return what stands for a user's file, and for those beside it that it imports."""
        if source is None:
            return {}
        beside = files_beside(source, self.recipe.places.base)
        described: dict[str, Any] = {"source": self._file(source)}
        if beside:
            described["beside"] = {name: self._file(path) for name, path in beside.items()}
        return described

    def _rows(self, source: FileRows | HubRows, location: Location) -> dict[str, Any]:
        """Return what stands for a split of a benchmark."""
        if isinstance(source, FileRows):
            return self._data_file(source.name, source.path, location)
        commit = self._commit("datasets", HubModel(source.id, source.revision))
        named = {"hub": source.id, "subset": source.subset, "split": source.split}
        return {**named, "revision": commit}

    def _data(self, block: DataBlock, location: Location) -> dict[str, Any]:
        described = block.model_dump(mode="json", exclude_none=True, exclude={"streaming"})
        if block.task is not None:
            described["task"] = self._task(block.task, (*location, "task"))
        elif block.file is not None:
            try:
                path = self.recipe.places.file(block.file)
            except ValueError as error:
                raise self.recipe.error((*location, "file"), str(error)) from error
            described["file"] = self._data_file(block.file, path, (*location, "file"))
        elif block.stage is not None:
            described["stage"] = {"artifact": self.fingerprints[block.stage[1:]]}
        else:
            source = HubModel(block.hub or "", block.revision)
            described["revision"] = self._commit("datasets", source)
        return described

    def _template(self, name: str, location: Location) -> dict[str, Any]:
        """Return what stands for a chat template: its text, wherever that lies."""
        try:
            source = template_text(name, self.recipe.places)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            raise self.recipe.error(location, message, hint) from error
        if isinstance(source, HubModel):
            return {"hub": source.id, "revision": self._commit("models", source)}
        return {"sha256": sha256(source.encode()).hexdigest()}

    def _folder(self, name: str, location: Location) -> dict[str, Any]:
        try:
            path = self.recipe.places.file(name)
        except ValueError as error:
            raise self.recipe.error(location, str(error)) from error
        if not path.is_dir():
            what = "is a file, not a folder" if path.exists() else "does not exist"
            raise self.recipe.error(location, f"`{name}` {what}", _file_hint(name, path))
        return {"files": self._tree(path)}

    def _file_with_name(self, name: str, location: Location) -> dict[str, str]:
        try:
            path = self.recipe.places.file(name)
        except ValueError as error:
            raise self.recipe.error(location, str(error)) from error
        self._check_file(name, path, location)
        return {"name": path.name, "sha256": self._file(path)}

    def _data_file(self, name: str, path: Path, location: Location) -> dict[str, str]:
        self._check_file(name, path, location)
        look_at(path, name)  # before all of it is hashed
        return {"name": path.name, "sha256": self._file(path)}

    def _check_file(self, name: str, path: Path, location: Location) -> None:
        kind = other_than_a_file(path)
        if kind is not None and not path.is_dir():
            raise self.recipe.error(location, f"`{name}` is {kind}, not a file", COPY_IT)
        if not path.is_file():
            what = "is a folder, not a file" if path.is_dir() else "does not exist"
            raise self.recipe.error(location, f"`{name}` {what}", _file_hint(name, path))

    def _file(self, path: Path) -> str:
        if path not in self._hashes:
            kind = other_than_a_file(path)
            if kind is not None:
                raise PosttrainError(str(path), f"is {kind}, not a file", COPY_IT)
            try:
                self._hashes[path] = self.files.sha256(path)
            except OSError as error:
                raise PosttrainError(str(path), f"cannot be read ({error.strerror})") from error
        return self._hashes[path]

    def _tree(self, folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): self._file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def _is_later(markers: Iterable[Any]) -> bool:
    """Whether a field came later, and is no part of an identity at its default."""
    return any(isinstance(marker, AbsentByDefault) for marker in markers)


def _without_stages(value: Any) -> Any:
    """Return what a stage asks without rows that stages make, which may come after a training."""
    if not isinstance(value, tuple):
        return value
    entries = cast("tuple[Any, ...]", value)
    return tuple(
        entry for entry in entries if not (isinstance(entry, DataBlock) and entry.stage is not None)
    )


def _file_hint(text: str, path: Path) -> str:
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    near = closest(path.name, siblings) if not path.exists() else ""
    root, colon, _ = text.partition(":")
    if near or not colon:
        return near or f"looked for {path}"
    return f"looked for {path}; say where the data is with --root {root}=DIR"


def _markers(annotation: Any) -> Iterator[Any]:
    """Yield every marker found anywhere in an annotation, blocks not entered."""
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _markers(part)
