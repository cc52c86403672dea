"""Tasks by name: built in, `module:Class` beside the recipe, or an installed entry point.

Each may carry settings in brackets: `arithmetic(max_digits=3)`.
"""

from pathlib import Path

from eval import tasks
from eval.task import Task
from pipeline.recipe.references import load_object, object_source

_GROUP = "posttrain.tasks"


def load_task(name: str, base: Path) -> Task:
    """Return the task of this name; ValueError says which names there are.

    base: the recipe's folder, where `module:Class` is looked for first.
    """
    plain, settings = tasks.parse(name)
    if ":" in plain:
        made = load_object(plain, base)
        if isinstance(made, type) and issubclass(made, Task):
            return tasks.made(made.name, made, settings)
        task = made() if isinstance(made, type) else made
    elif plain in tasks.BUILT_IN:
        return tasks.load(name)
    else:
        from importlib.metadata import entry_points  # it takes longer to import than most tasks

        installed = {entry.name: entry for entry in entry_points(group=_GROUP)}
        if plain not in installed:
            return tasks.load(name)  # raises, naming those that are known
        task = tasks.made(plain, installed[plain].load(), settings)
    if not isinstance(task, Task):
        raise ValueError(f"`{plain}` is not a Task (subclass eval.task.Task)")  # noqa: TRY004
    return task


def task_file(name: str, base: Path) -> Path | None:
    """Return the file of a user's own task, to be hashed; None for built-in and installed ones."""
    plain, _ = tasks.parse(name)
    return object_source(plain, base) if ":" in plain else None
