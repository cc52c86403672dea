"""Conversations with marks in place of what people wrote, and what a template makes of them.

Rendered with marks (`qzx0qzx`, `qzx1qzx`, ...), a template shows its own text alone, so that nobody
else's text can be mistaken for it. Contents and reasoning are marked. Tools, and the names and
arguments of calls, are passed as they are, since templates read them; they must not spell a control
token.
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

# The keys that templates read reasoning from; a message gets the first that its template names.
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_THOUGHT = re.compile(r"(\s*(?:<think>)?\s*)(.*?)(\s*</think>\s*)(.*)", re.DOTALL)
_INLINE = ("<think>\n", "\n</think>\n\n")  # where a template does not know reasoning
# Qwen 3's template tests whether a user's turn is a tool's answer, so these tags are not marked.
_TOOL_ANSWER = re.compile(r"(<tool_response>)(.*)(</tool_response>)", re.DOTALL)


@dataclass(frozen=True)
class Leaf:
    """What somebody wrote in a turn; the number of its mark is its index in `Marked.leaves`."""

    message: int
    kind: Literal["content", "reasoning"]
    text: str


@dataclass(frozen=True)
class Marked:
    """A conversation as a template is passed it, once with marks and once as it was written.

    Any first messages of it are a conversation of their own: marks are numbered in order.
    """

    with_marks: list[dict[str, Any]]
    as_written: list[dict[str, Any]]
    leaves: list[Leaf]


class Marks:
    """Marks that a template does not write itself, and how it takes contents and reasoning."""

    def __init__(self, template: ChatTemplate) -> None:
        # Plain letters and digits, which a template trims, tests and joins like any text.
        self._mark = "qzx"
        while self._mark in template.text:
            self._mark += "q"
        self._pattern = re.compile(f"{self._mark}([0-9]+){self._mark}")
        self._key = next((key for key in _REASONING_KEYS if _reads(template.text, key)), None)
        self._reads_thoughts = self._key is not None or "</think>" in template.text
        # Templates of models that also take images may write lists of parts only, no plain texts.
        self._takes_parts = not self._shows(self._mark, template) and self._shows(
            _parts(self._mark), template
        )

    def mark(self, messages: Sequence[Message], *, as_objects: bool = True) -> Marked:
        """Put marks into a conversation; as_objects: arguments as objects, otherwise as text."""
        marked = Marked([], [], [])
        for number, original in enumerate(messages):
            message, (opening, closing) = self._part_reasoning(original)
            with_marks, as_written = (_fields(message, as_objects=as_objects) for _ in range(2))
            if message.reasoning.strip():
                mark = _next(marked, self._mark, Leaf(number, "reasoning", message.reasoning))
                if self._key is not None:
                    with_marks[self._key], as_written[self._key] = mark, message.reasoning
                else:
                    with_marks["content"] = f"{opening}{mark}{closing}"
                    as_written["content"] = f"{opening}{message.reasoning}{closing}"
            as_written["content"] += message.content
            if message.content.strip():
                answer = _TOOL_ANSWER.fullmatch(message.content) if message.role == "user" else None
                before, text, after = answer.groups() if answer else ("", message.content, "")
                mark = _next(marked, self._mark, Leaf(number, "content", text))
                with_marks["content"] += f"{before}{mark}{after}"
            else:
                # A blank content has no mark: templates test whether there is any.
                with_marks["content"] += message.content
            if self._takes_parts:
                with_marks["content"] = _parts(with_marks["content"])
                as_written["content"] = _parts(as_written["content"])
            marked.with_marks.append(with_marks)
            marked.as_written.append(as_written)
        return marked

    def word(self, name: str) -> str:
        """Return a word that no template writes itself, and that is no mark; name: letters."""
        return f"{self._mark}{name}{self._mark}"

    def pieces(self, rendered: str) -> tuple[list[str], list[int]]:
        """Return the texts around the marks, one more than there are marks, and their numbers."""
        parts = self._pattern.split(rendered)  # text, number, text, number, ..., text
        return parts[0::2], [int(number) for number in parts[1::2]]

    def places(self, rendered: str) -> dict[int, tuple[int, int]]:
        """Return the begin and end of every mark, by its number."""
        return {int(match[1]): match.span() for match in self._pattern.finditer(rendered)}

    def _shows(self, content: Any, template: ChatTemplate) -> bool:
        """Whether the template writes a user's content in this form."""
        user = {"role": "user", "content": content}
        try:
            return self._mark in template.render([user], NO_SETTINGS, "")
        except PosttrainError:
            return False

    def _part_reasoning(self, message: Message) -> tuple[Message, tuple[str, str]]:
        """Take `<think>...</think>` out of a content; return what stood around the reasoning too.

        Only for a template that knows reasoning: others get it as a part of the content.
        """
        if message.role != "assistant" or message.reasoning or not self._reads_thoughts:
            return message, _INLINE
        match = _THOUGHT.fullmatch(message.content)
        if match is None:
            return message, _INLINE
        opening, reasoning, closing, content = match.groups()
        return replace(message, reasoning=reasoning, content=content), (opening, closing)


