"""Where comparisons without a recipe go, and what is called how in them. Compares nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from eval.comparison.pool import PooledComparison
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.names import COMPARISON
from pipeline.store.manifest import read_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eval.comparison.comparison import Comparison
    from pipeline.store.store import Store

_LONGEST_PART = 40  # characters of a model's name in the folder's


def read_folder(folder: Path) -> Comparison:
    """Return the comparison in a folder that was just written."""
    from eval.comparison.comparison import Comparison

    return Comparison.from_json(json.loads((folder / COMPARISON).read_text(encoding="utf-8")))


def target_of(names: Sequence[str], store: Store, out: Path | None) -> Path:
    """Return where the result of comparing models of these names goes."""
    return (out or store.runs / "compare" / "-vs-".join(map(_in_a_path, names))).absolute()


def short_names(models: Sequence[str]) -> list[str]:
    """Return what models are called in tables: the last part of each name, where that is enough."""
    if len(models) < 2:
        raise PosttrainError("posttrain compare", "takes two models or more", "name another one")
    for index, name in enumerate(models):
        if name in models[:index]:
            raise PosttrainError(name, "is named twice", "name each model once")
    short = [name.rstrip("/").rpartition("/")[2].rpartition(":")[2] for name in models]
    return short if all(short) and len(set(short)) == len(short) else list(models)


def _in_a_path(name: str) -> str:
    """Return a model's name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[-_LONGEST_PART:] or "model"


def check_target(target: Path) -> None:
    """Refuse to replace anything but an earlier comparison."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() and not (target / COMPARISON).is_file():
        message = "is there and holds no comparison, so it is not replaced"
        raise PosttrainError(str(target), message, "name another folder with --out")


def is_pooled(path: Path) -> bool:
    """Whether a path is runs/<recipe>/seeds/<stage>.json: a comparison pooled over seeds."""
    return path.parent.name == "seeds" and path.suffix == ".json" and path.is_file()


def read_pooled(path: Path) -> PooledComparison:
    """Return a comparison pooled over seeds; raises CorruptArtifactError."""
    try:
        return PooledComparison.from_json(read_sealed(path))
    except (OSError, ValueError) as error:
        hint = "delete it and run the recipe with --seeds again"
        raise CorruptArtifactError(str(path), f"is not readable ({error})", hint) from error
