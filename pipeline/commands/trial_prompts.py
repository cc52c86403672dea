"""Prompts to try an exported model with: the first rows of what it was trained on, in turns."""

from __future__ import annotations

from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, cast

from pipeline.config.stage_config import TRAINED_ON
from pipeline.data.reading.data_blocks import read_records
from pipeline.data.reading.records import NO_SETTINGS, PromptRow, TextRow
from pipeline.errors import PosttrainError
from pipeline.llamacpp.agreement import Prompt
from pipeline.plan.plan import schedule_of
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eval.model import Turn
    from pipeline.config.blocks import DataBlock
    from pipeline.data.reading.records import Record
    from pipeline.plan.plan import Plan

_LONGEST_START = 160  # characters of a document that it is continued from, at most


def trial_prompts(plan: Plan, name: str, *, is_chat: bool, most: int) -> list[Prompt]:
    """Return distinct prompts from the data of a stage, or of those it is built on, latest first.

    Of a document its beginning. Raises PosttrainError where no stage of the chain has any data.
    """
    built_on = schedule_of(plan)[name]
    chain = [earlier for earlier in plan.stages if earlier.name == name or earlier.name in built_on]
    prompts: dict[Prompt, None] = {}
    for planned in reversed(chain):
        config: Any = planned.config
        blocks = [block for field in TRAINED_ON for block in getattr(config, field, None) or ()]
        forms = stage_of(planned.kind).data_forms
        sources = [_prompts(plan, block, forms == ("text",), is_chat=is_chat) for block in blocks]
        for row in zip_longest(*(islice(source, most) for source in sources)):
            prompts |= dict.fromkeys(prompt for prompt in row if prompt is not None)
            if len(prompts) >= most:
                return list(prompts)[:most]
    if not prompts:
        message = f"neither `{name}` nor a stage that it is built on has rows to try it with"
        raise PosttrainError(str(plan.recipe.path), message, "leave out --verify")
    return list(prompts)


def _prompts(plan: Plan, block: DataBlock, is_document: bool, *, is_chat: bool) -> Iterator[Prompt]:
    form = "text" if is_document or block.form == "text" else "prompt"
    source = block if form == "text" else block.model_copy(update={"form": None})
    for record in read_records(source, plan.recipe.places, (form,), seed=plan.recipe.seed):
        prompt = _prompt(record, is_chat=is_chat)
        if prompt is not None:
            yield prompt


def _prompt(record: Record, *, is_chat: bool) -> Prompt | None:
    """Return what a row asks; None for a row that asks nothing."""
    if isinstance(record, TextRow):
        start = record.text[: min(_LONGEST_START, len(record.text) // 2)]
        start = start.rsplit(None, 1)[0] if " " in start.strip() else start
        if not start.strip():
            return None
        return Prompt(turns=(("user", start.strip()),)) if is_chat else Prompt(text=start)
    if not isinstance(record, PromptRow):
        return None
    if is_chat:
        text = record.text or ""
        if record.messages:
            turns = _plain_turns(record)
            return Prompt(turns=turns) if turns else None
        return Prompt(turns=(("user", text),)) if text else None
    text = record.text or (record.messages[-1].content if record.messages else "")
    return Prompt(text=text) if text else None


def _plain_turns(row: PromptRow) -> tuple[Turn, ...]:
    """Return a conversation as roles and contents; empty for one with tools or reasoning."""
    if row.settings != NO_SETTINGS:
        return ()
    if any(
        message.role == "tool" or message.calls or message.reasoning for message in row.messages
    ):
        return ()
    return cast(
        "tuple[Turn, ...]", tuple((message.role, message.content) for message in row.messages)
    )
