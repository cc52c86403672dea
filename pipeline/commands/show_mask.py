"""`posttrain check --show-mask`: the first rows of a stage as its model will see them.

For stages that read prompts: with demonstrations, with preference pairs, or alone. The one part of
`check` that loads a tokenizer, and with it torch. What a model is trained to write (of a pair, both
responses; of a prompt alone, what it will write there) is green on a terminal and stands between «
and » elsewhere. What only spells a control token stands in double brackets: [[<|end|>]].
"""

from __future__ import annotations

from itertools import islice
from shlex import quote
from typing import TYPE_CHECKING

from pipeline.config.references import LocalModel, StageOutput, model_source
from pipeline.config.stage import StageInput
from pipeline.config.stage_config import WithTemplate
from pipeline.config.training_stage import TrainingStage
from pipeline.data.encoding.lengths import describe_rows
from pipeline.data.reading.records import needs_template
from pipeline.errors import printable
from pipeline.recipe.row_limit import row_limit
from pipeline.stages import stage_of
from pipeline.store.hub_lock import model_commits, read_lock
from pipeline.store.lineage import as_input, verify_closure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.text import Text

    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.stage_config import StageConfig
    from pipeline.data.encoding.preview import Preview, PreviewRow, Segment
    from pipeline.data.reading.records import Record
    from pipeline.plan.plan import Plan

_WITH_PROMPTS = frozenset(
    {"chat", "prompt_completion", "preference", "unpaired_preference", "prompt"}
)


def print_masks(plan: Plan, stage_name: str, *, rows: int, console: Console) -> None:
    """Print the first `rows` rows of each source of a stage, what the model writes marked.

    Raises PosttrainError for stages that read no prompts, and when the model's stage has not run.
    """
    config = plan.stage(stage_name).config
    if not isinstance(config, TrainingStage) or not _reads_prompts(config):
        others = [stage.name for stage in plan.stages if _reads_prompts(stage.config)]
        hint = f"there is {', '.join(others)}" if others else "this recipe has none"
        message = (
            f"--show-mask shows stages that read prompts, and `{stage_name}` is of the kind "
            f"{config.stage}"
        )
        raise plan.recipe.error(("stages", stage_name, "stage"), message, hint)
    source = _model(plan, stage_name, config)
    from pipeline.data.encoding.preview import preview_block
    from pipeline.models.forms import form_of_model
    from pipeline.models.load import load_tokenizer

    tokenizer = load_tokenizer(source)
    stage = stage_of(config.stage)
    if isinstance(config, WithTemplate):
        from pipeline.models.chat_templates import give_template

        is_chat = any(map(needs_template, _first(plan, config, stage.forms_of(config), rows)))
        commits = model_commits(plan.recipe.path)
        give_template(tokenizer, config, plan.recipe.places, commits, is_chat=is_chat)
    form = form_of_model(tokenizer, source.properties)
    limit = row_limit(plan.recipe, config)
    for block in config.sources:
        preview = preview_block(
            block, plan.recipe.places, tokenizer, stage.forms_of(config),
            num_read=rows, limit=limit, form=form,
        )  # fmt: skip
        _print_block(block, preview, console)


def _first(
    plan: Plan, config: TrainingStage, forms: tuple[DataForm, ...], rows: int
) -> Iterator[Record]:
    """Yield the rows of each source that are shown."""
    from pipeline.data.reading.data_blocks import read_records

    for block in config.sources:
        yield from islice(read_records(block, plan.recipe.places, forms), rows)


def _reads_prompts(config: StageConfig) -> bool:
    return not _WITH_PROMPTS.isdisjoint(stage_of(config.stage).data_forms)


def _model(plan: Plan, stage_name: str, config: TrainingStage) -> StageInput:
    """Return the model that the stage trains; its tokenizer lies in the same place."""
    location = ("stages", stage_name, "model")
    reference = getattr(config, "model", None)
    assert isinstance(reference, str), "a stage that reads prompts trains a model that is there"
    try:
        source = model_source(reference, plan.recipe.places)
    except ValueError as error:
        raise plan.recipe.error(location, str(error)) from error
    if isinstance(source, StageOutput):
        artifact = plan.stage(source.name).artifact
        if artifact is None:
            message = f"`{source.name}` has not run yet, so there is no tokenizer to show rows with"
            hint = f"first `posttrain run {plan.recipe.path} --until {quote(source.name)}`"
            raise plan.recipe.error(location, message, hint)
        verify_closure(artifact)
        return as_input(artifact, source.name)
    if isinstance(source, LocalModel):
        return StageInput(reference, "policy", str(source.path))
    revision = source.revision or read_lock(plan.recipe.path).get(f"models/{source.id}")
    return StageInput(reference, "policy", source.id, revision=revision)


def _print_block(block: DataBlock, preview: Preview, console: Console) -> None:
    """Print the rows of a source, and what was counted over them."""
    from pipeline.data.encoding.examples import EncodingReport

    for row in preview.rows:
        flaw = f"; flaw: {row.flaw}" if row.flaw else ""
        columns = f"; columns: {', '.join(row.columns)}" if row.columns else ""
        _print(f"{row.where}: {row.counts}{flaw}{columns}", console, style="bold")
        console.print(_mark(_segments(row), is_terminal=console.is_terminal), soft_wrap=True)
    report = preview.report
    assert report is not None, "stages that read prompts count their rows"
    counted = f"{block.label}: {describe_rows(report.metrics())}; tokens {report.num_tokens}"
    if isinstance(report, EncodingReport):
        share = report.num_trained_tokens / report.num_tokens
        counted += f", of them trained: {report.num_trained_tokens} ({share:.0%})"
    _print(counted, console)


def _segments(row: PreviewRow) -> list[Segment]:
    """Return all texts of a row in one, every one after the first under its label."""
    segments: list[Segment] = []
    for label, text in row.texts:
        segments += [(f"\n{label}: ", False)] if segments else []
        segments += text
    return segments


def _mark(segments: Sequence[Segment], *, is_terminal: bool) -> Text:
    from rich.text import Text

    text = Text()
    for segment, is_trained in segments:
        piece = printable(segment)
        if is_terminal:
            text.append(piece, style="green" if is_trained else "dim")
        else:
            text.append(f"«{piece}»" if is_trained else piece)
    return text


def _print(line: str, console: Console, *, style: str | None = None) -> None:
    console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)
