"""Reads the word tables that lie as JSON beside the tasks: facts, laws, words, wordings."""

import json
from importlib.resources import files
from typing import Any


def read_table(name: str) -> dict[str, Any]:
    """Return the table of a task, as `facts`."""
    return json.loads(files("eval.tasks").joinpath(f"{name}.json").read_text(encoding="utf-8"))
