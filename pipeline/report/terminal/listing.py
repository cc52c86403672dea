"""`posttrain list`: what a recipe can name."""

from collections.abc import Iterator

from eval import tasks
from eval.tasks.benchmark import BenchmarkTask
from pipeline.config.shipped_recipes import list_shipped_recipes, summary_of
from pipeline.errors import PosttrainError, closest
from pipeline.stages import kinds, stage_of
from pipeline.stages.pretrain import SIZES


def listing(what: str) -> list[str]:
    """Return one line for each thing of the kind asked for."""
    listings = {"tasks": _tasks, "stages": _stages, "sizes": _sizes, "recipes": _recipes}
    if what not in listings:
        hint = closest(what, listings) or f"there are {', '.join(listings)}"
        raise PosttrainError("list", f"cannot list `{what}`", hint)
    return list(listings[what]())


def _tasks() -> Iterator[str]:
    for name in tasks.BUILT_IN:
        task = tasks.load(name)
        yield f"{name:<15} {task.kind:<10} {', '.join(task.metrics)}  {task.summary}"
    for name in tasks.BENCHMARKS:
        kind = tasks.benchmark_class(name)
        metrics = ", ".join(kind.metrics)
        yield f"{name:<15} {kind.kind:<10} {metrics}  {kind.summary}; {_rows(name, kind)}"


def _rows(name: str, kind: type[BenchmarkTask]) -> str:
    """Return where a benchmark's rows come from."""
    splits = ["test"] if kind.is_one_file or not kind.hub else list(kind.hub_splits)
    files = ", ".join(f"{split}=FILE" for split in sorted(splits))
    hub = f"hub {kind.hub}{f' ({kind.subset})' if kind.subset else ''}, or " if kind.hub else ""
    return f"{hub}{name}({files})"


def _stages() -> Iterator[str]:
    for kind in kinds():
        stage = stage_of(kind)
        upstream = f"training_args: {stage.trainer}" if stage.trainer else ""
        makes = "model" if stage.produces == "policy" else stage.produces
        yield f"{kind:<14} makes: {makes:<12} {upstream}".rstrip()


def _recipes() -> Iterator[str]:
    recipes = list_shipped_recipes()
    width = max(map(len, recipes), default=0)
    for name, path in recipes.items():
        yield f"{name:<{width}}  {summary_of(path)}"
        yield f"{'':<{width}}  {path.resolve()}"


def _sizes() -> Iterator[str]:
    for name, fields in SIZES.items():
        yield f"{name:<6} " + ", ".join(f"{key} {value}" for key, value in fields.items())
