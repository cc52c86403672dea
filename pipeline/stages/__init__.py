"""One file a stage kind: what may be asked (its StageConfig) and how it is done (its `run`)."""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from pipeline.errors import closest
from pipeline.stage import Stage

BUILT_IN = ("tokenizer", "adopt", "pretrain", "sft", "evaluate", "compare")
_GROUP = "posttrain.stages"


def kinds() -> tuple[str, ...]:
    """Return the names of all stage kinds, built in and installed."""
    return (*BUILT_IN, *sorted(entry.name for entry in entry_points(group=_GROUP)))


@cache
def stage_of(kind: str) -> Stage:
    """Return a stage kind by name; ValueError says which there are."""
    if kind in BUILT_IN:
        return import_module(f"pipeline.stages.{kind}").STAGE
    for entry in entry_points(group=_GROUP):
        if entry.name == kind:
            return entry.load()
    known = kinds()
    hint = closest(kind, known) or f"there are {', '.join(known)}"
    raise ValueError(f"unknown stage kind `{kind}`; {hint}")
