"""What a stage is: a kind of work, its config, and the context that it is passed when it runs.

A stage file (pipeline/stages/) defines a StageConfig and a function `run(config, context) ->
StageResult`, and binds them in one Stage. A running stage knows no store and no YAML: it reads its
inputs' folders, writes into `context.out` and returns what it measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipeline.config.blocks import READ_FORMS
from pipeline.config.references import HubModel, Places, StageOutput, model_source
from pipeline.errors import InterruptedRunError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.keeping import Keeping
    from pipeline.config.sharding import Sharding, Split
    from pipeline.config.stage_config import StageConfig

    Screens = Callable[[DataBlock, Iterable[Any]], Iterator[Any]]

# `data`: rows that data blocks read by `$name` (pipeline/data/made_rows.py has their layout).
# `files`: whatever a user's own stage writes; RefersTo(("files",)) names one.
ArtifactKind = Literal[
    "tokenizer", "policy", "reward_model", "data", "evaluation", "comparison", "files"
]


class Progress(Protocol):
    """Where a stage reports how far it is; shown with its rate and the time left."""

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` steps of `label` are over; `note` is shown beside."""
        ...


def say_nothing(line: str) -> None:
    """Show nothing: for all ranks but the first, and for tests."""


@dataclass(frozen=True)
class StageInput:
    """A finished stage that this one builds on, or a model from outside.

    name: `$stage` without the dollar, or the path or hub id as the recipe has it.
    properties: what the stage that made it recorded of it (`StageResult.properties`); {} for models
    from outside.
    revision: commit of a hub model, whose `path` is then its id.
    artifact: the name of its folder in the store, when a stage made it.
    """

    name: str
    kind: ArtifactKind
    path: str
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])
    revision: str | None = None
    artifact: str | None = None


@dataclass(frozen=True)
class StageContext:
    """What a running stage is passed.

    name: the stage's name in its recipe.
    out: the folder that is published when `run` returns.
    checkpoints: where training checkpoints go; `resume_from` is the newest whole one, or None.
    seal: writes a checkpoint's manifest (folder, step, last step, best checkpoint so far), without
    which the checkpoint does not count.
    outputs: the stages this one builds on, by name.
    parent_of: finds the model that a model was trained from; None if unknown.
    revisions: commit by hub id, from the recipe's lock.
    is_main: False on all ranks but the first of a distributed stage; only the first writes.
    processes: how many share the work. rank: which of them this one is, from 0.
    sharding: how the model is split over them; None where each has all of it.
    screen: passes on the rows of a source that may be trained on
    (pipeline/data/screening/screen.py); without a screen, all may.
    keeping: where its encoded rows are kept for other runs; None where they are not.
    run: the name of its run: the recipe's name, or `name/seed-3` as one of several seeds.
    answers: the folder of judges' answers, shared by stages and runs; None outside of a store.
    spending: the folder of what its judges took, in all attempts at it; None outside of a store.
    say: shows a line that stays, above what `progress` shows.
    """

    name: str
    out: Path
    checkpoints: Path
    outputs: Mapping[str, StageInput]
    seed: int
    places: Places
    progress: Progress
    should_stop: Callable[[], bool]
    seal: Callable[[Path, int, int, Path | None], None]
    resume_from: Path | None = None
    parent_of: Callable[[StageInput], StageInput | None] = lambda source: None
    revisions: Mapping[str, str] = field(default_factory=dict[str, str])
    is_main: bool = True
    processes: int = 1
    rank: int = 0
    sharding: Sharding | None = None
    screen: Screens | None = None
    keeping: Keeping | None = None
    run: str = ""
    answers: Path | None = None
    spending: Path | None = None
    say: Callable[[str], None] = say_nothing

    def stop_if_asked(self) -> None:
        """Raise InterruptedRunError when the user asked to stop; for work without checkpoints."""
        if self.should_stop():
            raise InterruptedRunError(self.name, "stopped on request", "run again to start it anew")

    def model(self, reference: str) -> StageInput:
        """Return the model that a ModelRef of the config stands for."""
        try:
            source = model_source(reference, self.places)
        except ValueError as error:
            raise PosttrainError(self.name, str(error)) from error
        if isinstance(source, StageOutput):
            return self.outputs[source.name]
        if isinstance(source, HubModel):
            revision = source.revision or self.revisions.get(source.id)
            return StageInput(reference, "policy", source.id, revision=revision)
        return StageInput(reference, "policy", str(source.path))


@dataclass(frozen=True)
class StageResult:
    """What a stage measured (`metrics`) and what later stages need to know (`properties`)."""

    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    properties: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Stage:
    """One kind of stage.

    version: rises when the same config would give another result; it is part of every fingerprint.
    trainer: the upstream config class that `training_args` goes to, or None.
    training_defaults: our defaults, below the user's `training_args`.
    adapter_defaults: defaults that differ where an adapter is trained.
    data_forms: the forms of rows it reads; () when it reads no rows. measured_forms: the forms of
    fields that take different ones, as where their rows are only measured.
    reads_words: whether it takes the words of files, the hub and stages' rows in any form.
    is_seeded: whether the seed can change the result.
    is_distributed: whether several processes can share its work; the rest run in one.
    splits: what can be split over them: weights, gradients and moments, or moments alone.
    uses_device: whether it computes on a GPU, where there is one.
    """

    config: type[StageConfig]
    run: Callable[[Any, StageContext], StageResult]
    produces: ArtifactKind
    version: int
    trainer: str | None = None
    training_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    adapter_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data_forms: tuple[DataForm, ...] = ()
    measured_forms: Mapping[str, tuple[DataForm, ...]] = field(
        default_factory=dict[str, "tuple[DataForm, ...]"]
    )
    reads_words: bool = False
    is_seeded: bool = True
    is_distributed: bool = False
    splits: Split | None = None
    uses_device: bool = True

    def forms_of(self, config: StageConfig) -> tuple[DataForm, ...]:
        """Return the forms of the rows that a stage trains on."""
        has_data = bool(getattr(config, "data", ()))
        return self.measured_forms.get("data", self.data_forms) if has_data else self.data_forms

    def forms_for(self, field: str, block: DataBlock) -> tuple[DataForm, ...]:
        """Return the forms in which it reads one of its data blocks. field: that it stands in."""
        if self.reads_words and block.task is None:
            return READ_FORMS
        return self.measured_forms.get(field, self.data_forms)

    def defaults(self, config: StageConfig) -> dict[str, Any]:
        """Return our defaults for a stage, below the user's `training_args`."""
        is_adapter = getattr(config, "lora", None) is not None
        return {**self.training_defaults, **(self.adapter_defaults if is_adapter else {})}
