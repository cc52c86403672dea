"""What a chat template writes around a conversation, and which parts of it are trained.

An assistant's turn is learnt in the form that the template gives it as the last turn, because that
is how a model will be asked for it. Where the template rewrites the turn once more turns follow
(reasoning models drop earlier reasoning), the turn becomes an example of its own; all turns that
stay as they are share one example. Knows the spelling of added tokens, not their ids (chat.py).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.content_marks import (
    Marked,
    Marks,
    align_leaves,
    arguments_of,
    leaf_error,
)
from pipeline.data.encoding.template import ChatTemplate
from pipeline.data.reading.records import NO_SETTINGS, ChatSettings, Message, ToolCall
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from transformers import PreTrainedTokenizerBase

MOST_KEPT = 4096  # renderings; a conversation with calls has some of its own
_PLAIN = (Message("user", "x"), Message("assistant", "y"))
_CALLING = (Message("user", "x"), Message("assistant", "", calls=(ToolCall("f", "{}"),)))


@dataclass
class Frame:
    """A conversation as a template writes it, with marks in place of what people wrote.

    spans: the trained parts, as (begin, end) in `text`. num_messages: how many turns it shows.
    ends: whether the template ends the last turn; otherwise EOS is appended and trained.
    """

    text: str
    num_messages: int
    spans: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    ends: bool = True

    def trains(self, at: int) -> bool:
        """Whether the character at a place in `text` is trained."""
        return any(begin <= at < end for begin, end in self.spans)


@dataclass(frozen=True)
class Filled:
    """A frame with the texts that belong at its marks."""

    frame: Frame
    marked: Marked
    texts: list[str]


class Frames:
    """What a tokenizer's chat template makes of conversations.

    Rendering is the slow part. With marks, many conversations look alike (as many turns by the same
    roles), so renderings are cached by what the template is passed.
    added, controls: how the tokenizer's added tokens, and its control tokens, are spelt.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, added: Iterable[str], controls: Iterable[str]
    ) -> None:
        self._template = ChatTemplate(tokenizer)
        self.marks = Marks(self._template)
        self._added, self._control = _either(added), _either(controls)
        self._kept: dict[str, str] = {}
        self._learnt: dict[str, list[Frame]] = {}

    def limited(self) -> AbstractContextManager[None]:
        """Put the template's limits on a block; see `ChatTemplate.limited`."""
        return self._template.limited()

    def examples(
        self, messages: Sequence[Message], settings: ChatSettings, where: str
    ) -> list[Filled]:
        """Return the examples of a conversation whose last turn is the assistant's."""
        marked = self._mark(messages, settings, where)
        answers = [
            number
            for number, message in enumerate(messages)
            if message.role == "assistant" and message.is_trained
        ]
        key = json.dumps([marked.with_marks, settings.tools, settings.variables, answers])
        if key not in self._learnt:
            if len(self._learnt) >= MOST_KEPT:
                self._learnt.clear()
            self._learnt[key] = self._frames(marked, answers, settings, where)
        return [self._fill(frame, marked, settings, where) for frame in self._learnt[key]]

    def _frames(
        self, marked: Marked, answers: Sequence[int], settings: ChatSettings, where: str
    ) -> list[Frame]:
        """Return frames that show every answer as it is to be learnt, as few as will do."""
        frames: list[Frame] = []
        for answer in reversed(answers):  # the longest frame first, which may hold earlier answers
            frame, (begin, end) = self._answer(marked, answer, settings, where)
            # Another frame that begins with the same text teaches the same answer after the same
            # prompt.
            home = next((one for one in frames if one.text.startswith(frame.text[:end])), None)
            if home is None:
                home = frame
                frames.append(frame)
                end = end if frame.ends else len(frame.text)
            home.spans.append((begin, end))
        frames.reverse()
        for frame in frames:
            self._check(frame, marked, settings, where, prompt=False)
        return frames

    def prompt(self, messages: Sequence[Message], settings: ChatSettings, where: str) -> Filled:
        """Return a conversation up to where the assistant begins to write."""
        marked = self._mark(messages, settings, where)
        text = self._render(marked.with_marks, settings, where, prompt=True)
        if text != self._render(marked.with_marks, settings, where):
            frame = Frame(text, len(messages))
            self._check(frame, marked, settings, where, prompt=True)
            return self._fill(frame, marked, settings, where, prompt=True)
        # The template has no generation prompt: what it writes before an answer serves as one.
        whole = self._mark((*messages, _PLAIN[1]), settings, where)
        frame, (begin, _) = self._answer(whole, len(messages), settings, where)
        self._check(frame, whole, settings, where, prompt=False)
        filled = self._fill(frame, whole, settings, where)
        return Filled(Frame(frame.text[:begin], len(messages)), whole, filled.texts)

    def plain(self) -> Frame | None:
        """Return the frame of a question and its answer; None if the template refuses those."""
        return self._probe(_PLAIN)

    def endings(self) -> set[str]:
        """Return the added tokens that the template ends an assistant's turn with, calls too."""
        tokens: set[str] = set()
        plain, calling = self.plain(), self._probe(_CALLING)
        for frame in (plain, calling if plain is not None and plain.ends else None):
            if frame is not None and frame.ends:
                begin, end = frame.spans[0]
                tokens.add([*self._added.finditer(frame.text, begin, end)][-1][0])
        return tokens

    def _probe(self, messages: Sequence[Message]) -> Frame | None:
        try:
            marked = self._mark(messages, NO_SETTINGS, "the chat template")
            frame, span = self._answer(marked, 1, NO_SETTINGS, "the chat template")
        except PosttrainError:
            return None
        frame.spans.append(span)
        return frame

    def _mark(self, messages: Sequence[Message], settings: ChatSettings, where: str) -> Marked:
        self._check_unmarked(messages, settings, where)
        marked = self.marks.mark(messages)
        if not any(message.calls for message in messages):
            return marked
        try:
            self._render(marked.with_marks, settings, where)
        except PosttrainError as error:
            # DeepSeek's templates concatenate the text of arguments, and fail on objects.
            as_text = self.marks.mark(messages, as_objects=False)
            try:
                self._render(as_text.with_marks, settings, where)
            except PosttrainError:
                raise error from None
            return as_text
        return marked

    def _check_unmarked(
        self, messages: Sequence[Message], settings: ChatSettings, where: str
    ) -> None:
        """Raise PosttrainError for a control token in a text that templates read unmarked."""
        texts = [("`tools`", settings.tools), ("`chat_template_kwargs`", settings.variables)]
        for number, turn in enumerate(messages, 1):
            written = " ".join((turn.name, *(f"{one.name} {one.arguments}" for one in turn.calls)))
            texts.append((f"the call in turn {number}", written))
        for what, text in texts:
            if match := self._control.search(text):
                message = f"{what} spells the control token `{match[0]}`"
                raise PosttrainError(where, message, "take it out, or drop the row")

    def _answer(
        self, marked: Marked, answer: int, settings: ChatSettings, where: str
    ) -> tuple[Frame, tuple[int, int]]:
        """Return the frame that ends with an answer, and the span (begin, end) that is learnt.

        The span ends with the first added token behind the answer, which ends the turn; of an
        answer with calls with the last one, since calls are written in added tokens themselves.
        Where the template ends no turn, it ends with the content.
        """
        messages = marked.with_marks[: answer + 1]
        text = self._render(messages, settings, where)
        own = [
            place
            for number, place in self.marks.places(text).items()
            if marked.leaves[number].message == answer
        ]
        first = min(own)[0] if own else None
        begin = self._begin(messages, text, first, settings)
        last = max(own)[1] if own else begin
        calls = messages[-1].get("tool_calls", ())
        match = self._added.search(text, last)
        if calls:
            self._check_calls(calls, text[begin:], answer, where)
            plain = self.plain()
            has_ends = plain is None or plain.ends
            match = next(reversed([*self._added.finditer(text, last)]), None) if has_ends else None
            last = len(text) if match is None else last
        end = last if match is None else match.end()
        return Frame(text, answer + 1, ends=match is not None), (begin, end)

    def _begin(
        self,
        messages: Sequence[dict[str, Any]],
        text: str,
        first: int | None,
        settings: ChatSettings,
    ) -> int:
        """Return where in `text` the assistant begins to write the last turn.

        first: where the turn's first mark begins. The model begins where the generation prompt
        ends, which may be before that: `<think>` is then written, and learnt, by the model.
        """
        if len(messages) == 1:
            return first or 0
        try:
            prompted = self._render(messages[:-1], settings, "", prompt=True)
            closed = self._render(messages[:-1], settings, "")
        except PosttrainError:  # it refuses conversations that end here, so no model is asked here
            return first or 0
        if text.startswith(prompted):
            opening = text[len(prompted) : first]
            # Without a generation prompt, everything except white space is the assistant's header.
            if first is None or prompted != closed or not opening.strip():
                return len(prompted)
        if first is not None:
            return first
        # Neither applies: the turn has calls alone, and parts from the prompt before its end.
        same = (a == b for a, b in zip(text, prompted, strict=False))
        at = next((at for at, is_same in enumerate(same) if not is_same), 0)
        # Two tokens may begin alike (`<think>`, `<tool_call>`): go back to where this one begins.
        tokens = (match.span() for match in self._added.finditer(text))
        return next((begin for begin, end in tokens if begin < at < end), at)

    def _check_calls(
        self, calls: Sequence[dict[str, Any]], text: str, answer: int, where: str
    ) -> None:
        """Raise PosttrainError for a call of which the template leaves out anything."""
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            arguments = arguments_of(arguments) if isinstance(arguments, str) else arguments
            for part in (name, *_texts(arguments)):
                if not any(form in text for form in _spellings(part)):
                    turn = answer + 1
                    message = f"the chat template drops the call of `{name:.40}` in turn {turn}"
                    hint = "`chat_template:` names one that writes `tool_calls`"
                    raise PosttrainError(where, message, hint)

    def _fill(
        self,
        frame: Frame,
        marked: Marked,
        settings: ChatSettings,
        where: str,
        *,
        prompt: bool = False,
    ) -> Filled:
        pieces, order = self.marks.pieces(frame.text)
        messages = marked.as_written[: frame.num_messages]
        rendered = self._template.render(messages, settings, where, prompt=prompt)
        return Filled(frame, marked, align_leaves(pieces, order, marked, rendered, where))

    def _check(
        self, frame: Frame, marked: Marked, settings: ChatSettings, where: str, *, prompt: bool
    ) -> None:
        """Raise PosttrainError for what the template leaves out or writes twice."""
        written = Counter(self.marks.pieces(frame.text)[1])
        shown = frame.num_messages
        for number, leaf in enumerate(marked.leaves):
            if leaf.message >= shown:
                continue
            # Templates may drop the reasoning of earlier turns: a model is asked without it.
            is_needed = leaf.kind == "content" or (leaf.message == shown - 1 and not prompt)
            if written[number] > 1 or (is_needed and not written[number]):
                verb = "repeats" if written[number] else "drops or rewrites"
                raise leaf_error(marked, number, where, verb)
        self._check_tools(frame, marked.with_marks[:shown], settings, where, prompt=prompt)

    def _check_tools(
        self,
        frame: Frame,
        messages: Sequence[dict[str, Any]],
        settings: ChatSettings,
        where: str,
        *,
        prompt: bool,
    ) -> None:
        """Raise PosttrainError for tools that the template leaves out."""
        if not settings.tools:
            return
        without = self._render(messages, replace(settings, tools=""), where, prompt=prompt)
        names = [tool["function"]["name"] for tool in json.loads(settings.tools)]
        # Both tests: a template may write one line for tools and none of them, or ignore them where
        # a turn happens to hold their names.
        if without == frame.text or any(name not in frame.text for name in names):
            message = "the chat template shows no `tools`"
            hint = "`chat_template:` names one that does; or take the column out"
            raise PosttrainError(where, message, hint)

    def _render(
        self,
        messages: Sequence[dict[str, Any]],
        settings: ChatSettings,
        where: str,
        *,
        prompt: bool = False,
    ) -> str:
        key = json.dumps([messages, settings.tools, settings.variables, prompt])
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = self._template.render(messages, settings, where, prompt=prompt)
        return self._kept[key]


def _either(names: Iterable[str]) -> re.Pattern[str]:
    longest = sorted(names, key=len, reverse=True)  # alternatives are tried in order
    return re.compile("|".join(map(re.escape, longest)) or "(?!)")  # (?!) matches nothing


def _texts(value: Any) -> Iterable[str]:
    """Yield the texts in the arguments of a call, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _spellings(text: str) -> tuple[str, ...]:
    """Return how a template may write a text from a call: as it is, or as JSON escapes it."""
    return text, text.strip(), json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]
