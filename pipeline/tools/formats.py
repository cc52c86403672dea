"""How the calls of a chat template are read: by its own marker, by transformers, or as JSON.

transformers parses a response by a `response_template`, which a tokenizer may bring, and TRL knows
those of published templates. Where `<tool_call>` holds JSON (Hermes, Qwen 2.5 and 3), our own
reader is used: of two calls in a turn it still runs the one that can be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from eval.tools.calls import Call, JsonCalls, call_of, marked_format
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.tools.calls import CallFormat

# What `set_variables` of model_files/chat_templates.py puts in front of a template.
_VARIABLE = re.compile(r"\A(?:\{%- if \w+ is not defined %\}\{% set .*%\}\{% endif %\}\n)+")
_MAX_REASON = 120


@dataclass(frozen=True)
class TemplateCalls:
    """Calls as transformers parses them out of a response.

    template: the `response_template`. opening: what the generation prompt writes of the turn.
    schemas: of the tools, by which texts become numbers where a template writes no types.
    """

    template: Any
    opening: str
    schemas: Sequence[Any] = field(default_factory=list[Any])

    def read(self, text: str) -> list[Call]:
        """Return the calls of a turn; one that says what is wrong where there is no parsing it."""
        message = self._parse(text)
        if isinstance(message, str):
            return [Call("", {}, f"the call cannot be read ({message})")]
        calls = message.get("tool_calls") or []
        return [call_of(call) for call in (calls if isinstance(calls, list) else [calls])]

    def spoken(self, text: str) -> str:
        """Return what a turn says beside its calls; nothing where there is no parsing it."""
        message = self._parse(text)
        return "" if isinstance(message, str) else str(message.get("content") or "")

    def _parse(self, text: str) -> dict[str, Any] | str:
        """Return the message that a turn is, or why it is none."""
        from transformers.utils.chat_parsing import parse_response

        try:
            return parse_response(
                text, self.template, prefix=self.opening, tools=list(self.schemas)
            )
        except (ValueError, TypeError, RecursionError, KeyError, AttributeError) as error:
            return " ".join(str(error).split())[:_MAX_REASON]


def choose_format(
    tokenizer: PreTrainedTokenizerBase, opening: str, schemas: Sequence[Any]
) -> CallFormat:
    """Return how calls are read; opening, schemas: as TemplateCalls has them."""
    text = tokenizer.chat_template
    assert isinstance(text, str)
    try:
        marked = marked_format(text)
    except ValueError as error:
        raise PosttrainError("chat_template", str(error)) from error
    if marked is not None:
        return JsonCalls(opening) if isinstance(marked, JsonCalls) else marked
    template = getattr(tokenizer, "response_template", None) or _known_response_template(text)
    if template is None or _holds_json(template):
        return JsonCalls(opening)
    return TemplateCalls(template, opening, schemas)


def _known_response_template(text: str) -> Any:
    """Return what TRL knows of a published template; None of another."""
    from trl.chat_template_utils import add_response_schema

    bare: Any = SimpleNamespace(chat_template=_VARIABLE.sub("", text))
    try:
        return add_response_schema(bare).response_template
    except ValueError:
        return None


def _holds_json(template: Any) -> bool:
    calls = template["fields"].get("tool_calls", {}) if isinstance(template, dict) else {}
    return calls.get("open") == "<tool_call>" and calls.get("content") == "json"
