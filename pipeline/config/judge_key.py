"""The key of a judge's endpoint: read from the environment, never from a recipe."""

from __future__ import annotations

import os

from pipeline.errors import PosttrainError


def read_key(variable: str) -> str:
    """Return the key; PosttrainError where the environment variable is not set, or is empty."""
    key = os.environ.get(variable, "").strip()
    if not key:
        message = f"the environment variable `{variable}`, which holds the judge's key, is not set"
        raise PosttrainError("key", message, f"export {variable}=...")
    return key
