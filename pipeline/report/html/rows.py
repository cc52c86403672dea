"""The first rows of each training stage as its model saw them, the trained part marked.

Needs the stage's tokenizer, and with it transformers. What cannot be shown says why: a report of
results does not fail because the data has moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.commands.export import without_places
from pipeline.config.stage import StageInput
from pipeline.config.training_stage import TrainingOnData
from pipeline.errors import PosttrainError
from pipeline.recipe.row_limit import row_limit
from pipeline.report.html.samples import cut
from pipeline.report.point_rows import one_a_sweep
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.config.blocks import DataBlock
    from pipeline.data.encoding.preview import PreviewRow
    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.report.html.run_source import ReportedRun, ReportedStage

_PER_SOURCE = 2
_LOOKED_AT = 32  # rows of a source; those that are too long are passed over, as in training
_SHOWN_FORMS = {"text", "prompt_completion", "chat", "preference", "unpaired_preference"}


@dataclass(frozen=True)
class Part:
    """A run of tokens: whether the loss is taken on them, or they are only read."""

    text: str
    is_trained: bool


@dataclass(frozen=True)
class Row:
    """One row. label: `chosen`, say, before each of its texts; counts: its tokens, in words."""

    source: str
    counts: str
    texts: tuple[tuple[str, tuple[Part, ...]], ...]


@dataclass(frozen=True)
class StageRows:
    """The rows of a training stage, or why none are shown."""

    stage: str
    kind: str
    rows: tuple[Row, ...]
    trouble: str = ""


def training_rows(run: ReportedRun) -> tuple[StageRows, ...]:
    """Return a few rows of each source of each finished training stage; none without a plan.

    Of a sweep, the first finished stage's: the others read the same, or more of it.
    """
    if run.plan is None:
        return ()
    plan = run.plan
    trained = {stage.name: stage for stage in run.present if _is_training(stage)}
    return tuple(_of_stage(plan, trained[name]) for name in one_a_sweep(list(trained)))


def _is_training(stage: ReportedStage) -> bool:
    try:
        return issubclass(stage_of(stage.kind).config, TrainingOnData)
    except ValueError:  # made by a package that is not installed here
        return False


def _of_stage(plan: Plan, stage: ReportedStage) -> StageRows:
    def none(why: str) -> StageRows:
        return StageRows(stage.name, stage.kind, (), why)

    if stage.name not in plan.recipe.stages:
        return none("the recipe has no such stage any more")
    planned = plan.stage(stage.name)
    assert stage.artifact is not None
    if planned.identity.get("data") != stage.artifact.identity.get("data"):
        return none("the recipe's data is not what this stage was trained on any more")
    try:
        return StageRows(stage.name, stage.kind, tuple(_rows(plan, planned, stage)))
    except PosttrainError as error:
        return none(str(error))


def _rows(plan: Plan, planned: PlannedStage, stage: ReportedStage) -> Iterator[Row]:
    config, kind = planned.config, stage_of(stage.kind)
    assert isinstance(config, TrainingOnData)
    assert stage.artifact is not None
    if _SHOWN_FORMS.isdisjoint(kind.data_forms):
        return
    from pipeline.data.encoding.preview import preview_block
    from pipeline.models.load import load_tokenizer

    tokenizer = load_tokenizer(StageInput(stage.name, "policy", str(stage.artifact.path)))
    num_read = _PER_SOURCE if kind.data_forms == ("text",) else _LOOKED_AT
    limit = row_limit(plan.recipe, config)
    for block in config.sources:
        preview = preview_block(
            block, plan.recipe.places, tokenizer, kind.data_forms, num_read=num_read, limit=limit
        )
        yield from (_row(block, row) for row in preview.rows[:_PER_SOURCE])


def _row(block: DataBlock, shown: PreviewRow) -> Row:
    texts = tuple(
        (
            f"{label} ({shown.flaw})" if label == "rejected" and shown.flaw else label,
            tuple(Part(cut(text), is_trained) for text, is_trained in segments),
        )
        for label, segments in shown.texts
    )
    return Row(_label(block), shown.counts, texts)


def _label(block: DataBlock) -> str:
    return str(without_places(block.label))
