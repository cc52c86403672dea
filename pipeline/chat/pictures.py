"""Which replies are pictures: the tasks that a model was trained on say so (`Task.picture`).

How a picture is shown is pipeline/text/pictures.py's subject.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from eval.results import grey_levels
from eval.task import Task
from pipeline.config.references import Places
from pipeline.data.reading.tasks import load_task
from pipeline.store.store import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.config.stage import StageInput

# A reply as rows of grey levels from 0 to 255; None for a text.
Pictures = Callable[[str], list[list[int]] | None]

_TRAINED_ON = ("data", "prompts")


def no_picture(reply: str) -> None:
    """Take a reply as a text."""


def pictures_of(source: StageInput, folder: Path | None = None) -> Pictures:
    """Return what finds pictures among a model's replies.

    folder: of the recipe, where tasks of its own lie; without it those are left out, and so is what
    a model from outside was trained on, which nobody knows.
    """
    if source.artifact is None:
        return no_picture
    tasks = list(_drawing_tasks(read(Path(source.path)).identity, folder))

    def picture(reply: str) -> list[list[int]] | None:
        found = (grey_levels(task, reply) for task in tasks)
        return next((levels for levels in found if levels), None)

    return picture if tasks else no_picture


def _drawing_tasks(identity: Mapping[str, Any], folder: Path | None) -> Iterator[Task]:
    for name in dict.fromkeys(_task_names(identity)):
        if ":" in name and folder is None:
            continue
        try:
            task = load_task(name, Places(folder or Path.cwd(), {}))
        except ValueError:  # gone since, or of a package that is not here
            continue
        if type(task).picture is not Task.picture:
            yield task


def _task_names(identity: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the tasks that a stage's identity has in its data."""
    for key in _TRAINED_ON:
        blocks = identity.get(key) or ()
        for block in cast("list[Any]", blocks if isinstance(blocks, list | tuple) else [blocks]):
            task = block.get("task") if isinstance(block, dict) else None
            if isinstance(task, dict):
                yield str(cast("dict[str, Any]", task)["task"])
