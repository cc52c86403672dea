"""Prompts to token ids: what a policy is asked with, the same ids as when it is evaluated.

A conversation goes through the chat template up to where the assistant begins to write; a text is a
document to continue; token ids are taken as they are. Uses the encoders of examples.py and
pairs.py, so that a reward model scores what it was trained on, and no text becomes a control token.
Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.content_marks import turn_fields
from pipeline.data.encoding.lengths import NO_LIMIT, Limit, RowCounts
from pipeline.data.encoding.parts import CUT, TOKENS, TOO_LONG, Part, Totals, counted, encode_all
from pipeline.data.encoding.plain_values import NotPlainError, of_text, to_text
from pipeline.data.encoding.tokens import TextEncoder
from pipeline.data.reading.records import DroppedRow, PromptRow
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form
    from pipeline.data.reading.records import ChatSettings, Record

_UNUSABLE, _CHATS, _NOT_PLAIN = "unusable", "chats", "not plain"


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the policy is asked with it (`ids`), and as reward functions see it (`prompt`).

    prompt: a list of {role, content} where a chat template was applied, otherwise a text. columns,
    source: as PromptRow has them.
    """

    where: str
    ids: list[int]
    prompt: str | list[dict[str, Any]]
    columns: Mapping[str, Any]
    source: str = ""

    @property
    def length(self) -> int:
        """Its tokens."""
        return len(self.ids)

    @property
    def is_chat(self) -> bool:
        """Whether the response is an assistant's turn; otherwise it continues a text."""
        return not isinstance(self.prompt, str)


@dataclass(frozen=True)
class StoredPrompt:
    """An EncodedPrompt as a row of a file: its prompt and its columns are text (plain_values.py).

    Both are empty where they have values that no text has; the report counts such rows.
    """

    where: str
    ids: list[int]
    shown: str
    columns: str
    source: str

    @property
    def length(self) -> int:
        """Its tokens."""
        return len(self.ids)

    @classmethod
    def of(cls, prompt: EncodedPrompt) -> StoredPrompt:
        """Write a prompt down, as far as that can be."""
        try:
            shown, columns = to_text(prompt.prompt), to_text(dict(prompt.columns))
        except NotPlainError:
            shown = columns = ""
        return cls(prompt.where, prompt.ids, shown, columns, prompt.source)

    def prompt(self) -> EncodedPrompt:
        """Return what was written down."""
        shown, columns = of_text(self.shown), of_text(self.columns)
        return EncodedPrompt(self.where, self.ids, shown, columns, self.source)


@dataclass(frozen=True, kw_only=True)
class PromptsReport(RowCounts):
    """What became of a source's rows; tokens are counted in those that were kept.

    num_chats: prompts that go through the chat template; the rest are texts to continue.
    num_not_plain: of those in a file, how many could not be written down whole.
    """

    num_chats: int
    num_not_plain: int = 0

    def metrics(self) -> dict[str, Any]:
        """Return the report as a stage's metrics."""
        return {
            **self.length_metrics(),
            "prompts_dropped_unusable": self.num_dropped_unusable,
            "prompts_as_chats": self.num_chats,
            "prompt_tokens": self.num_tokens,
            "longest_prompt_tokens": self.longest_tokens,
        }


def encode_prompts(
    records: Iterable[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: Limit = NO_LIMIT,
    form: Form,
    may_be_none: bool = False,
    told: str = "",
) -> tuple[list[EncodedPrompt], PromptsReport]:
    """Encode the rows of sources of the form prompt.

    form: how the policy expects to be asked. It decides where a row can be read both ways, as a
    task's can. A row that is only a text is continued even by a chat model, as in TRL and all
    stages here; a row that is only a conversation is an error for a model of documents.
    told: the tools of a model as JSON, for conversations that name none of their own.
    `limit` decides about prompts that are too long. That none is left is an error, unless there
    `may_be_none`.
    """
    encoder, kept = _InMemory(tokenizer, limit, form=form, told=told), list[EncodedPrompt]()
    totals = encode_all(records, encoder, kept.extend)
    return kept, encoder.report(totals, name="prompts", may_be_none=may_be_none)


_Row = TypeVar("_Row", EncodedPrompt, StoredPrompt)


class _Encoder(Generic[_Row]):
    """Encodes rows of the form prompt; see `encode_prompts`."""

    kind: type[_Row]

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, limit: Limit, *, form: Form, told: str = ""
    ) -> None:
        self._bos_token_id = tokenizer.bos_token_id
        self._limit = limit
        self._prompts = _PromptEncoder(tokenizer, form, told)

    def part(self, records: Sequence[Record]) -> Part[Any]:
        """Encode some rows."""
        part = Part[Any]()
        rows = [row for row in records if isinstance(row, PromptRow)]
        prompts = iter(self._prompts.encode(rows))
        for row in records:
            part.where = row.where
            if isinstance(row, DroppedRow):
                part.counts[_UNUSABLE] += 1
                continue
            whole = next(prompts)
            part.lengths.append(len(whole.ids))
            ids = self._within(whole)
            if ids is None:
                part.counts[TOO_LONG] += 1
                continue
            part.counts[CUT] += len(ids) < len(whole.ids)
            part.counts[TOKENS] += len(ids)
            part.counts[_CHATS] += whole.is_chat
            part.rows.append(self._row(replace(whole, ids=ids), part))
        return part

    def _row(self, prompt: EncodedPrompt, part: Part[Any]) -> Any:
        return prompt

    def _within(self, prompt: EncodedPrompt) -> list[int] | None:
        ids, limit = prompt.ids, self._limit
        if not limit.is_exceeded(len(ids)):
            return ids
        limit.refuse(len(ids), prompt.where)
        return limit.fit(ids, has_bos=ids[0] == self._bos_token_id)

    def report(self, totals: Totals, *, name: str, may_be_none: bool) -> PromptsReport:
        """Return what became of the rows."""
        counts, limit = totals.counts, self._limit
        reasons, room = (_UNUSABLE, TOO_LONG), f"{limit.max_length} tokens"
        common = counted(totals, limit, reasons, name=name, room=room, may_be_none=may_be_none)
        return PromptsReport(
            noun="prompts",
            **common,
            num_dropped_unusable=counts[_UNUSABLE],
            num_chats=counts[_CHATS],
            num_not_plain=counts[_NOT_PLAIN],
        )


