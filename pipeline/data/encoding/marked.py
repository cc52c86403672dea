"""Conversations with marks in the place of what people wrote, and what a template made of them.

A template that is rendered with marks shows its own text without anybody's, so that nobody's text
can be taken for it. Marked are contents and reasoning; tools, names and arguments of calls are
handed on as they are, since templates read them, and must not spell a control token.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.data.reading.records import NO_SETTINGS, Message
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.data.encoding.template import ChatTemplate

# The keys that templates read reasoning from; the first that a template names is given.
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_THOUGHT = re.compile(r"(\s*(?:<think>)?\s*)(.*?)(\s*</think>\s*)(.*)", re.DOTALL)
_INLINE = ("<think>\n", "\n</think>\n\n")  # where a template knows no reasoning
# Qwen 3 looks whether a user's turn is a tool's answer; it must find in marks what is in the text.
_TOOL_ANSWER = re.compile(r"(<tool_response>)(.*)(</tool_response>)", re.DOTALL)


@dataclass(frozen=True)
class Leaf:
    """What somebody wrote in a turn; a mark's number is its place in a list."""

    message: int
    kind: Literal["content", "reasoning"]
    text: str


@dataclass(frozen=True)
class Marked:
    """A conversation for a template.

    given: with marks; real: with what is written. The first messages of both are a conversation,
    too, since the numbers of marks count up.
    """

    given: list[dict[str, Any]]
    real: list[dict[str, Any]]
    leaves: list[Leaf]


class Marks:
    """Marks that a template does not write, and how contents and reasoning are given to it."""

    def __init__(self, template: ChatTemplate) -> None:
        self._mark = "qzx"
        while self._mark in template.text:
            self._mark += "q"
        self._pattern = re.compile(f"{self._mark}([0-9]+){self._mark}")
        self._key = next((key for key in _REASONING_KEYS if _reads(template.text, key)), None)
        self._reads_thoughts = self._key is not None or "</think>" in template.text
        self._takes_parts = not self._shows(self._mark, template) and self._shows(
            _parts(self._mark), template
        )

    def mark(self, messages: Sequence[Message], *, as_objects: bool = True) -> Marked:
        """Put marks into a conversation; as_objects: arguments as objects, else as text."""
        marked = Marked([], [], [])
        for number, original in enumerate(messages):
            message, (opening, closing) = self._part_reasoning(original)
            asked_with, real = (_fields(message, as_objects=as_objects) for _ in range(2))
            if message.reasoning.strip():
                mark = _next(marked, self._mark, Leaf(number, "reasoning", message.reasoning))
                if self._key is not None:
                    asked_with[self._key], real[self._key] = mark, message.reasoning
                else:
                    asked_with["content"] = f"{opening}{mark}{closing}"
                    real["content"] = f"{opening}{message.reasoning}{closing}"
            real["content"] += message.content
            if message.content.strip():
                answer = _TOOL_ANSWER.fullmatch(message.content) if message.role == "user" else None
                before, text, after = answer.groups() if answer else ("", message.content, "")
                mark = _next(marked, self._mark, Leaf(number, "content", text))
                asked_with["content"] += f"{before}{mark}{after}"
            else:
                asked_with["content"] += message.content
            if self._takes_parts:
                asked_with, real = (
                    {**one, "content": _parts(one["content"])} for one in (asked_with, real)
                )
            marked.given.append(asked_with)
            marked.real.append(real)
        return marked

    def pieces(self, rendered: str) -> tuple[list[str], list[int]]:
        """Return the texts between marks, one more than there are marks, and the marks' numbers."""
        parts = self._pattern.split(rendered)
        return parts[0::2], [int(number) for number in parts[1::2]]

    def places(self, rendered: str) -> dict[int, tuple[int, int]]:
        """Return where each mark begins and ends."""
        return {int(match[1]): match.span() for match in self._pattern.finditer(rendered)}

    def _shows(self, content: Any, template: ChatTemplate) -> bool:
        """Whether the template writes a user's content that is given so."""
        user = {"role": "user", "content": content}
        try:
            return self._mark in template.render([user], NO_SETTINGS, "")
        except PosttrainError:
            return False

    def _part_reasoning(self, message: Message) -> tuple[Message, tuple[str, str]]:
        """Reasoning in a content taken out of it, for a template that knows it; what was around."""
        if message.role != "assistant" or message.reasoning or not self._reads_thoughts:
            return message, _INLINE
        match = _THOUGHT.fullmatch(message.content)
        if match is None:
            return message, _INLINE
        opening, reasoning, closing, content = match.groups()
        return replace(message, reasoning=reasoning, content=content), (opening, closing)


