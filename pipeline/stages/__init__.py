"""One file a stage kind: what may be asked (its StageConfig) and how it is done (its `run`)."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import closest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pipeline.stage import Stage

BUILT_IN = (
    *("tokenizer", "adopt", "pretrain", "sft", "reward_model", "dpo", "ppo", "merge"),
    *("evaluate", "compare"),
)
_GROUP = "posttrain.stages"


def kinds() -> tuple[str, ...]:
    """Return the names of all stage kinds, built in and installed."""
    return (*BUILT_IN, *sorted(entry.name for entry in _installed()))


@cache
def stage_of(kind: str) -> Stage:
    """Return a stage kind by name; ValueError says which there are."""
    if kind in BUILT_IN:
        return import_module(f"pipeline.stages.{kind}").STAGE
    for entry in _installed():
        if entry.name == kind:
            return entry.load()
    known = kinds()
    hint = closest(kind, known) or f"there are {', '.join(known)}"
    raise ValueError(f"unknown stage kind `{kind}`; {hint}")


def _installed() -> tuple[EntryPoint, ...]:
    """Return the stage kinds of other packages; looked for only when one is asked for."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=_GROUP))
