"""`posttrain list`: what a recipe can name."""

from collections.abc import Iterator

from eval import tasks
from pipeline.errors import PosttrainError, closest
from pipeline.stages import kinds, stage_of
from pipeline.stages.pretrain import SIZES


def listing(what: str) -> list[str]:
    """Return one line for each thing of the kind asked for."""
    listings = {"tasks": _tasks, "stages": _stages, "sizes": _sizes}
    if what not in listings:
        hint = closest(what, listings) or f"there are {', '.join(listings)}"
        raise PosttrainError("list", f"cannot list `{what}`", hint)
    return list(listings[what]())


def _tasks() -> Iterator[str]:
    for name in tasks.BUILT_IN:
        task = tasks.load(name)
        yield f"{name:<14} {task.kind:<10} {', '.join(task.metrics)}  {task.summary}"


def _stages() -> Iterator[str]:
    for kind in kinds():
        stage = stage_of(kind)
        upstream = f"training_args: {stage.trainer}" if stage.trainer else ""
        makes = "model" if stage.produces == "policy" else stage.produces
        yield f"{kind:<14} makes: {makes:<12} {upstream}".rstrip()


def _sizes() -> Iterator[str]:
    for name, fields in SIZES.items():
        yield f"{name:<6} " + ", ".join(f"{key} {value}" for key, value in fields.items())
