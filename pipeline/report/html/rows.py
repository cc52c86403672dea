"""The first rows of each training stage as its model saw them, the trained part marked.

Needs the stage's tokenizer, and with it transformers. What cannot be shown says why: a report of
results does not fail because the data has moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.commands.export import without_places
from pipeline.config.stage import StageInput
from pipeline.config.training_stage import TrainingOnData
from pipeline.errors import PosttrainError
from pipeline.recipe.row_limit import row_limit
from pipeline.report.html.samples import cut
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places
    from pipeline.data.encoding.lengths import Limit
    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.report.html.run_source import ReportedRun, ReportedStage

_PER_SOURCE = 2
_LOOKED_AT = 32  # rows of a source; those that are too long are passed over, as in training
_SHOWN_FORMS = {"text", "prompt_completion", "chat", "preference"}


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
    """Return a few rows of each source of each finished training stage; none without a plan."""
    if run.plan is None:
        return ()
    plan = run.plan
    return tuple(_of_stage(plan, stage) for stage in run.present if _is_training(stage))


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
    from pipeline.models.load import load_tokenizer

    tokenizer = load_tokenizer(StageInput(stage.name, "policy", str(stage.artifact.path)))
    show: Callable[..., Iterator[Row]] = _examples
    if "preference" in kind.data_forms:
        show = _pairs
    elif kind.data_forms == ("text",):
        show = _documents
    limit = row_limit(plan.recipe, config)
    for block in config.sources:
        yield from show(block, plan.recipe.places, tokenizer, limit)


def _examples(block: DataBlock, places: Places, tokenizer: Any, limit: Limit) -> Iterator[Row]:
    from pipeline.data.encoding.examples import encode_records, mask_segments
    from pipeline.data.reading.blocks import records

    found = islice(records(block, places, stage_of("sft").data_forms), _LOOKED_AT)
    for example in encode_records(found, tokenizer, limit=limit)[0][:_PER_SOURCE]:
        trained = sum(label >= 0 for label in example.labels)
        parts = (Part(cut(text), is_told) for text, is_told in mask_segments(example, tokenizer))
        counts = f"{len(example.input_ids)} tokens, {trained} of them trained"
        yield Row(_label(block), counts, (("", tuple(parts)),))


def _pairs(block: DataBlock, places: Places, tokenizer: Any, limit: Limit) -> Iterator[Row]:
    from pipeline.data.encoding.pairs import encode_pairs
    from pipeline.data.reading.blocks import records
    from pipeline.data.reading.formats import PreferenceRow

    rows = (r for r in records(block, places, ("preference",)) if isinstance(r, PreferenceRow))
    found = islice(rows, _LOOKED_AT)
    for pair in encode_pairs(found, tokenizer, limit=limit)[0][:_PER_SOURCE]:
        prompt, chosen, rejected = (
            cut(str(tokenizer.decode(ids, skip_special_tokens=False)))
            for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
        )
        flaw = f" ({pair.flaw})" if pair.flaw else ""
        counts = (
            f"prompt {len(pair.prompt_ids)} tokens, chosen {len(pair.chosen_ids)}, "
            f"rejected {len(pair.rejected_ids)}"
        )
        texts = (
            ("prompt", (Part(prompt, is_trained=False),)),
            ("chosen", (Part(chosen, is_trained=True),)),
            (f"rejected{flaw}", (Part(rejected, is_trained=True),)),
        )
        yield Row(_label(block), counts, texts)


def _documents(block: DataBlock, places: Places, tokenizer: Any, _: object) -> Iterator[Row]:
    from pipeline.data.encoding.examples import document_tokens
    from pipeline.data.reading.blocks import records

    for ids in document_tokens(islice(records(block, places, ("text",)), _PER_SOURCE), tokenizer):
        text = str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))
        counts = f"{len(ids)} tokens, all trained"
        yield Row(_label(block), counts, (("", (Part(cut(text), is_trained=True),)),))


def _label(block: DataBlock) -> str:
    return str(without_places(block.label))
