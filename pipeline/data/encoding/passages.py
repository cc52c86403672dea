"""Rows of held-out data as passages: what a model reads, and which part of it is measured.

Measured is all of a text; of a prompt with a completion, the completion; of a chat, every message
by the assistant, after what stands before it; of a pair, both responses. A chat model reads a chat
through its template, as it does when it is asked; a model without a template reads a transcript:

    User: What is the capital of Peru?

    Assistant: Lima.

The control token that ends a message is not measured: it stands for no byte of the text, and models
that read documents have a different one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eval.asking.loglik import split_continuation
from eval.asking.passages import Passage, document, passage_id
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.reading.records import (
    ChatRow,
    DroppedRow,
    PreferenceRow,
    PromptCompletionRow,
    TextRow,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eval.model import LanguageModel
    from pipeline.data.reading.records import Message, Record

_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


@dataclass(frozen=True)
class _Turn:
    """A message by the assistant to measure. chat: the conversation that ends with it."""

    place: str
    chat: ChatRow
    group: str
    is_rival: bool = False

    @property
    def text(self) -> str:
        return words_of(self.chat.messages[-1])


def passages_of(rows: Sequence[Record], model: LanguageModel) -> list[Passage]:
    """Return the passages of rows for one model, in the rows' order; dropped rows have none.

    Passages have the same names for all models, so that models are compared passage by passage.
    """
    turns = [list(_turns(row, index, model)) for index, row in enumerate(rows)]
    read = iter(_Reader(model).read([turn for some in turns for turn in some]))
    passages: list[Passage] = []
    for index, (row, some) in enumerate(zip(rows, turns, strict=True)):
        passages += [next(read) for _ in some] or _texts(row, index, model)
    return passages


def write_transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as text, up to where the assistant's next words begin."""
    paragraphs = [f"{_SPEAKERS[message.role]}: {words_of(message)}\n\n" for message in messages]
    return "".join([*paragraphs, f"{_SPEAKERS['assistant']}:"])


def is_transcribed(rows: Sequence[Record], model: LanguageModel) -> bool:
    """Whether some of the rows are chats that this model reads as transcripts."""
    return model.form == "document" and any(_is_chat(row) for row in rows)


def count_dropped(rows: Sequence[Record]) -> int:
    """Return how many rows have nothing to read."""
    return sum(isinstance(row, DroppedRow) for row in rows)


def _is_chat(row: Record) -> bool:
    return isinstance(row, ChatRow) or (isinstance(row, PreferenceRow) and row.text is None)


def _turns(row: Record, index: int, model: LanguageModel) -> Iterator[_Turn]:
    """Yield the messages to measure in a row that is a conversation to this model."""
    if isinstance(row, ChatRow):
        answers = [at for at, message in enumerate(row.messages) if message.role == "assistant"]
        for number, at in enumerate(answers, 1):
            if not row.messages[at].is_trained:
                continue  # the data marks it as read, not learnt
            begun = replace(row, messages=row.messages[: at + 1], text=None)
            yield _Turn(f"{index}.{number}", begun, group=str(number))
    elif isinstance(row, PreferenceRow) and row.prompt and not _as_text(row, model):
        for turn, is_rival in zip(row.turns, (False, True), strict=True):
            chat = ChatRow(row.where, (*row.prompt, turn), settings=row.settings)
            yield _Turn(str(index), chat, "", is_rival)


def _as_text(row: PreferenceRow, model: LanguageModel) -> bool:
    return row.text is not None and model.form == "document"


def _texts(row: Record, index: int, model: LanguageModel) -> Iterator[Passage]:
    """Yield the passages of a row that is running text."""
    if isinstance(row, TextRow):
        yield document(model, index, row.text)
    elif isinstance(row, PromptCompletionRow):
        yield _continue(model, str(index), row.prompt, row.completion, row.completion)
    elif isinstance(row, PreferenceRow) and row.text is not None:
        prompt, chosen, rejected = row.text
        yield _continue(model, str(index), prompt, chosen, row.chosen)
        rival = _continue(model, str(index), prompt, rejected, row.rejected)
        yield replace(rival, is_rival=True)


def _continue(
    model: LanguageModel, place: str, context: str, continuation: str, text: str
) -> Passage:
    """Return a passage of running text. text: the part of the continuation whose bytes count."""
    before, ids = split_continuation(model, context, continuation)
    return Passage(passage_id(place, text), context, text, before, ids)


class _Reader:
    """Reads messages as one model does."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._encoder = ChatEncoder(model.tokenizer) if model.form == "chat" else None

    def read(self, turns: Sequence[_Turn]) -> list[Passage]:
        """Return the passages of some messages."""
        if self._encoder is None:
            return [self._transcribe(turn) for turn in turns]
        encoder = self._encoder
        ends = encoder.end_ids() | set(encoder.text.control_ids.values())
        passages: list[Passage] = []
        for turn, tokens in zip(turns, encoder.answers([one.chat for one in turns]), strict=True):
            # The message is the last trained stretch, without the tokens that end it.
            end = len(tokens.ids) - tokens.trained[::-1].index(True)
            start = end
            while start and tokens.trained[start - 1]:
                start -= 1
            while end > start and tokens.ids[end - 1] in ends:
                end -= 1
            passage = self._passage(turn, tokens.ids[:start], tokens.ids[start:end])
            passages.append(replace(passage, form="chat"))
        return passages

    def _transcribe(self, turn: _Turn) -> Passage:
        context = write_transcript(turn.chat.messages[:-1])
        return self._passage(turn, *split_continuation(self._model, context, f" {turn.text}"))

    def _passage(self, turn: _Turn, context_ids: list[int], ids: list[int]) -> Passage:
        before = turn.chat.messages[:-1]
        return Passage(
            item=passage_id(turn.place, turn.text),
            context=write_transcript(before) if before else "",
            text=turn.text,
            context_ids=context_ids,
            ids=ids,
            group=turn.group,
            is_rival=turn.is_rival,
        )
