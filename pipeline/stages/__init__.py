"""One file per stage kind: what may be asked (its StageConfig) and how it is done (its `run`).

A kind is built in, of an installed package (entry points `posttrain.stages`), or a user's own:
`module:STAGE` in a file beside the recipe.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.config.stage_config import StageConfig
from pipeline.config.user_code import load_object, object_source
from pipeline.errors import closest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from pipeline.config.stage import Stage

BUILT_IN = (
    *("tokenizer", "adopt", "pretrain", "sft", "reward_model", "dpo", "kto"),
    *("ppo", "grpo", "rloo", "distill", "merge", "generate", "label", "best_of_n"),
    *("judgements", "best", "best_reward_model"),
    *("evaluate", "compare", "scaling_law"),
)
_GROUP = "posttrain.stages"
_FEW = 12  # kinds that an error names
_own: dict[str, tuple[Path | None, Stage]] = {}  # by `module:STAGE`, with the file that it is in


def kinds() -> tuple[str, ...]:
    """Return the names of all stage kinds, built in and installed."""
    return (*BUILT_IN, *sorted(entry.name for entry in _entry_points()))


def few_kinds() -> str:
    """Return the first kinds in a sentence, and where the others are."""
    return f"{', '.join(kinds()[:_FEW])} and others: `posttrain list stages`"


def stage_of(kind: str) -> Stage:
    """Return a stage kind by name, a user's own if `stage_for` has loaded it.

    ValueError says which there are.
    """
    return _own[kind][1] if kind in _own else _stage_of(kind)


def stage_for(kind: str, base: Path) -> Stage:
    """Return a stage kind as a recipe names it; of the user's own, the file as it is now.

    base: the recipe's folder. Raises ValueError for a name that is none, or code that is wrong.
    """
    if ":" not in kind:
        return stage_of(kind)
    source = object_source(kind, base)
    known, _ = _own.get(kind, (source, None))
    if known != source:
        raise ValueError(f"`{kind}` is another stage in {known} already; rename one of the two")
    _own[kind] = source, _check_stage(kind, load_object(kind, base))
    return _own[kind][1]


def _check_stage(kind: str, stage: object) -> Stage:
    """Return a user's stage, if it is one."""
    from pipeline.config.stage import Stage

    if not isinstance(stage, Stage):
        what = type(stage).__name__
        raise ValueError(  # noqa: TRY004  a mistake in a recipe
            f"`{kind}` is of type {what}, not a Stage; "
            "write `STAGE = Stage(...)` (pipeline.config.stage)"
        )
    if not (isinstance(stage.config, type) and issubclass(stage.config, StageConfig)):
        raise ValueError(f"`{kind}`: its `config` is not a subclass of StageConfig")  # noqa: TRY004
    return stage


@cache
def _stage_of(kind: str) -> Stage:
    if kind in BUILT_IN:
        return import_module(f"pipeline.stages.{kind}").STAGE
    for entry in _entry_points():
        if entry.name == kind:
            return entry.load()
    known = kinds()
    hint = closest(kind, known) or f"there are {few_kinds()}"
    raise ValueError(f"unknown stage kind `{kind}`; {hint}")


def _entry_points() -> tuple[EntryPoint, ...]:
    """Return the stage kinds of installed packages; looked up on first use, since it takes time."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=_GROUP))
