"""Tasks by name, with the rows of those that are benchmarks.

A task is built in, a benchmark, `module:Class` beside the recipe, or an installed entry point, with
settings in brackets if it takes any: `arithmetic(max_digits=3)`. A benchmark's settings say where
its rows lie, as in `gsm8k(test=real:gsm8k/test.jsonl)`; without any they come from the hub.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import tasks
from eval.task import Split, Task
from eval.tasks.benchmark import PLACES, BenchmarkTask, RowsError
from pipeline.config.references import Places
from pipeline.config.user_code import load_object, object_source
from pipeline.data.reading.files import file_rows
from pipeline.data.reading.hub import hub_rows
from pipeline.errors import PosttrainError

_GROUP = "posttrain.tasks"
_SPLITS: tuple[Split, ...] = ("test", "validation", "train")


@dataclass(frozen=True)
class FileRows:
    """A file with rows. name: as the recipe has it."""

    name: str
    path: Path

    def __call__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the rows with their places."""
        return ((row.where, row.fields) for row in file_rows(self.path, self.name))


@dataclass(frozen=True)
class HubRows:
    """A split of a data set on the hub. revision: as the recipe has it.

    commit: read where the recipe has no revision.
    """

    id: str
    subset: str | None
    split: str
    revision: str | None
    commit: str | None

    def __call__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the rows with their places."""
        hub_source = hub_rows(self.id, self.subset, self.split, self.revision or self.commit)
        return ((row.where, row.fields) for row in hub_source)


def load_task(name: str, places: Places) -> Task:
    """Return the task of this name; ValueError names those there are. Reads no rows.

    places: the recipe's folder, where `module:Class` is looked for first, its data folders, and the
    commits of hub ids.
    """
    plain, settings = tasks.parse(name)
    if ":" in plain:
        made = load_object(plain, places.base)
        if isinstance(made, type) and issubclass(made, Task):
            return tasks.make_task(made.name, made, settings)
        task = made() if isinstance(made, type) else made
    elif plain in tasks.BENCHMARKS:
        return _benchmark(plain, settings, task_rows(name, places))
    elif plain in (*tasks.BUILT_IN, *tasks.BY_PACKAGE):
        return tasks.load(name)
    else:
        from importlib.metadata import entry_points  # it takes longer to import than most tasks

        installed = {entry.name: entry for entry in entry_points(group=_GROUP)}
        if plain not in installed:
            return tasks.load(name)  # raises, and names the known tasks
        task = tasks.make_task(plain, installed[plain].load(), settings)
    if not isinstance(task, Task):
        raise ValueError(f"`{plain}` is not a Task (subclass eval.task.Task)")  # noqa: TRY004
    return task


def task_file(name: str, base: Path) -> Path | None:
    """Return the file of a user's own task, for hashing; None for built-in and installed tasks."""
    plain, _ = tasks.parse(name)
    return object_source(plain, base) if ":" in plain else None


def task_rows(name: str, places: Places) -> dict[Split, FileRows | HubRows]:
    """Return where the rows of a benchmark lie, by split; {} for tasks that generate theirs.

    Raises ValueError for places that make no sense; does not look whether files exist.
    """
    plain, settings = tasks.parse(name)
    if plain not in tasks.BENCHMARKS:
        return {}
    kind = tasks.benchmark_class(plain)
    texts = {key: _text(plain, key, settings[key]) for key in PLACES if key in settings}
    if "file" in texts:
        if "test" in texts:
            raise ValueError(f"task `{plain}`: `file` is another name for `test`; give one of them")
        texts["test"] = texts.pop("file")
    revision = texts.pop("revision", None)
    if texts and revision is not None:
        raise ValueError(f"task `{plain}`: `revision` is of the hub, not of files; leave it out")
    if texts:
        files = {key: FileRows(text, places.file(text)) for key, text in texts.items()}
        whole = files.get("test") if kind.is_one_file else None
        return {split: file for split in _SPLITS if (file := files.get(split, whole)) is not None}
    if not kind.hub:
        raise ValueError(f"task `{plain}` reads a file of yours: write `{plain}(test=FILE)`")
    commit = places.revisions.get(kind.hub)
    return {
        split: HubRows(kind.hub, kind.subset, named, revision, commit)
        for split, named in kind.hub_splits.items()
    }


def _benchmark(
    plain: str, settings: Mapping[str, tasks.Setting], rows: Mapping[Split, FileRows | HubRows]
) -> Task:
    """Return a benchmark; one on the user's own files is named by its file, to tell two apart."""
    kind = tasks.benchmark_class(plain)
    task = tasks.make_task(plain, kind, settings, unsaid=PLACES, _rows=rows)
    if not kind.hub and "test" in rows and isinstance(rows["test"], FileRows):
        key = "file" if "file" in settings else "test"
        shown = {
            key: rows["test"].path.name,
            **{k: v for k, v in settings.items() if k not in PLACES},
        }
        task.name = tasks.named(plain, shown)
    return task


def check_task(name: str, places: Places) -> str:
    """Read every row of a benchmark that lies in files and say how many there are; "" for the rest.

    Raises PosttrainError at the first row that cannot be used.
    """
    rows = task_rows(name, places)
    if not any(isinstance(source, FileRows) for source in rows.values()):
        return ""
    task = load_task(name, places)
    try:
        counts = [f"{sum(1 for _ in task.examples(split))} {split}" for split in rows]
    except RowsError as error:
        raise PosttrainError(name, str(error)) from error
    remark = task.remark() if isinstance(task, BenchmarkTask) else ""
    return f"{task.name}: examples: {', '.join(counts)}" + (f"; {remark}" if remark else "")


def _text(task: str, key: str, value: tasks.Setting) -> str:
    if not isinstance(value, str):
        what = "a revision of the hub" if key == "revision" else "a file"
        raise ValueError(f"task `{task}`: `{key}={value}` is not {what}")  # noqa: TRY004
    return value
