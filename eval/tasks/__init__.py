"""The built-in tasks and benchmarks by name, imported when asked for.

A name may carry settings of difficulty, as `arithmetic(max_digits=3)`, and a benchmark's where its
rows lie, as `gsm8k(test=data/gsm8k.jsonl)`.
"""

import inspect
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from eval.task import Task

if TYPE_CHECKING:
    from eval.tasks.benchmark import BenchmarkTask

Setting = int | float | bool | str

# Generated, offline.
BUILT_IN: dict[str, str] = {
    "arithmetic": "eval.tasks.arithmetic:Arithmetic",
    "code": "eval.tasks.code:Code",
    "diff": "eval.tasks.diff:Diff",
    "facts": "eval.tasks.facts:Facts",
    "logic": "eval.tasks.logic:Logic",
    "physics": "eval.tasks.physics:Physics",
    "recall": "eval.tasks.recall:Recall",
    "space": "eval.tasks.space:Space",
    "sql": "eval.tasks.sql:Sql",
    "stories": "eval.tasks.stories:Stories",
    "tool_arithmetic": "eval.tasks.tool_arithmetic:ToolArithmetic",
    "translation": "eval.tasks.translation:Translation",
}

# Published ones, made of rows that lie in a file or on the hub.
BENCHMARKS: dict[str, str] = {
    "blimp": "eval.tasks.blimp:Blimp",
    "gsm8k": "eval.tasks.gsm8k:Gsm8k",
    "humaneval": "eval.tasks.humaneval:HumanEval",
    "ifeval": "eval.tasks.ifeval:IfEval",
    "mbpp": "eval.tasks.mbpp:Mbpp",
    "mmlu": "eval.tasks.multiple_choice:Mmlu",
    "multiple_choice": "eval.tasks.multiple_choice:MultipleChoice",
    "qa": "eval.tasks.qa:Qa",
}

_NAME = re.compile(r"([^()]+?)\s*(?:\((.*)\))?", re.DOTALL)


def load(name: str) -> Task:
    """Return the built-in task of that name; raises ValueError with the known names otherwise."""
    plain, settings = parse(name)
    if plain in BENCHMARKS:
        raise ValueError(f"`{plain}` needs its rows: make a {BENCHMARKS[plain]} of them")
    if plain not in BUILT_IN:
        raise ValueError(f"unknown task `{plain[:40]}`; {_guess(plain, [*BUILT_IN, *BENCHMARKS])}")
    return make_task(plain, _loaded(BUILT_IN[plain]), settings)


def benchmark_class(name: str) -> "type[BenchmarkTask]":
    """Return the class of one of the BENCHMARKS."""
    return _loaded(BENCHMARKS[name])


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


def make_task(
    name: str,
    task: type[Task],
    settings: Mapping[str, Setting],
    *,
    unsaid: Collection[str] = (),
    **given: Any,
) -> Task:
    """Return the task with these settings of its constructor, which its name then says.

    unsaid: settings that the constructor does not take and no name says. given: arguments that are
    no settings; those begin with an underscore.
    """
    known = [key for key in inspect.signature(task).parameters if not key.startswith("_")]
    for key in settings:
        if key not in (*known, *unsaid):
            raise ValueError(
                f"task `{name}` has no setting `{key}`; {_guess(key, [*known, *unsaid])}"
            )
    taken = {key: settings[key] for key in sorted(settings) if key not in unsaid}
    try:
        instance = task(**given, **taken)
    except TypeError as error:
        raise ValueError(f"task `{name}`: {error}") from error
    if taken:
        instance.name = named(name, taken)
    return instance


def named(name: str, settings: Mapping[str, Setting]) -> str:
    """Return a task's name with its settings, as `parse` reads it."""
    return f"{name}({', '.join(f'{key}={_said(value)}' for key, value in settings.items())})"


def _loaded(place: str) -> type[Any]:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


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
