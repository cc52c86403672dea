"""Tasks in the ways a recipe may write them, turned into one text: a name with its settings.

`qa(file=a.csv, match=exact)` needs no quotes: where YAML, inside a list or mapping in brackets, has
split it at its commas, it is joined again. `{task: qa, file: a.csv, match: exact}` means the same.
"""

from typing import Any, cast

_TASK = "task"


def task_names(value: Any) -> Any:
    """Return a list of tasks with all of them as texts; anything else as it is."""
    if not isinstance(value, list | tuple):
        return task_name(value)
    names: list[Any] = []
    for entry in cast("list[Any]", value):
        if names and isinstance(entry, str) and _is_open(names[-1]):
            names[-1] = f"{names[-1]}, {entry}"
        else:
            names.append(task_name(entry))
    return names


def task_name(value: Any) -> Any:
    """Return a task that is written as a mapping, as a text; anything else as it is."""
    if not isinstance(value, dict) or not isinstance(value.get(_TASK), str):  # pyright: ignore[reportUnknownMemberType]
        return value  # pyright: ignore[reportUnknownVariableType]
    whole = rejoin_settings(cast("dict[str, Any]", value))
    settings = {key: setting for key, setting in whole.items() if key != _TASK}
    if not settings:
        return whole[_TASK]
    written = ", ".join(f"{key}={_spell(setting)}" for key, setting in settings.items())
    return f"{whole[_TASK]}({written})"


def rejoin_settings(block: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping whose `task` has back the settings that YAML made keys without a value."""
    name = block.get(_TASK)
    if not _is_open(name):
        return block
    parts = [key for key, value in block.items() if value is None]
    rest = {key: value for key, value in block.items() if value is not None}
    return {**rest, _TASK: ", ".join([str(name), *parts])}


def _is_open(name: Any) -> bool:
    return isinstance(name, str) and name.count("(") > name.count(")")


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