def _parts(content: str) -> list[dict[str, str]]:
    """A content as models that see are given it."""
    return [{"type": "text", "text": content}] if content else []


def _fields(message: Message, *, as_objects: bool) -> dict[str, Any]:
    """A turn as a template reads it, without what is marked."""
    fields: dict[str, Any] = {"role": message.role, "content": ""}
    if message.name:
        fields["name"] = message.name
    if message.call_id:
        fields["tool_call_id"] = message.call_id
    if message.calls:
        fields["tool_calls"] = [
            {
                **({"id": call.call_id} if call.call_id else {}),
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": arguments_of(call.arguments) if as_objects else call.arguments,
                },
            }
            for call in message.calls
        ]
    return fields


def turn_fields(message: Message) -> dict[str, Any]:
    """A turn as reward functions are handed it, in the form that templates read."""
    thought = {"reasoning_content": message.reasoning} if message.reasoning else {}
    return {**_fields(message, as_objects=True), "content": message.content, **thought}


def _next(marked: Marked, mark: str, leaf: Leaf) -> str:
    marked.leaves.append(leaf)
    return f"{mark}{len(marked.leaves) - 1}{mark}"


def arguments_of(text: str) -> Any:
    """Return the arguments of a call as the object that they are; other text as it is."""
    try:
        arguments = json.loads(text)
    except ValueError:
        return text
    return arguments if isinstance(arguments, dict) else text


def align_leaves(
    pieces: Sequence[str], order: Sequence[int], marked: Marked, rendered: str, where: str
) -> list[str]:
    """Return what each leaf is in the text that a template wrote: whole, or without white space.

    pieces, order: of the same conversation with marks. Raises PosttrainError, with the turn, where
    the template changes what is written.
    """
    texts = [leaf.text for leaf in marked.leaves]
    at = len(pieces[0])
    is_whole = rendered.startswith(pieces[0])
    for number, piece in zip(order, pieces[1:], strict=True):
        text = texts[number]
        kept = (text, text.strip(), text.rstrip(), text.lstrip())
        newlines = (text.strip("\n"), text.rstrip("\n"), text.lstrip("\n"))
        fitting = [
            skipped for skipped in kept + newlines if rendered.startswith(skipped + piece, at)
        ]
        if not fitting or not is_whole:
            raise leaf_error(marked, number, where)
        texts[number] = fitting[0]
        at += len(fitting[0]) + len(piece)
    if at != len(rendered):
        raise PosttrainError(where, "the chat template adds text that depends on the contents")
    return texts


def leaf_error(
    marked: Marked, leaf: int, where: str, verb: str = "drops or rewrites"
) -> PosttrainError:
    """Return the error for a leaf that the template does not write as it is."""
    leaf_found = marked.leaves[leaf]
    role = marked.given[leaf_found.message]["role"]
    sentence = (
        f"the chat template {verb} the {leaf_found.kind} of turn {leaf_found.message + 1} ({role})"
    )
    hint = "`chat_template:` names another one; or change the data"
    return PosttrainError(where, sentence, hint)


def _reads(template: str, key: str) -> bool:
    return re.search(rf"\b{key}\b", template) is not None
