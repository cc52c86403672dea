"""A recipe that was read and checked: its stages in order, and where every key stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from pipeline.config.blocks import Block, Launch, LaunchBlock
from pipeline.config.field_types import NAME, ROOT_NAME, Decontaminate
from pipeline.config.point_names import without_points
from pipeline.config.references import Places, Reference, stage_references
from pipeline.errors import PosttrainError, closest
from pipeline.recipe.sweeps.selectors import name_points, named_stages

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.messages import Location
    from pipeline.recipe.sweeps.points import Sweep
    from pipeline.recipe.yaml.document import Document


class RecipeFile(Block):
    """The top of a recipe.

    name: of the run, under which runs/ has its results. seed: for all stages without their own.
    launch: how the processes of stages are started. jobs: how many stages run side by side at most;
    `-j` takes precedence. threads: of each stage's process, whatever OMP_NUM_THREADS says; by
    default that, else the cores divided among what runs side by side.
    roots: data folders by name, for `name:file` in the recipe; `--root name=DIR` takes precedence.
    stages: by name; `$name` in a stage refers to the output of that stage.
    decontaminate: what becomes of training rows that hold items of the recipe's own evaluations:
    they are named (warn), dropped (drop) or refused (error).
    """

    name: Annotated[str, Field(pattern=NAME, max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    launch: Launch = LaunchBlock.model_validate({})
    jobs: PositiveInt = 1
    threads: PositiveInt | None = None
    decontaminate: Decontaminate = "warn"
    roots: dict[Annotated[str, Field(pattern=ROOT_NAME)], str] = {}  # noqa: RUF012  pydantic copies it
    stages: Annotated[
        dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]], Field(min_length=1)
    ]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe, whose `stages` come after those that they build on.

    is_of_several: whether it is one of several seeds with which the same recipe is run.
    sweeps: by the name of the stage that is swept; their points are among the stages.
    """

    path: Path
    name: str
    seed: int
    launch: LaunchBlock
    stages: Mapping[str, StageConfig]
    places: Places
    document: Document
    is_of_several: bool = False
    decontaminate: Decontaminate = "warn"
    sweeps: Mapping[str, Sweep] = field(default_factory=dict[str, "Sweep"])
    jobs: int = 1
    threads: int | None = None

    @property
    def run_name(self) -> str:
        """Where runs/ records its run: under its name, or name/seed-3 as one of several seeds."""
        return f"{self.name}/seed-{self.seed}" if self.is_of_several else self.name

    def with_seed(self, seed: int) -> Recipe:
        """Return the recipe as one of several seeds; a stage's own `seed` stays as it is."""
        return replace(self, seed=seed, is_of_several=True)

    def references(self, name: str) -> list[Reference]:
        """Return the stages that the stage of this name builds on, and where it names them."""
        return self._references[name]

    @cached_property
    def built_on(self) -> Mapping[str, frozenset[str]]:
        """All stages that each stage is built on, directly or not."""
        below: dict[str, frozenset[str]] = {}
        for name in self.stages:  # in order: what a stage is built on comes before it
            direct = frozenset(reference.name for reference in self._references[name])
            below[name] = direct.union(*(below[other] for other in direct))
        return below

    @cached_property
    def _references(self) -> Mapping[str, list[Reference]]:
        return {name: stage_references(config) for name, config in self.stages.items()}

    def stages_named(self, text: str) -> list[str]:
        """Return the stages that a command line names: one, or those of a sweep.

        Raises PosttrainError where there is none.
        """
        if text in self.stages:
            return [text]
        try:
            found = named_stages(text, self.sweeps)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            raise PosttrainError(str(self.path), message, hint) from error
        if found is None or not set(found) <= set(self.stages):
            raise self.unknown_stage(text)
        return found

    def unknown_stage(self, name: str) -> PosttrainError:
        """Return the error for a name that is no stage's."""
        if name in self.sweeps:
            points = self.sweeps[name].points
            message = f"`{name}` is a sweep of {len(points)} stages"
            return PosttrainError(str(self.path), message, f"name one: {name_points(points)}")
        hint = closest(name, self.stages) or f"stages are {self.listed_stages}"
        return PosttrainError(str(self.path), f"there is no stage `{name}`", hint)

    @property
    def listed_stages(self) -> str:
        """The names of all stages in a sentence, those of a sweep as `base[...]`."""
        return ", ".join(without_points(self.stages))

    def error(self, location: Location, message: str, hint: str = "") -> PosttrainError:
        """Return an error that points at a place in the file."""
        return PosttrainError(self.document.where(location), message, hint)
