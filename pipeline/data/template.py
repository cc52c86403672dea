"""Chat templates: what a template writes, told apart from what people wrote.

A template is rendered with a mark in the place of each content, so its own text is known without
anybody's. It is foreign code: it runs in the sandbox of transformers, with little time and memory
(bounded.py) and with a clock that stands still: some templates write the date, and a data set must
not change overnight.
Tokens are chat.py's subject.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from jinja2 import TemplateError

from pipeline.data.bounded import TooSlowError, memory_limit, time_limit
from pipeline.errors import PosttrainError
from pipeline.recipe.template_text import template_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Turn

RENDER_LIMIT_S = 2.0
_MOST_WRITTEN = 1_000_000  # characters around the contents; the longest of TRL's writes 5,000
_TODAY = datetime(2024, 7, 26, tzinfo=UTC)  # the default date of Llama 3.1's template

Roles = tuple[str, ...]


@dataclass(frozen=True)
class Rendering:
    """What a template writes around contents.

    pieces: its texts, one more than there are contents.
    order: the message whose content follows each piece; some templates move the system message.
    """

    pieces: tuple[str, ...]
    order: tuple[int, ...]


class ChatTemplate:
    """A tokenizer's chat template; renderings are kept by the roles of a conversation."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        text = chat_template(tokenizer)
        problem = template_problem(text)
        if problem:
            name = str(tokenizer.name_or_path or "tokenizer")
            raise PosttrainError(name, problem, "give another template")
        self._text = _with_fixed_clock(text)
        self._mark = "qzx"
        while self._mark in self._text:
            self._mark += "q"
        self._renderings: dict[tuple[Roles, bool], Rendering] = {}

    def contents(self, turns: Sequence[Turn], where: str, *, prompt: bool = False) -> list[str]:
        """The contents of a conversation as the template writes them; an error if it changes them.

        White space around a content may go. `prompt`: with the generation prompt.
        """
        rendering = self.rendering(tuple(role for role, _ in turns), where, prompt=prompt)
        return _aligned(rendering, turns, self._render(turns, where, prompt=prompt), where)

    def rendering(self, roles: Roles, where: str, *, prompt: bool = False) -> Rendering:
        """What the template writes around the contents of a conversation with these roles."""
        if (roles, prompt) not in self._renderings:
            mark = self._mark
            turns = [(role, f"{mark}{number}{mark}") for number, role in enumerate(roles)]
            rendered = self._render(turns, where, prompt=prompt)
            pieces = re.split(f"{mark}([0-9]+){mark}", rendered)
            order = tuple(int(number) for number in pieces[1::2])
            for number, role in enumerate(roles):
                if order.count(number) != 1:
                    verb = "repeats" if number in order else "drops or rewrites"
                    what = f"the chat template {verb} the content of turn {number + 1} ({role})"
                    hint = "use a template that takes this order of roles, or change the data"
                    raise PosttrainError(where, what, hint)
            self._renderings[roles, prompt] = Rendering(tuple(pieces[0::2]), order)
        return self._renderings[roles, prompt]

    def _render(self, turns: Sequence[tuple[str, str]], where: str, *, prompt: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            with time_limit(RENDER_LIMIT_S), memory_limit():
                rendered = cast(
                    "str",
                    self._tokenizer.apply_chat_template(
                        messages,
                        chat_template=self._text,
                        tokenize=False,
                        add_generation_prompt=prompt,
                    ),
                )
        except TooSlowError as error:
            message = f"the chat template did not end within {RENDER_LIMIT_S:g} s"
            raise PosttrainError(where, message, "give another template") from error
        except _TEMPLATE_ERRORS as error:
            said = str(error) or type(error).__name__
            message = f"the chat template refuses this conversation ({said})"
            raise PosttrainError(where, message) from error
        num_written = len(rendered) - 10 * sum(len(content) for _, content in turns)
        if num_written > _MOST_WRITTEN:
            message = f"the chat template writes {len(rendered)} characters"
            raise PosttrainError(where, message, "give another template")
        return rendered


def chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template; an error if it has none."""
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        name = str(tokenizer.name_or_path or "tokenizer")
        hint = "use data of the form prompt_completion, or give the tokenizer a chat template"
        raise PosttrainError(name, "the tokenizer has no chat template", hint) from error


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 of the chat template's text."""
    return hashlib.sha256(chat_template(tokenizer).encode()).hexdigest()


def _with_fixed_clock(template: str) -> str:
    """The template with a `strftime_now` that always gives one day.

    It stands on a line of its own, which Jinja drops: white space at the template's start stays.
    """
    if "strftime_now" not in template:
        return template
    filters = "".join(
        f" | replace('%{code}', '{_TODAY.strftime(f'%{code}')}')"
        for code in ("-d", "-m", *"aAbBcdHIjmMpSuwxXyY")
    )
    macro = "{%- macro strftime_now(format) -%}{{ format" + filters + " }}{%- endmacro %}"
    return f"{macro}\n{template}"


def _aligned(
    rendering: Rendering, turns: Sequence[tuple[str, str]], rendered: str, where: str
) -> list[str]:
    """The contents as the template wrote them: whole, or without the white space around them."""
    contents = [content for _, content in turns]
    at = len(rendering.pieces[0])
    is_whole = rendered.startswith(rendering.pieces[0])
    for message, piece in zip(rendering.order, rendering.pieces[1:], strict=True):
        content = contents[message]
        kept = (content, content.strip(), content.rstrip(), content.lstrip())
        newlines = (content.strip("\n"), content.rstrip("\n"), content.lstrip("\n"))
        fitting = [each for each in kept + newlines if rendered.startswith(each + piece, at)]
        if not fitting or not is_whole:
            role = turns[message][0]
            what = f"the chat template drops or rewrites the content of turn {message + 1} ({role})"
            hint = "some templates cut reasoning out; change the content or give another template"
            raise PosttrainError(where, what, hint)
        contents[message] = fitting[0]
        at += len(fitting[0]) + len(piece)
    if at != len(rendered):
        raise PosttrainError(where, "the chat template adds text that depends on the contents")
    return contents


# What Python code that somebody else wrote may raise.
_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    AssertionError,
    MemoryError,
    NameError,
    RuntimeError,
    SyntaxError,  # Python's own limits on what Jinja makes of a template
    TypeError,
    ValueError,
)