def _parts(content: str) -> list[dict[str, str]]:
    """A content as a list of parts, which models that also take images read."""
    return [{"type": "text", "text": content}] if content else []


def _fields(message: Message, *, as_objects: bool) -> dict[str, Any]:
    """A turn as a template reads it, without what gets a mark."""
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
    """A turn as reward functions are passed it, in the form that templates read."""
    thought = {"reasoning_content": message.reasoning} if message.reasoning else {}
    return {**_fields(message, as_objects=True), "content": message.content, **thought}


def _next(marked: Marked, mark: str, leaf: Leaf) -> str:
    marked.leaves.append(leaf)
    return f"{mark}{len(marked.leaves) - 1}{mark}"


def arguments_of(text: str) -> Any:
    """Return the arguments of a call as an object, if that is what their JSON holds; else as is."""
    try:
        arguments = json.loads(text)
    except ValueError:
        return text
    return arguments if isinstance(arguments, dict) else text


def align_leaves(
    pieces: Sequence[str], order: Sequence[int], marked: Marked, rendered: str, where: str
) -> list[str]:
    """Return every leaf as the template writes it: whole, or without white space at its ends.

    pieces, order: of the same conversation rendered with marks. rendered: without. Raises
    PosttrainError, with the turn, where the template changes more than that.
    """
    texts = [leaf.text for leaf in marked.leaves]
    at = len(pieces[0])  # how far `rendered` is accounted for
    is_whole = rendered.startswith(pieces[0])
    for number, piece in zip(order, pieces[1:], strict=True):
        text = texts[number]
        # Templates trim both ends, one of them, or newlines alone (Qwen 3's reasoning).
        forms = (text, text.strip(), text.rstrip(), text.lstrip())
        newlines = (text.strip("\n"), text.rstrip("\n"), text.lstrip("\n"))
        fitting = next(
            (form for form in forms + newlines if rendered.startswith(form + piece, at)), None
        )
        if fitting is None or not is_whole:
            raise leaf_error(marked, number, where)
        texts[number] = fitting
        at += len(fitting) + len(piece)
    if at != len(rendered):
        raise PosttrainError(where, "the chat template adds text that depends on the contents")
    return texts


def leaf_error(
    marked: Marked, leaf: int, where: str, verb: str = "drops or rewrites"
) -> PosttrainError:
    """Return the error for a leaf, by its number, that the template does not write as it is."""
    turn, kind = marked.leaves[leaf].message, marked.leaves[leaf].kind
    role = marked.with_marks[turn]["role"]
    message = f"the chat template {verb} the {kind} of turn {turn + 1} ({role})"
    hint = "`chat_template:` names another one; or change the data"
    return PosttrainError(where, message, hint)


def _reads(template: str, key: str) -> bool:
    return re.search(rf"\b{key}\b", template) is not None
