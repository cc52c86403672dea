"""`posttrain check`: every row of a recipe's local data, and what a stage would train on."""

from collections.abc import Iterator, Sequence

from pipeline.data.checks import check_data
from pipeline.errors import PosttrainError
from pipeline.recipe.config import DataBlock, DataForm, StageConfig
from pipeline.recipe.load import Recipe
from pipeline.recipe.tasks import load_task
from pipeline.stages import stage_of


def check_recipe_data(recipe: Recipe, names: Sequence[str] | None = None) -> Iterator[str]:
    """Read every local file that the named stages (without names: all) use; yield a line a source.

    Raises PosttrainError at the first row that cannot be used. Hub data is not fetched, and
    generated tasks need no check. Imports no torch.
    """
    for name in names if names is not None else recipe.stages:
        for block, forms, held_out in _sources(recipe.stages[name]):
            if block.hub is not None or not forms:
                continue
            task = load_task(block.task, recipe.places.base) if block.task else None
            if task is not None and block.split == "test":
                raise PosttrainError(
                    recipe.document.where(("stages", name, "data")),
                    f"`{name}` asks for the test split of `{block.task}`",
                    "it is for evaluation only; use train or validation",
                )
            if task is not None:
                continue
            counts = check_data(block, recipe.places, forms, held_out=held_out)
            yield (
                f"{name}: {counts.label}: {counts.num_rows} rows ({counts.form}), "
                f"{counts.size_bytes} bytes, {counts.num_duplicates} duplicates"
            )


def _sources(
    config: StageConfig,
) -> Iterator[tuple[DataBlock, tuple[DataForm, ...], bool]]:
    """Yield a stage's data blocks, the forms it reads and whether it reads the held-out part."""
    forms = stage_of(config.stage).data_forms
    for block in getattr(config, "data", ()):
        yield block, forms, False
    for block in getattr(config, "texts", ()):
        yield block, forms, block.holdout is not None
