"""Recipe: a YAML file, read, checked and put in order.

Checks everything that can be known without looking at data or importing torch: shape and types,
unknown keys, references between stages, names of training arguments. Each error points at its line
and column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import PosttrainError, closest
from pipeline.recipe import training_args
from pipeline.recipe.config import Block, Launch, LaunchBlock, StageConfig, TrainingStage
from pipeline.recipe.references import Places, Reference, stage_references
from pipeline.recipe.yamlfile import Document, apply_overrides, read
from pipeline.stages import stage_of

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class RecipeFile(Block):
    """The top of a recipe: name, seed, how stages are launched, data folders, stages."""

    name: Annotated[str, Field(pattern=_NAME, max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    launch: Launch = LaunchBlock.model_validate({})
    roots: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]+$")], str] = {}  # noqa: RUF012  pydantic copies it
    stages: Annotated[
        dict[Annotated[str, Field(pattern=_NAME)], dict[str, Any]], Field(min_length=1)
    ]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; each of `stages` comes after what it is built on."""

    path: Path
    name: str
    seed: int
    launch: LaunchBlock
    stages: Mapping[str, StageConfig]
    places: Places
    document: Document

    def references(self, name: str) -> list[Reference]:
        """Return which stages the stage of this name is built on, and where it says so."""
        return stage_references(self.stages[name])

    def error(self, location: Location, message: str, hint: str = "") -> PosttrainError:
        """Return an error that points at a place in the file."""
        return PosttrainError(self.document.where(location), message, hint)


def load(
    path: Path, *, overrides: Sequence[str] = (), roots: Mapping[str, Path] | None = None
) -> Recipe:
    """Read and check a recipe.

    overrides: `stages.sft.batch_size=8`, as `--set` gives them. roots: data folders by name, over
    the recipe's own. Raises PosttrainError with file, line and column.
    """
    document = apply_overrides(read(path), list(overrides))
    top = _validate(RecipeFile, document.value, (), document)
    base = path.resolve().parent
    folders = {name: (base / folder).resolve() for name, folder in top.roots.items()}
    folders.update({name: folder.resolve() for name, folder in (roots or {}).items()})
    stages = {name: _stage(name, given, document) for name, given in top.stages.items()}
    recipe = Recipe(path, top.name, top.seed, top.launch, stages, Places(base, folders), document)
    for name, config in stages.items():
        _check_training_args(recipe, name, config)
    ordered = _in_order(recipe)
    return Recipe(path, top.name, top.seed, top.launch, ordered, Places(base, folders), document)


def _stage(name: str, given: Mapping[str, Any], document: Document) -> StageConfig:
    location: Location = ("stages", name)
    kind = given.get("stage")
    if kind is None:
        raise PosttrainError(
            document.where(location), f"stage `{name}` has no `stage:`", "say which kind it is"
        )
    if not isinstance(kind, str):
        raise PosttrainError(document.where((*location, "stage")), "`stage:` is not a name")
    try:
        stage = stage_of(kind)
    except ValueError as error:
        raise PosttrainError(document.where((*location, "stage")), str(error)) from error
    return _validate(stage.config, given, location, document)


def _validate(model: type[Model], value: Any, location: Location, document: Document) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _first_error(error, model, location, document) from error


def _first_error(
    error: ValidationError, model: type[BaseModel], location: Location, document: Document
) -> PosttrainError:
    """Return the error that stands first in the file, in our words."""
    found: list[tuple[tuple[int, int], PosttrainError]] = []
    for detail in error.errors(include_url=False):
        inner = detail["loc"]
        place = (*location, *inner)
        kind = detail["type"]
        key = next((part for part in reversed(inner) if isinstance(part, str)), "")
        if kind == "extra_forbidden":
            known = _keys_at(model, inner[:-1])
            message, hint = f"unknown key `{key}`", closest(str(key), known)
            hint = hint or f"there are {', '.join(known)}"
        elif kind == "missing":
            place = place[:-1]
            message, hint = f"`{key}` is missing", ""
        else:
            message, hint = _said(detail["msg"]), ""
            if key and f"`{key}`" not in message:
                message = f"`{key}`: {message}"
        is_key = kind == "extra_forbidden"
        where = document.where(place, key=is_key)
        position = document.position(place, key=is_key)
        found.append((position, PosttrainError(where, message, hint)))
    return min(found, key=lambda pair: pair[0])[1]


def _said(message: str) -> str:
    """Return pydantic's sentence without its prefix and capital."""
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:] if text.startswith(("Input", "String", "List")) else text


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys that the block at a location takes, as far as the types tell."""
    blocks: list[type[BaseModel]] = [model]
    for part in location:
        inner = [
            found
            for block in blocks
            for name, field in block.model_fields.items()
            if part in (name, field.alias)
            for found in _blocks_in(field.annotation)
        ]
        blocks = inner or blocks
    return sorted(
        {field.alias or name for block in blocks for name, field in block.model_fields.items()}
    )


def _blocks_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _blocks_in(part)]


def _check_training_args(recipe: Recipe, name: str, config: StageConfig) -> None:
    stage = stage_of(config.stage)
    if not isinstance(config, TrainingStage) or stage.trainer is None:
        return
    for key, value in config.training_args.items():
        found = training_args.problem(key, value, stage.trainer)
        if found:
            where = recipe.document.where(("stages", name, "training_args", key), key=True)
            raise PosttrainError(where, *found)


def _in_order(recipe: Recipe) -> dict[str, StageConfig]:
    """Return the stages so that each follows what it is built on; the file's order otherwise."""
    ordered: dict[str, StageConfig] = {}
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        trail.append(name)
        for reference in recipe.references(name):
            location = ("stages", name, *reference.location)
            target = reference.name
            if target not in recipe.stages:
                hint = closest(target, recipe.stages) or f"stages are {', '.join(recipe.stages)}"
                raise recipe.error(location, f"there is no stage `{target}`", hint)
            produces = stage_of(recipe.stages[target].stage).produces
            if produces not in reference.kinds:
                wanted = " or ".join(reference.kinds)
                raise recipe.error(
                    location, f"`${target}` gives a {produces}, here a {wanted} is needed"
                )
            if target in trail:
                circle = " -> ".join([*trail[trail.index(target) :], target])
                raise recipe.error(location, f"the stages go in a circle: {circle}")
            visit(target)
        trail.pop()
        ordered[name] = recipe.stages[name]

    for name in recipe.stages:
        visit(name)
    return ordered
