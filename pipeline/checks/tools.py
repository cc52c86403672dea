"""What a model that learns by rewards will be told of its tools, before anything is trained.

A user's function is not run here, so its description is not counted among a prompt's tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from eval.model import Form
    from pipeline.recipe.recipe import Recipe
    from pipeline.stages.rl.config import RolloutStage


def describe_tools(
    recipe: Recipe, name: str, config: RolloutStage, tokenizer: Any, form: Form
) -> str:
    """Return the descriptions that prompts begin with, as JSON; "" for none.

    Raises PosttrainError, at its place, for a model that continues documents and for a chat
    template that has no calls; InfrastructureError where programs cannot be confined.
    """
    if not config.tools:
        return ""
    place = ("stages", name, "tools")
    if form == "document":
        message = f"`{config.model}` continues documents, and tools are called in a chat"
        raise recipe.error(place, message, "train a chat model, or leave `tools` out")
    from pipeline.tools.use import load_tools, tool_settings, use_tools

    try:
        tools = load_tools([tool for tool in config.tools if tool.use is None], recipe.places)
        use_tools(tools, tokenizer, max_turns=config.max_turns)
    except PosttrainError as error:
        raise recipe.error(place, error.message, error.hint) from error
    return tool_settings(tools, tokenizer).tools
