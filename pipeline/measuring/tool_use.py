"""The tools of a stage that measures, given to the models that it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.tools.use import load_tools, tool_settings, with_tools

if TYPE_CHECKING:
    from eval.model import LanguageModel
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
    return with_tools(model, tools, max_turns=config.max_turns), []


def told_tools(model: LanguageModel) -> str:
    """Return what a model's prompts tell it of its tools, as JSON; "" for nothing."""
    if model.tools is None:
        return ""
    return tool_settings(list(model.tools.toolbox.tool_by_name.values()), model.tokenizer).tools
