"""A recipe's YAML file, read, checked, and its stages put in order.

Checks everything that can be known without reading data or importing torch: shape and types,
unknown keys, references between stages, names of training arguments, lengths that a model cannot
take. Errors point at line and column.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from pipeline.config.argument_values import number_problem
from pipeline.config.blocks import COLUMNS, DataBlock
from pipeline.config.point_names import without_points
from pipeline.config.references import (
    Places,
    Reference,
    dataset_problem,
)
from pipeline.config.shipped_recipes import is_shipped, recipe_path
from pipeline.config.stage_config import StageConfig
from pipeline.config.training_args import place_of
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import PosttrainError, closest
from pipeline.files.names import RECORD, REPORT
from pipeline.files.text_files import TEXT_ENDINGS, ending
from pipeline.recipe.checks.choice import check_choice
from pipeline.recipe.checks.gate import check_gate
from pipeline.recipe.checks.licences import check_licences, licence_blocks
from pipeline.recipe.checks.made_rows import check_made_rows
from pipeline.recipe.checks.measuring import check_measuring
from pipeline.recipe.checks.rollout_engine import check_answers_engine
from pipeline.recipe.checks.rollouts import check_rollouts
from pipeline.recipe.checks.scaling_law import check_scaling_law
from pipeline.recipe.checks.tools import check_tools
from pipeline.recipe.checks.training import check_training
from pipeline.recipe.launching import check_launch, check_launch_of
from pipeline.recipe.messages import Location, first_error
from pipeline.recipe.recipe import Recipe, RecipeFile
from pipeline.recipe.slurm import check_slurm
from pipeline.recipe.sweeps.checks import list_problem, refuse_same_points, ways_to_name
from pipeline.recipe.sweeps.expand import Expansion, expand
from pipeline.recipe.yaml.document import Document, apply_overrides, read
from pipeline.stages import few_kinds, stage_for, stage_of
from pipeline.text.values import quote, shorten

# What access tokens look like: Hugging Face, OpenAI and Anthropic, GitHub, AWS.
_SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36}|AKIA[0-9A-Z]{16})\b"
)
Model = TypeVar("Model", bound=BaseModel)
# What else lies in runs/ beside the runs, and in a run's folder beside links to its stages.
_IN_RUNS = ("store", "compare")
_IN_A_RUN = (RECORD, REPORT)


def load(
    path: Path, *, overrides: Sequence[str] = (), roots: Mapping[str, Path] | None = None
) -> Recipe:
    """Read and check a recipe.

    path: a file, or the name of a recipe that comes with posttrain.
    overrides: `stages.sft.batch_size=8`, as `--set` gives them. roots: data folders by name, over
    the recipe's own. Raises PosttrainError with file, line and column.
    """
    document = apply_overrides(read(recipe_path(path)), list(overrides))
    return load_document(document, roots=roots)


def load_document(document: Document, *, roots: Mapping[str, Path] | None = None) -> Recipe:
    """Check a recipe that was read, with what the command line overrides; as `load`."""
    path = document.path
    _refuse_values(document)
    top = _validate(RecipeFile, document.value, (), document)
    _refuse_taken_names(top, document)
    expansion = expand(document)
    document = expansion.document
    stages = {
        name: _stage(name, fields, expansion) for name, fields in document.value["stages"].items()
    }
    refuse_same_points(expansion, stages)
    places = _places(path, top, document, roots or {})
    recipe = Recipe(
        path,
        top.name,
        top.seed,
        top.launch,
        stages,
        places,
        document,
        decontaminate=top.decontaminate,
        sweeps=expansion.sweeps,
        jobs=top.jobs,
        threads=top.threads,
    )
    check_launch(recipe, top.launch, ("launch",))
    for name, config in stages.items():
        _check_data(recipe, name, config)
        check_launch_of(recipe, name)
    check_slurm(recipe)
    ordered = _sort_stages(recipe)
    for name, config in ordered.items():
        if isinstance(config, TrainingStage):
            check_training(recipe, name, config)
        check_rollouts(recipe, name)
        check_measuring(recipe, name)
        check_answers_engine(recipe, name)
        check_tools(recipe, name)
        check_gate(recipe, name)
        check_made_rows(recipe, name)
        check_choice(recipe, name)
        check_licences(recipe, name)
        check_scaling_law(recipe, name)
    return replace(recipe, stages=ordered)


def _refuse_values(document: Document) -> None:
    """Refuse what is wrong anywhere: access tokens, and numbers that are not finite or too large.

    Recipes are copied beside every result, and compared with earlier ones.
    """
    for location, value in _scalars(document.value, ()):
        if isinstance(value, str) and _SECRET.search(value):
            hint = "take it out; log in with `hf auth login`, or put it into the environment"
            where = document.where(location)
            raise PosttrainError(where, "this looks like an access token", hint)
        problem = number_problem("", value)
        if problem:
            name = next((part for part in reversed(location) if isinstance(part, str)), "recipe")
            message = f"`{shorten(name)}` is {quote(value)}"
            raise PosttrainError(document.where(location), message, problem[1])


def _scalars(value: Any, location: Location) -> Iterator[tuple[Location, Any]]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _scalars(inner, (*location, key))
    elif isinstance(value, list):
        for number, inner in enumerate(cast("list[Any]", value)):
            yield from _scalars(inner, (*location, number))
    else:
        yield location, value


def _places(path: Path, top: RecipeFile, document: Document, roots: Mapping[str, Path]) -> Places:
    base = path.resolve().parent
    elsewhere = Path.cwd() if is_shipped(path) else None
    folders: dict[str, Path] = {}
    for name, folder in top.roots.items():
        try:
            folders[name] = Places(base).file(folder).resolve()
        except ValueError as error:
            raise PosttrainError(document.where(("roots", name)), str(error)) from error
    folders.update({name: folder.resolve() for name, folder in roots.items()})
    return Places(base, folders, elsewhere=elsewhere)


def _refuse_taken_names(top: RecipeFile, document: Document) -> None:
    """Refuse names that something else in runs/ has, which is not a run or a link to a stage."""
    if top.name.casefold() in _IN_RUNS:
        message = f"the name `{top.name}` is taken: runs/{top.name.casefold()} holds other results"
        raise PosttrainError(document.where(("name",)), message, "give the recipe another name")
    for name in top.stages:
        if name.casefold() in _IN_A_RUN:
            message = f"the name `{name}` is taken: a run writes a file of this name"
            raise PosttrainError(document.where(("stages", name)), message, "rename the stage")


def _stage(name: str, fields: Mapping[str, Any], expansion: Expansion) -> StageConfig:
    document = expansion.document
    location: Location = ("stages", name)
    kind = fields.get("stage")
    if kind is None:
        where = document.where(location)
        if location in document.overridden:
            others = [one for one in document.value["stages"] if one != name]
            hint = closest(name, others) or f"stages are {', '.join(others)}"
            raise PosttrainError(where, f"there is no stage `{name}`", hint)
        hint = f"write `stage: KIND`; kinds are {few_kinds()}"
        raise PosttrainError(where, f"`{name}` does not say which kind of stage it is", hint)
    if not isinstance(kind, str):
        hint = f"kinds are {few_kinds()}"
        raise PosttrainError(
            document.where((*location, "stage")), "`stage` is not the name of a kind", hint
        )
    try:
        stage = stage_for(kind, document.path.resolve().parent)
    except ValueError as error:
        raise PosttrainError(document.where((*location, "stage")), str(error)) from error
    try:
        return _validate(stage.config, fields, location, document, stage.trainer)
    except PosttrainError as error:
        cause = error.__cause__
        problem = (
            list_problem(expansion, location, cause) if isinstance(cause, ValidationError) else None
        )
        raise problem or error from cause


def _validate(
    model: type[Model],
    value: Any,
    location: Location,
    document: Document,
    trainer: str | None = None,
) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        elsewhere = partial(place_of, class_name=trainer)
        raise first_error(error, model, location, document, elsewhere=elsewhere) from error


def _check_data(recipe: Recipe, name: str, config: StageConfig) -> None:
    """Check what a data block names: its split, and our names in `columns`."""
    for field in (*config.trained_on, *config.measured_on):
        blocks: tuple[DataBlock, ...] = getattr(config, field, ())
        for number, block in enumerate(blocks):
            location: Location = ("stages", name, field, number)
            _check_block(recipe, location, block, is_trained=field in config.trained_on)
            is_counted = config.stage != "pretrain" and any(each.weight for each in blocks)
            if block.streaming and is_counted:
                message = "`weight` takes the number of all rows, which nobody knows of a stream"
                hint = "say with `rows` how many of each source are read, or leave one of them out"
                raise recipe.error((*location, "streaming"), message, hint)
    for location, block in licence_blocks(config):
        _check_block(recipe, ("stages", name, *location), block, is_trained=False)


def _check_block(recipe: Recipe, location: Location, block: DataBlock, *, is_trained: bool) -> None:
    for ours in block.columns:
        if ours not in COLUMNS:
            hint = closest(ours, COLUMNS) or f"they are {', '.join(COLUMNS)}"
            where = recipe.document.where((*location, "columns", ours), key=True)
            raise PosttrainError(where, f"`{ours}` is no column name of ours", hint)
    problem = None
    if block.hub is not None:
        problem = dataset_problem(block.hub, block.revision)
    if problem:
        raise recipe.error((*location, problem[0]), *problem[1:])
    if block.dedup is not None and _is_one_document(block):
        message = "`dedup` compares rows, and this file is one document"
        hint = "say with `separator` what divides it"
        raise recipe.error((*location, "dedup"), message, hint)
    if block.weight is not None and not is_trained:
        message = "`weight` is a share of a mix that is trained on, and this is measured"
        hint = "leave it out; `rows` says how many of a source are read"
        raise recipe.error((*location, "weight"), message, hint)
    if block.reads_test_split and (block.task is not None or is_trained):
        message = f"the split `{block.split}` is for evaluation only"
        hint = "use train or validation"
        raise recipe.error((*location, "split"), message, hint)
    if block.task is not None and block.split not in (None, "train", "validation"):
        hint = closest(str(block.split), ("train", "validation"))
        message = f"a task has no split `{block.split}`"
        raise recipe.error((*location, "split"), message, hint or "use train or validation")


def _is_one_document(block: DataBlock) -> bool:
    if block.file is None or block.separator is not None:
        return False
    return ending(Path(block.file)) in TEXT_ENDINGS


def _sort_stages(recipe: Recipe) -> dict[str, StageConfig]:
    """Return the stages after those that they build on, otherwise in the file's order."""
    ordered: dict[str, StageConfig] = {}
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        trail.append(name)
        for reference in recipe.references(name):
            location = ("stages", name, *reference.location)
            target = reference.name
            if not target:
                raise recipe.error(
                    location, "`$` needs the name of a stage after it", "write `$NAME`"
                )
            if target in recipe.sweeps:
                raise recipe.error(location, *ways_to_name(recipe.sweeps[target]))
            if target not in recipe.stages:
                hint = closest(target, recipe.stages) or f"stages are {recipe.listed_stages}"
                raise recipe.error(location, f"there is no stage `{target}`", hint)
            produces = stage_of(recipe.stages[target].stage).produces
            if produces not in reference.kinds:
                raise recipe.error(location, *_wrong_kind(recipe, name, produces, reference))
            if target in trail:
                circle = " -> ".join([*trail[trail.index(target) :], target])
                hint = "each stage builds on earlier ones only"
                raise recipe.error(location, f"the stages go in a circle: {circle}", hint)
            visit(target)
        trail.pop()
        ordered[name] = recipe.stages[name]

    for name in recipe.stages:
        visit(name)
    return ordered


def _wrong_kind(
    recipe: Recipe, asking: str, produces: str, reference: Reference
) -> tuple[str, str]:
    """Return the error for a reference to a stage that makes something else, and what fits."""
    word_by_kind = {
        "policy": "a model",
        "reward_model": "a reward model",
        "evaluation": "an evaluation",
        "data": "a set of rows",
    }
    expected = " or ".join(word_by_kind.get(kind, f"a {kind}") for kind in reference.kinds)
    named = [
        name
        for name, config in recipe.stages.items()
        if name != asking and stage_of(config.stage).produces in reference.kinds
    ]
    fitting = [f"`${name}`" for name in without_points(named)]
    actual = word_by_kind.get(produces, f"a {produces}")
    message = f"`${reference.name}` gives {actual}, here {expected} is needed"
    return message, f"that is {' or '.join(fitting)}" if fitting else "no stage here gives one"
