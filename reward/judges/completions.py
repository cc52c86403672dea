"""A chat completion, as the body that a server sent: its words and what it used, or what is wrong.

Read strictly where an answer depends on it, and never trusted where it is billed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from reward.judges.answers import strict_json
from reward.judges.exchange import NoReply

_SLACK_TOKENS = 20_000  # of a chat template, and of thoughts that are not shown


@dataclass(frozen=True)
class Completion:
    """words: of the answer, or why there are none. model: as it names itself, None if it does not.

    prompt_tokens, completion_tokens: None where the server gives no possible counts.
    """

    words: str | NoReply
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


def read_completion(body: str, *, prompt_bytes: int, max_tokens: int) -> Completion:
    """Read a body; prompt_bytes and max_tokens bound what its tokens can be."""
    if not body.strip():
        return Completion(NoReply("empty", "the server sent no body"), None, None, None)
    try:
        content = strict_json(body)
    except ValueError as error:
        return Completion(NoReply("not_json", f"{error}: {body[:80]!r}"), None, None, None)
    if not isinstance(content, dict):
        return Completion(_wrong("the body is no object"), None, None, None)
    fields = cast("dict[str, Any]", content)
    model, usage = fields.get("model"), fields.get("usage")
    counts = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    return Completion(
        _words(fields.get("choices")),
        model if isinstance(model, str) else None,
        _count(counts.get("prompt_tokens"), prompt_bytes + _SLACK_TOKENS),
        _count(counts.get("completion_tokens"), max_tokens + _SLACK_TOKENS),
    )


def _words(choices: Any) -> str | NoReply:
    """Return the content of the one choice that was asked for."""
    if not isinstance(choices, list) or len(cast("list[Any]", choices)) != 1:
        return _wrong("there is not exactly one choice")
    choice = cast("list[Any]", choices)[0]
    message = cast("dict[str, Any]", choice).get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return _wrong("the choice has no message")
    said = cast("dict[str, Any]", message)
    finish = cast("dict[str, Any]", choice).get("finish_reason")
    refusal, content = said.get("refusal"), said.get("content")
    if finish == "content_filter" or refusal:
        return NoReply("refusal", str(refusal or "the server's content filter")[:200])
    if finish == "length":
        return NoReply("cut_off", "the answer reached `max_tokens`")
    if content is None or content == "":
        return NoReply("empty", "the message has no content")
    return content if isinstance(content, str) else _wrong("the content is no text")


def _count(value: Any, most: int) -> int | None:
    return value if type(value) is int and 0 <= value <= most else None


def _wrong(what: str) -> NoReply:
    return NoReply("wrong_schema", what)
