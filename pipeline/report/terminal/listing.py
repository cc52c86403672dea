"""`posttrain list`: what a recipe can name, as a table."""

import sys
from collections.abc import Iterator, Sequence

from eval import tasks
from eval.tasks.benchmark import BenchmarkTask
from pipeline.config.new_model import SIZES
from pipeline.config.shipped_recipes import list_shipped_recipes, summary_of
from pipeline.config.stage import Stage
from pipeline.errors import PosttrainError, closest
from pipeline.report.terminal.tables import Column
from pipeline.stages import kinds, stage_of

_COLUMNS = {
    "recipes": (Column("recipe", is_text=True), Column("what it does", is_text=True)),
    "tasks": (
        Column("task", is_text=True),
        Column("metrics", rank=1),
        Column("what is asked", is_text=True),
    ),
    "stages": (
        Column("stage", is_text=True),
        Column("makes"),
        Column("training_args", rank=1),
        Column("what it does", is_text=True),
    ),
    "sizes": (Column("size", is_text=True), Column("fields of the model", is_text=True)),
}


def listing(what: str) -> tuple[Sequence[Column], list[tuple[str, ...]]]:
    """Return the columns, and a row of plain text for each thing of the kind asked for."""
    listings = {"recipes": _recipes, "tasks": _tasks, "stages": _stages, "sizes": _sizes}
    if what not in listings:
        hint = closest(what, listings) or f"there are {', '.join(listings)}"
        raise PosttrainError("list", f"cannot list `{what}`", hint)
    return _COLUMNS[what], list(listings[what]())


def _tasks() -> Iterator[tuple[str, ...]]:
    for name in tasks.BUILT_IN:
        task = tasks.load(name)
        yield name, "\n".join(task.metrics), task.summary
    for name in tasks.BY_PACKAGE:
        task = tasks.package_task(name)
        yield name, "\n".join(task.metrics), task.summary
    for name in tasks.BENCHMARKS:
        task = tasks.benchmark_class(name)
        yield name, "\n".join(task.metrics), f"{task.summary}; {_source(name, task)}"


def _source(name: str, task: type[BenchmarkTask]) -> str:
    """Return where a benchmark's rows come from."""
    splits = ["test"] if task.is_one_file or not task.hub else list(task.hub_splits)
    files = ", ".join(f"{split}=FILE" for split in sorted(splits))
    hub = f"hub {task.hub}{f' ({task.subset})' if task.subset else ''}, or " if task.hub else ""
    return f"{hub}{name}({files})"


def _stages() -> Iterator[tuple[str, ...]]:
    for kind in kinds():
        stage = stage_of(kind)
        makes = "model" if stage.produces == "policy" else stage.produces
        yield kind, makes, stage.trainer or "", _summary(stage)


def _summary(stage: Stage) -> str:
    """Return what a stage's file says of it in its first line, after its name."""
    first = (sys.modules[stage.run.__module__].__doc__ or "").partition("\n")[0]
    return first.partition(": ")[2].rstrip(".")


def _recipes() -> Iterator[tuple[str, ...]]:
    for name, path in list_shipped_recipes().items():
        yield name, f"{summary_of(path)}\n{path.resolve()}"


def _sizes() -> Iterator[tuple[str, ...]]:
    for name, fields in SIZES.items():
        yield name, ", ".join(f"{key} {value}" for key, value in fields.items())
