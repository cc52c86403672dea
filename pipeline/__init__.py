"""posttrain: one recipe from nothing to an aligned model and an honest comparison.

>>> from pipeline import load_recipe, run_recipe
>>> outcomes = run_recipe(load_recipe("recipes/quickstart.yaml"))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.own_packages import find_ours_first

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from pipeline.recipe.recipe import Recipe
    from pipeline.run.outcomes import Outcome

__all__ = ["load_recipe", "run_recipe"]

find_ours_first()


def load_recipe(
    path: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    roots: Mapping[str, Path] | None = None,
) -> Recipe:
    """Read and check a recipe; PosttrainError says what is wrong with it, with line and column.

    overrides: `stages.sft.batch_size=8`, as `--set` gives them. roots: data folders by name.
    """
    from pipeline.recipe.load import load

    return load(Path(path), overrides=overrides, roots=roots)


def run_recipe(
    recipe: Recipe, *, runs: str | os.PathLike[str] = "runs", **options: Any
) -> list[Outcome]:
    """Run what is missing and return what became of each stage, with its artifact.

    options: as of pipeline.run.runner.run (selection, resume_anyway, say).
    """
    from pipeline.environment import set_environment
    from pipeline.run.runner import run
    from pipeline.store.store import Store

    set_environment()
    return run(recipe, Store(Path(runs)), **options)
