"""The built-in tasks by name, imported when asked for.

A name may carry settings of difficulty, as `arithmetic(max_digits=3)`.
"""

import inspect
import re
from collections.abc import Collection
from difflib import get_close_matches
from importlib import import_module

from eval.task import Task

Setting = int | float | bool | str

# Generated, offline.
BUILT_IN: dict[str, str] = {
    "arithmetic": "eval.tasks.arithmetic:Arithmetic",
    "facts": "eval.tasks.facts:Facts",
}

_NAME = re.compile(r"([^()]+?)\s*(?:\((.*)\))?", re.DOTALL)


def load(name: str) -> Task:
    """Return the built-in task of that name; raises ValueError with the known names otherwise."""
    plain, settings = parse(name)
    if plain not in BUILT_IN:
        raise ValueError(f"unknown task `{plain}`; {_guess(plain, BUILT_IN)}")
    module, _, attribute = BUILT_IN[plain].partition(":")
    return made(plain, getattr(import_module(module), attribute), settings)


def parse(name: str) -> tuple[str, dict[str, Setting]]:
    """Split `arithmetic(max_digits=3)` into its name and its settings."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        raise ValueError(f"`{name}` is no task; write `name` or `name(setting=value, ...)`")
    settings: dict[str, Setting] = {}
    for part in filter(None, (part.strip() for part in (match[2] or "").split(","))):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not key or not value or key in settings:
            raise ValueError(f"`{part}` in `{name}` is no setting; write each once, `name=value`")
        settings[key] = _value(value)
    return match[1], settings


def made(name: str, task: type[Task], settings: dict[str, Setting]) -> Task:
    """Return the task with these settings of its constructor, which its name then says."""
    known = [key for key in inspect.signature(task).parameters if not key.startswith("_")]
    for key in settings:
        if key not in known:
            raise ValueError(f"task `{name}` has no setting `{key}`; {_guess(key, known)}")
    try:
        instance = task(**settings)
    except TypeError as error:
        raise ValueError(f"task `{name}`: {error}") from error
    if settings:
        said = ", ".join(f"{key}={_said(settings[key])}" for key in sorted(settings))
        instance.name = f"{name}({said})"
    return instance


def _value(text: str) -> Setting:
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _said(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _guess(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    guess = f"did you mean `{near[0]}`? " if near else ""
    return f"{guess}there are: {', '.join(sorted(known)) or 'none'}"