class _InMemory(_Encoder[EncodedPrompt]):
    kind = EncodedPrompt


class StoredPromptEncoder(_Encoder[StoredPrompt]):
    """Encodes prompts as rows of a file."""

    kind = StoredPrompt

    def _row(self, prompt: EncodedPrompt, part: Part[Any]) -> StoredPrompt:
        stored = StoredPrompt.of(prompt)
        part.counts[_NOT_PLAIN] += not stored.columns
        return stored


class _PromptEncoder:
    """Encodes prompts as conversations, as running text, or takes their ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: Form, told: str) -> None:
        self._text = TextEncoder(tokenizer)
        self._told = told
        self._form = form
        self._chat: ChatEncoder | None = None

    def encode(self, rows: Sequence[PromptRow]) -> list[EncodedPrompt]:
        """Encode rows; much faster for many at once."""
        are_chats = [bool(row.messages) and self._form == "chat" for row in rows]
        chats = [row for row, is_chat in zip(rows, are_chats, strict=True) if is_chat]
        texts = [
            row
            for row, is_chat in zip(rows, are_chats, strict=True)
            if not is_chat and row.ids is None
        ]
        chat_ids, text_ids = iter(self._chats(chats)), iter(self._texts(texts))
        prompts: list[EncodedPrompt] = []
        for row, is_chat in zip(rows, are_chats, strict=True):
            if is_chat:
                shown, ids = [turn_fields(message) for message in row.messages], next(chat_ids)
            elif row.ids is None:
                shown, ids = self._text_of(row), next(text_ids)
            else:
                shown, ids = self._decode(row), list(row.ids)
            prompts.append(EncodedPrompt(row.where, ids, shown, row.columns, row.source))
        return prompts

    def _chats(self, rows: Sequence[PromptRow]) -> list[list[int]]:
        if not rows:
            return []
        if self._chat is None:
            self._chat = ChatEncoder(self._text.tokenizer)
        settings = [self._settings(row) for row in rows]
        turns = zip(rows, settings, strict=True)
        return self._chat.prompts([(row.messages, row.where, own) for row, own in turns])

    def _settings(self, row: PromptRow) -> ChatSettings:
        """Return what the template gets beside the turns: the row's own tools, or the model's."""
        if row.settings.tools or not self._told:
            return row.settings
        return replace(row.settings, tools=self._told)

    def _texts(self, rows: Sequence[PromptRow]) -> list[list[int]]:
        texts = [self._text_of(row) for row in rows]
        return self._text.documents(texts, [row.where for row in rows])

    def _text_of(self, row: PromptRow) -> str:
        if row.text is None:
            message = f"a conversation, and the policy is asked by texts: {self._text.name}"
            hint = "write `prompt` as a text for it to go on from, or take a chat model"
            raise PosttrainError(row.where, message, hint)
        return row.text

    def _decode(self, row: PromptRow) -> str:
        """Return token ids that the data brings as a text; they must be this tokenizer's."""
        assert row.ids is not None
        if max(row.ids) >= len(self._text.tokenizer):
            message = f"`input_ids` has {max(row.ids)}, and {self._text.name} ends before that"
            raise PosttrainError(row.where, message, "encode with the policy's own tokenizer")
        return str(self._text.tokenizer.decode(list(row.ids), skip_special_tokens=False))
