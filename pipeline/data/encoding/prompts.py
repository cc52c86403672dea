"""Prompts to token ids: what a policy is asked with, the same ids as when it is evaluated.

A conversation goes through the chat template up to where the assistant begins to write; a text is a
document to continue; token ids are taken as they are. Uses the encoders of examples.py and
pairs.py, so that a reward model scores what it was trained on, and no text becomes a control token.
Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.content_marks import turn_fields
from pipeline.data.encoding.lengths import NO_LIMIT, Limit, RowCounts
from pipeline.data.encoding.tokens import TextEncoder
from pipeline.data.reading.records import DroppedRow, PromptRow
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form
    from pipeline.data.reading.records import ChatSettings, Record

_ROWS_AT_ONCE = 256


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
    def is_chat(self) -> bool:
        """Whether the response is an assistant's turn; otherwise it continues a text."""
        return not isinstance(self.prompt, str)


@dataclass(frozen=True, kw_only=True)
class PromptsReport(RowCounts):
    """What became of a source's rows; tokens are counted in those that were kept.

    num_chats: prompts that go through the chat template; the rest are texts to continue.
    """

    num_chats: int

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
    kept: list[EncodedPrompt] = []
    lengths: list[int] = []
    dropped: Counter[str] = Counter()
    num_cut = 0
    where = ""
    for prompt in _encode_rows(records, tokenizer, form, told):
        where = prompt.where
        if isinstance(prompt, DroppedRow):
            dropped["unusable"] += 1
            continue
        lengths.append(len(prompt.ids))
        ids = prompt.ids
        if limit.is_exceeded(len(ids)):
            limit.refuse(len(ids), where)
            ids = limit.fit(ids, has_bos=ids[0] == tokenizer.bos_token_id)
        if ids is None:
            dropped["too long"] += 1
        else:
            num_cut += len(ids) < len(prompt.ids)
            kept.append(replace(prompt, ids=ids))
    num_rows = len(kept) + dropped.total()
    if not kept and not may_be_none:
        counts = ", ".join(f"{count} {why}" for why, count in dropped.items())
        message = f"none of {num_rows} prompts is left for {limit.max_length} tokens"
        hint = limit.room_hint("prompts") if dropped["too long"] else ""
        raise PosttrainError(where, f"{message}: {counts}", hint)
    kept_lengths = [len(prompt.ids) for prompt in kept]
    return kept, PromptsReport(
        noun="prompts",
        limit=limit,
        num_rows=num_rows,
        num_dropped_too_long=dropped["too long"],
        num_cut=num_cut,
        num_tokens=sum(kept_lengths),
        longest_tokens=max(kept_lengths, default=0),
        lengths=lengths,
        num_dropped_unusable=dropped["unusable"],
        num_chats=sum(prompt.is_chat for prompt in kept),
    )


def _encode_rows(
    records: Iterable[Record], tokenizer: PreTrainedTokenizerBase, form: Form, told: str
) -> Iterator[EncodedPrompt | DroppedRow]:
    encoder = _PromptEncoder(tokenizer, form, told)
    remaining = iter(records)
    while batch := list(islice(remaining, _ROWS_AT_ONCE)):
        rows = [row for row in batch if isinstance(row, PromptRow)]
        prompts = iter(encoder.encode(rows))
        for row in batch:
            if isinstance(row, DroppedRow):
                yield row
                continue
            assert isinstance(row, PromptRow)
            yield next(prompts)


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
