"""The tools of a stage that measures, given to the models that it asks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.tools.use import load_tools, tool_settings, use_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.model import LanguageModel, Turn
    from pipeline.config.measuring_stage import MeasuringStage
    from pipeline.config.stage import StageContext


def give_tools(
    config: MeasuringStage, context: StageContext, model: LanguageModel
) -> tuple[LanguageModel, list[str]]:
    """Return the model with the stage's tools, and notes for people.

    A model of documents has no turns to call in: it is asked without. Raises PosttrainError for a
    chat template that has no calls of tools.
    """
    if not config.tools:
        return model, []
    if model.form == "document":
        return model, [f"`{model.name}` continues documents: it was asked without `tools`."]
    tools = load_tools(config.tools, context.places)
    use = use_tools(tools, model.tokenizer, max_turns=config.max_turns)
    settings = tool_settings(tools, model.tokenizer)
    encoder = ChatEncoder(model.tokenizer)

    def encode_chat(turns: Sequence[Turn]) -> list[int]:
        return encoder.prompts([(turns, "the conversation", settings)])[0]

    return replace(model, tools=use, encode_chat=encode_chat), []


def told_tools(model: LanguageModel) -> str:
    """Return what a model's prompts tell it of its tools, as JSON; "" for nothing."""
    if model.tools is None:
        return ""
    return tool_settings(list(model.tools.toolbox.tool_by_name.values()), model.tokenizer).tools
