"""The built-in tasks by name, imported when asked for."""

from difflib import get_close_matches
from importlib import import_module

from eval.task import Task

BUILT_IN: dict[str, str] = {
    "arithmetic": "eval.tasks.arithmetic:Arithmetic",
    "facts": "eval.tasks.facts:Facts",
}


def load(name: str) -> Task:
    """Return the built-in task of that name; raises ValueError with the known names otherwise."""
    if name not in BUILT_IN:
        near = get_close_matches(name, BUILT_IN, n=1)
        guess = f"did you mean `{near[0]}`? " if near else ""
        known = ", ".join(sorted(BUILT_IN))
        raise ValueError(f"unknown task `{name}`; {guess}built-in tasks: {known}")
    module, _, attribute = BUILT_IN[name].partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task
