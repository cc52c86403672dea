"""The tools of a recipe or of a caller, tied to a model's chat template."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eval.tools.calculator import calculator
from eval.tools.python import python_tool
from eval.tools.sql import sql_tool
from eval.tools.tool import Tool, make_tool
from eval.tools.toolbox import Toolbox
from eval.tools.turns import ToolUse
from pipeline.config.user_code import load_object
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.tool_turns import ToolTurns
from pipeline.data.reading.records import NO_SETTINGS, ChatSettings
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.model_files.chat_templates import template_variables
from pipeline.rewards.event_loop import start
from pipeline.tools.formats import choose_format
from reward.sandbox import SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import LanguageModel, Turn
    from eval.tools.calls import Call
    from pipeline.config.references import Places
    from pipeline.config.tools import ToolBlock


def load_tools(blocks: Sequence[ToolBlock], places: Places) -> list[Tool]:
    """Return the tools that a recipe names.

    Raises PosttrainError for a function that a model cannot be told of, or no database, and
    InfrastructureError where programs cannot be confined.
    """
    return [_load(block, places) for block in blocks]


def tools_of(functions: Sequence[Callable[..., Any] | Tool]) -> list[Tool]:
    """Return functions as tools, as TRL's `tools` takes them; a Tool is one already."""
    return [one if isinstance(one, Tool) else _of_function(one) for one in functions]


def use_tools(
    tools: Sequence[Tool],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_turns: int,
    variables: str = "",
) -> ToolUse:
    """Tie tools to a tokenizer's chat template. variables: JSON, for the template.

    Raises PosttrainError for a template that has no calls of tools.
    """
    if not tokenizer.chat_template:
        message = "a model calls tools in a chat, and the tokenizer has no chat template"
        raise PosttrainError("tools", message, "fine-tune it with a template that has tools")
    settings = replace(tool_settings(tools, tokenizer), variables=variables)
    turns = ToolTurns(tokenizer, settings)
    format_ = TemplateFormat(tokenizer, turns, [tool.schema for tool in tools])
    return ToolUse(Toolbox(tools, start), format_, max_turns)


def with_tools(model: LanguageModel, tools: Sequence[Tool], *, max_turns: int) -> LanguageModel:
    """Return a chat model that may call tools while it answers, and is told of them."""
    use = use_tools(tools, model.tokenizer, max_turns=max_turns)
    settings = tool_settings(tools, model.tokenizer)
    encoder = ChatEncoder(model.tokenizer)

    def encode_chat(turns: Sequence[Turn]) -> list[int]:
        return encoder.prompts([(turns, "the conversation", settings)])[0]

    return replace(model, tools=use, encode_chat=encode_chat)


def tool_settings(tools: Sequence[Tool], tokenizer: PreTrainedTokenizerBase) -> ChatSettings:
    """Return what prompts are encoded with, so that the model is told of its tools.

    Nothing for a template that shows none: the model must know its tools from its training.
    """
    text = tokenizer.chat_template
    if not tools or not isinstance(text, str) or "tools" not in template_variables(text):
        return NO_SETTINGS
    return ChatSettings(tools=json.dumps([tool.schema for tool in tools], ensure_ascii=False))


class TemplateFormat:
    """Calls and answers in tokens, as a tokenizer's chat template writes them."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, turns: ToolTurns, schemas: Sequence[Any]
    ) -> None:
        self._tokenizer = tokenizer
        self._turns = turns
        self._calls = choose_format(tokenizer, turns.opening, schemas)

    def read_calls(self, token_ids: Sequence[int]) -> list[Call]:
        """Return the calls in a turn that has ended."""
        return self._calls.read(self._decode(token_ids))

    def spoken(self, token_ids: Sequence[int]) -> str:
        """Return what a turn says beside its calls, without the token that ends it."""
        has_end = bool(token_ids) and token_ids[-1] in self._turns.end_ids()
        return self._calls.spoken(self._decode(token_ids[:-1] if has_end else token_ids)).strip()

    def answer_ids(self, answers: Sequence[tuple[str, str]], *, last_id: int) -> list[int]:
        """Return the ids between a turn that ends with last_id and where the model goes on."""
        return self._turns.answers_to_tools(answers, last_id=last_id)

    def _decode(self, token_ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)


def _load(block: ToolBlock, places: Places) -> Tool:
    limits = {"max_result_characters": block.max_result_characters}
    where = f"tool `{block.label}`"
    try:
        if block.name == "calculator":
            return make_tool(calculator, timeout_s=None, is_quick=True, **limits)
        if block.name == "python":
            return python_tool(timeout_s=block.timeout_s, **limits)
        if block.sql is not None:
            return sql_tool(places.file(block.sql), timeout_s=block.timeout_s, **limits)
        function = load_object(block.use or "", places.base)
        tool = replace(_of_function(function), timeout_s=block.timeout_s, **limits)
        return replace(tool, name=block.label, schema=_named(tool.schema, block.label))
    except SandboxUnavailable as error:
        raise InfrastructureError(where, str(error)) from error
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise PosttrainError(where, message, hint) from error


def _of_function(function: Any) -> Tool:
    if not callable(function):
        raise PosttrainError("tools", f"{type(function).__name__} is no function", "name another")
    try:
        return make_tool(function)
    except ValueError as error:
        raise PosttrainError("tools", str(error)) from error


def _named(schema: Any, name: str) -> dict[str, Any]:
    """Return a tool's description under the name that the recipe has for it."""
    return {**schema, "function": {**schema["function"], "name": name}}
