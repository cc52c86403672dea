"""A tokenizer's chat template, run: from conversations, as templates read them, to text.

A template is foreign code: it runs in the sandbox of transformers, with little time and memory
(time_limit.py), and with a clock that stands still, because some templates write the date and a
data set must not change overnight. Which of the text is the template's own is told apart in
frames.py, tokens are in chat.py.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from jinja2 import TemplateError

from pipeline.data.encoding.time_limit import TooSlowError, memory_limit, time_limit
from pipeline.errors import PosttrainError
from pipeline.model_files.template_text import template_problem

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.data.reading.records import ChatSettings

RENDER_LIMIT_S = 2.0
_MOST_WRITTEN = 1_000_000  # characters around contents; the longest template of TRL writes 5,000
_TODAY = datetime(2024, 7, 26, tzinfo=UTC)  # the default date of Llama 3.1's template
# Parameters of `apply_chat_template` that are decided here, so that a row cannot set them.
_DECIDED = frozenset(
    {
        *("conversation", "tools", "documents", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
        *("sanitize_control_tokens", "messages"),
    }
)


class TakesTooMuchError(Exception):
    """Raised where several conversations took too much; which of them is to be found out."""


class ChatTemplate:
    """A tokenizer's chat template. text: as it is run, with a clock that stands still."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        written = chat_template(tokenizer)
        problem = template_problem(written)
        if problem:
            name = str(tokenizer.name_or_path or "tokenizer")
            raise PosttrainError(name, problem, "give another template")
        self.text = _with_fixed_clock(written)
        self._is_limited = False

    @contextmanager
    def limited(self) -> Generator[None]:
        """Put the limits on all renderings of the block, which is a third faster than on each.

        Raises TakesTooMuchError where they were too much together: do them one by one.
        """
        try:
            with time_limit(RENDER_LIMIT_S), memory_limit():
                self._is_limited = True
                yield
        except (TooSlowError, MemoryError) as error:
            raise TakesTooMuchError from error
        finally:
            self._is_limited = False

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        settings: ChatSettings,
        where: str,
        *,
        prompt: bool = False,
    ) -> str:
        """Return what the template writes; prompt: with the generation prompt at the end.

        Raises PosttrainError for a conversation that it refuses, and if it takes too long.
        """
        variables: dict[str, Any] = json.loads(settings.variables) if settings.variables else {}
        if taken := sorted(_DECIDED & variables.keys()):
            message = (
                f"`chat_template_kwargs` gives `{taken[0]}`, which is no variable of a template"
            )
            raise PosttrainError(where, message, "take it out")
        try:
            with self._limits():
                rendered = cast(
                    "str",
                    self._tokenizer.apply_chat_template(
                        list(messages),
                        tools=json.loads(settings.tools) if settings.tools else None,
                        chat_template=self.text,
                        tokenize=False,
                        add_generation_prompt=prompt,
                        **variables,
                    ),
                )
        except (TooSlowError, MemoryError) as error:
            if self._is_limited:
                raise
            if isinstance(error, MemoryError):
                raise _refusal(error, where) from error
            message = f"the chat template did not end within {RENDER_LIMIT_S:g} s"
            raise PosttrainError(where, message, "give another template") from error
        except TEMPLATE_ERRORS as error:
            raise _refusal(error, where) from error
        if len(rendered) <= _MOST_WRITTEN:
            return rendered
        num_given = sum(len(str(message)) for message in messages) + len(settings.tools)
        if len(rendered) - 10 * num_given > _MOST_WRITTEN:
            message = f"the chat template writes {len(rendered)} characters"
            raise PosttrainError(where, message, "give another template")
        return rendered

    @contextmanager
    def _limits(self) -> Generator[None]:
        if self._is_limited:
            yield
            return
        with time_limit(RENDER_LIMIT_S), memory_limit():
            yield


def chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the tokenizer's chat template; PosttrainError if it has none."""
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        name = str(tokenizer.name_or_path or "tokenizer")
        hint = "use data of the form prompt_completion, or give the tokenizer a chat template"
        raise PosttrainError(name, "the tokenizer has no chat template", hint) from error


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 of the chat template's text."""
    return hashlib.sha256(chat_template(tokenizer).encode()).hexdigest()


def _refusal(error: Exception, where: str) -> PosttrainError:
    reason = str(error) or type(error).__name__
    message = f"the chat template refuses this conversation ({reason})"
    hint = "change the data, or name another template with `chat_template:`"
    return PosttrainError(where, message, hint)


def _with_fixed_clock(template: str) -> str:
    """Return the template with a `strftime_now` that always returns the same day.

    The macro stands on a line of its own, which Jinja drops, so that white space at the template's
    start stays.
    """
    if "strftime_now" not in template:
        return template
    filters = "".join(
        f" | replace('%{code}', '{_TODAY.strftime(f'%{code}')}')"
        for code in ("-d", "-m", *"aAbBcdHIjmMpSuwxXyY")
    )
    macro = "{%- macro strftime_now(format) -%}{{ format" + filters + " }}{%- endmacro %}"
    return f"{macro}\n{template}"


# What Python code of somebody else may raise.
TEMPLATE_ERRORS = (
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
