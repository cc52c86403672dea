"""The form in which a server is asked for one of the options, and what its words say.

Read strictly: an answer is one of the options and nothing else, or it is none. Not the envelope
that the words come in (completions.py).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

from reward.judges.exchange import NoReply

if TYPE_CHECKING:
    from reward.judges.exchange import Request

FORM = 1  # raised when the same request is put in other words: a part of the cache's key
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,9}\Z")
_ANSWER_LINE = re.compile(r"^[ \t*]{0,4}Answer:(.*)$", re.MULTILINE)
_DECORATION = " \t\"'`*()[]"
_SHOWN = 80  # characters of an answer that is quoted in a message


def strict_json(text: str) -> Any:
    """Parse JSON in which every name is unique and every number finite; raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def response_format(request: Request) -> dict[str, Any]:
    """Return the JSON schema that a server is to hold the model to, as OpenAI writes it."""
    reason = {"reason": {"type": "string"}} if request.wants_reason else {}
    options = request.options or ()
    answer = (
        {"type": "integer", "enum": [int(option) for option in options]}
        if _are_numbers(options)
        else {"type": "string", "enum": list(options)}
    )
    properties = {**reason, "answer": answer}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


def form_in_words(request: Request, *, has_schema: bool) -> str:
    """Return how to answer, as the last lines of the question; empty for free text."""
    if request.options is None:
        return ""
    options = ", ".join(request.options)
    if not has_schema:
        if request.wants_reason:
            return (
                "\n\nGive your reasons first, then end with a line `Answer: ` "
                f"and one of these: {options}."
            )
        return f"\n\nAnswer with one of these and nothing else: {options}."
    value = "..." if _are_numbers(request.options) else '"..."'
    shape = f'"reason": "...", "answer": {value}' if request.wants_reason else f'"answer": {value}'
    first = " Give your reasons first." if request.wants_reason else ""
    return (
        f"\n\nAnswer with a JSON object {{{shape}}} and nothing else; "
        f"the answer is one of these: {options}.{first}"
    )


def read_answer(words: str, request: Request, *, has_schema: bool) -> tuple[str, str] | NoReply:
    """Return which option a server's words are, and the reason; for free text the words.

    A server that does not hold its model to a schema may be answered by the bare option.
    """
    if not words.strip():
        return NoReply("empty", "the answer is blank")
    if request.options is None:
        return words.strip(), ""
    text = words.strip()
    if not has_schema:
        return _read_plain(text, request)
    if not request.wants_reason and (option := _option(text, request.options)) is not None:
        return option, ""
    fenced = _FENCED.match(text)
    try:
        value = strict_json(fenced[1] if fenced else text)
    except ValueError as error:
        return NoReply("not_json", f"{error}: {text[:_SHOWN]!r}")
    return _read_object(value, request)


def _read_object(value: Any, request: Request) -> tuple[str, str] | NoReply:
    wanted = {"answer", "reason"} if request.wants_reason else {"answer"}
    if not isinstance(value, dict) or set(cast("dict[str, Any]", value)) != wanted:
        return NoReply(
            "wrong_schema", f"an object with {sorted(wanted)} is asked for: {value!r:.80}"
        )
    found = cast("dict[str, Any]", value)
    answer, reason = found["answer"], found.get("reason", "")
    options = request.options or ()
    kind = int if _are_numbers(options) else str
    if type(answer) is not kind or not isinstance(reason, str):
        return NoReply("wrong_schema", f"the answer is no {kind.__name__}: {answer!r:.80}")
    if str(answer) not in options:
        return NoReply("not_an_option", f"answered {answer!r:.80}")
    return str(answer), reason


def _read_plain(text: str, request: Request) -> tuple[str, str] | NoReply:
    options = request.options or ()
    if not request.wants_reason:
        option = _option(text, options)
        return (
            NoReply("not_an_option", f"answered {text[:_SHOWN]!r}")
            if option is None
            else (option, "")
        )
    stated = _ANSWER_LINE.findall(text)
    option = _option(stated[0], options) if len(stated) == 1 else None
    last_line = text.rpartition("\n")[2]
    if option is None or not _ANSWER_LINE.match(last_line):
        return NoReply("not_an_option", f"ends with {last_line[-_SHOWN:]!r}")
    return option, text[: len(text) - len(last_line)].strip()


def _option(text: str, options: tuple[str, ...]) -> str | None:
    """Return the option that a text is, but for quotes, brackets, stars and a full stop."""
    bare = text.strip(_DECORATION).removesuffix(".").strip(_DECORATION)
    return bare if bare in options else None


def _are_numbers(options: tuple[str, ...]) -> bool:
    return all(_INTEGER.match(option) and str(int(option)) == option for option in options)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")
