"""`posttrain check --show-mask`: the first rows of an SFT stage as its model will see them.

The one part of `check` that loads a tokenizer, and with it torch. What a model is trained to write
is green on a terminal and stands between « and » elsewhere.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.recipe.references import LocalModel, StageOutput, model_source
from pipeline.run.hub_lock import read_lock
from pipeline.stage import StageInput
from pipeline.stages import stage_of
from pipeline.stages.sft import SftConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pipeline.recipe.config import DataBlock
    from pipeline.run.plan import Plan


def print_masks(plan: Plan, stage_name: str, *, rows: int, console: Console) -> None:
    """Print the first `rows` rows of each source of an SFT stage, the trained part marked.

    Raises PosttrainError for other stages, and when the model's stage has not run yet.
    """
    config = plan.stage(stage_name).config
    if not isinstance(config, SftConfig):
        others = [each.name for each in plan.stages if isinstance(each.config, SftConfig)]
        hint = f"there is {', '.join(others)}" if others else "this recipe has none"
        message = f"--show-mask shows sft stages, and `{stage_name}` is of the kind {config.stage}"
        raise plan.recipe.error(("stages", stage_name, "stage"), message, hint)
    source = _model(plan, stage_name, config)
    from pipeline.run.worker import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from pipeline.models import load_tokenizer

    tokenizer = load_tokenizer(source)
    defaults = stage_of(config.stage).training_defaults
    max_length: int = {**defaults, **config.training_args}["max_length"]
    for block in config.data:
        _print_source(plan, block, tokenizer, rows=rows, max_length=max_length, console=console)


def _model(plan: Plan, stage_name: str, config: SftConfig) -> StageInput:
    """Return the model that the stage trains; its tokenizer lies in the same place."""
    location = ("stages", stage_name, "model")
    try:
        source = model_source(config.model, plan.recipe.places)
    except ValueError as error:
        raise plan.recipe.error(location, str(error)) from error
    if isinstance(source, StageOutput):
        artifact = plan.stage(source.name).artifact
        if artifact is None:
            message = f"`{source.name}` has not run yet, so there is no tokenizer to show rows with"
            hint = f"first `posttrain run {plan.recipe.path} --until {source.name}`"
            raise plan.recipe.error(location, message, hint)
        return StageInput(source.name, "policy", str(artifact.path), artifact.properties)
    if isinstance(source, LocalModel):
        return StageInput(config.model, "policy", str(source.path))
    revision = source.revision or read_lock(plan.recipe.path).get(f"models/{source.id}")
    return StageInput(config.model, "policy", source.id, revision=revision)


def _print_source(
    plan: Plan, block: DataBlock, tokenizer: Any, *, rows: int, max_length: int, console: Console
) -> None:
    from pipeline.data.blocks import records
    from pipeline.data.encode import encode_records, mask_segments

    found = records(block, plan.recipe.places, stage_of("sft").data_forms)
    examples, report = encode_records(islice(found, rows), tokenizer, max_length=max_length)
    for example in examples:
        num_trained = sum(label >= 0 for label in example.labels)
        counts = f"{len(example.input_ids)} tokens, {num_trained} trained"
        _print(f"{example.where}: {counts}", console, style="bold")
        shown = _marked(mask_segments(example, tokenizer), is_terminal=console.is_terminal)
        console.print(shown, soft_wrap=True)
    share = report.num_trained_tokens / report.num_tokens
    _print(
        f"{block.label}: rows {report.num_rows}, of them longer than max_length {max_length}: "
        f"{report.num_dropped_too_long}; tokens {report.num_tokens}, of them trained: "
        f"{report.num_trained_tokens} ({share:.0%})",
        console,
    )


def _marked(segments: list[tuple[str, bool]], *, is_terminal: bool) -> Text:
    from rich.text import Text

    text = Text()
    for segment, is_trained in segments:
        said = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in segment)
        if is_terminal:
            text.append(said, style="green" if is_trained else "dim")
        else:
            text.append(f"«{said}»" if is_trained else said)
    return text


def _print(line: str, console: Console, *, style: str | None = None) -> None:
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
