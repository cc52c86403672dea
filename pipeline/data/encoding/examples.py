"""Checked rows to training examples: token ids, labels, and an account of what was dropped.

The form decides what is trained: all of a text; of prompt_completion, the completion and EOS; of a
chat, what the assistant writes (chat.py). Preference pairs are in pairs.py. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.documents import IGNORED
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.lengths import NO_LIMIT, Limit, RowCounts
from pipeline.data.encoding.parts import (
    CUT,
    ROWS_AT_ONCE,
    SPELLED,
    TOKENS,
    TOO_LONG,
    Part,
    Totals,
    encode_all,
)
from pipeline.data.encoding.tokens import Stretch, TextEncoder, Tokens
from pipeline.data.reading.formats import ChatRow, PromptCompletionRow, Record, TextRow
from pipeline.data.reading.record_texts import form_and_texts
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

_SOURCE_ROWS, _TRAINED = "rows of the data", "trained tokens"
# A tokenizer takes about 100 bytes per token while it works, so a long document is split up.
_MAX_BIT_CHARACTERS = 200_000
_MOST_CHARACTERS = 1_000_000


# A part of a document, and the ids before and after it.
_Bit = tuple[Stretch, Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class EncodedExample:
    """A sequence for supervised training. input_ids, labels: (T,), IGNORED where not trained."""

    input_ids: list[int]
    labels: list[int]
    where: str

    @property
    def length(self) -> int:
        """Its tokens."""
        return len(self.input_ids)


@dataclass(frozen=True, kw_only=True)
class EncodingReport(RowCounts):
    """What became of a source's rows; tokens are counted in those that were kept.

    A row here is an example. One chat gives several where its template rewrites an answer once
    more turns follow. num_source_rows: rows of the data.
    """

    num_trained_tokens: int
    num_source_rows: int

    def metrics(self) -> dict[str, Any]:
        """Return the report as a stage's metrics."""
        return {
            **self.length_metrics(),
            **({} if self.num_source_rows == self.num_rows else {"chats": self.num_source_rows}),
            "tokens": self.num_tokens,
            "trained_tokens": self.num_trained_tokens,
            "trained_share": self.num_trained_tokens / self.num_tokens,
            "longest_tokens": self.longest_tokens,
        }


class ExampleEncoder:
    """Encodes rows for supervised training; see `encode_records`.

    ignores_first: leave out the label of a row's first token, which nothing predicts; upstream
    would count it for some models.
    """

    kind = EncodedExample

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, limit: Limit, *, ignores_first: bool = False
    ) -> None:
        self._bos_token_id = tokenizer.bos_token_id
        self._limit = limit
        self._ignores_first = ignores_first
        self._rows = _RowEncoder(tokenizer)
        self._spells = TextEncoder(tokenizer).spells_control_tokens

    def part(self, records: Sequence[Record]) -> Part[EncodedExample]:
        """Encode some rows."""
        part = Part[EncodedExample]()
        for row, whole, is_first in self._rows.encode(records):
            part.where = row.where
            part.counts[_SOURCE_ROWS] += is_first
            part.counts[SPELLED] += is_first and self._spells(form_and_texts(row)[1])
            _check_mask(row, whole)
            part.lengths.append(len(whole.ids))
            tokens = self._within(whole, row.where)
            if tokens is None:
                part.counts[TOO_LONG] += 1
                continue
            pairs = zip(tokens.ids, tokens.trained, strict=True)
            labels = [number if trained else IGNORED for number, trained in pairs]
            part.counts[CUT] += tokens is not whole
            part.counts[TOKENS] += len(labels)
            part.counts[_TRAINED] += sum(tokens.trained)
            if self._ignores_first:
                labels[0] = IGNORED
            part.rows.append(EncodedExample(tokens.ids, labels, row.where))
        return part

    def report(self, totals: Totals, *, name: str, may_be_none: bool) -> EncodingReport:
        """Return what became of the rows."""
        lengths, counts = totals.lengths, totals.counts
        if not totals.num_kept and not may_be_none:
            all_of_them = f"all {len(lengths)} {name}"
            raise PosttrainError(totals.where, *self._limit.explain_loss(all_of_them, lengths))
        return EncodingReport(
            noun="rows",
            limit=self._limit,
            num_rows=len(lengths),
            num_dropped_too_long=counts[TOO_LONG],
            num_cut=counts[CUT],
            num_tokens=counts[TOKENS],
            longest_tokens=totals.longest,
            lengths=lengths,
            num_trained_tokens=counts[_TRAINED],
            num_source_rows=counts[_SOURCE_ROWS],
            num_spelled=counts[SPELLED],
        )

    def _within(self, tokens: Tokens, where: str) -> Tokens | None:
        """Return a row cut to the limit; None where it is dropped."""
        limit = self._limit
        if not limit.is_exceeded(len(tokens.ids)):
            return tokens
        limit.refuse(len(tokens.ids), where)
        has_bos = tokens.ids[0] == self._bos_token_id
        ids = limit.fit(tokens.ids, has_bos=has_bos)
        trained = limit.fit(tokens.trained, has_bos=has_bos)
        # The first token does not count: nothing predicts it.
        if ids is None or trained is None or not any(trained[1:]):
            return None
        return Tokens(ids, trained)


def encode_records(
    records: Iterable[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: Limit = NO_LIMIT,
    name: str = "rows",
    may_be_none: bool = False,
) -> tuple[list[EncodedExample], EncodingReport]:
    """Encode a source's rows for supervised training, in memory.

    A chat is encoded as its `text` where it has one and the tokenizer has no chat template.
    `limit` decides about rows that are too long. Cut on the right, a row has no end to learn; a row
    without any trained token left is dropped. A source (called `name` in the error) of which no row
    is left is an error, unless it `may_be_none`.
    """
    encoder, kept = ExampleEncoder(tokenizer, limit), list[EncodedExample]()
    totals = encode_all(records, encoder, kept.extend)
    return kept, encoder.report(totals, name=name, may_be_none=may_be_none)


def encode_documents(
    records: Iterable[Record], tokenizer: PreTrainedTokenizerBase
) -> Iterator[NDArray[np.int32]]:
    """Yield documents for pre-training: BOS if the tokenizer writes one, the text, EOS.

    A document of more than 200,000 characters comes in several arrays, EOS at the end of the last.
    """
    encoder = TextEncoder(tokenizer)
    bits = (bit for record in records for bit in _bits(record, encoder))
    while batch := list(_some(bits)):
        encoded = encoder.encode([stretch for stretch, _, _ in batch])
        for (_, start, end), ids in zip(batch, encoded, strict=True):
            yield np.array([*start, *ids, *end], dtype=np.int32)


def _some(bits: Iterator[_Bit]) -> Iterator[_Bit]:
    """Yield the next bits, as many as are encoded at once: not more than a second's work."""
    num_characters = 0
    for bit in islice(bits, ROWS_AT_ONCE):
        yield bit
        num_characters += len(bit[0].text)
        if num_characters >= _MOST_CHARACTERS:
            return


def mask_segments(
    example: EncodedExample, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, bool]]:
    """Return the example as readable text in runs, with whether the model is trained to write them.

    Text that only spells a control token is told apart (`TextEncoder.show`).
    """
    pairs = zip(example.input_ids, example.labels, strict=True)
    runs = groupby(pairs, key=lambda pair: pair[1] != IGNORED)
    shown = TextEncoder(tokenizer).show
    return [(shown([number for number, _ in run]), trained) for trained, run in runs]


class _RowEncoder:
    """Encodes rows as chats if row and tokenizer allow it, otherwise as running text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._text = TextEncoder(tokenizer)
        self._has_template = bool(tokenizer.chat_template)
        self._chat: ChatEncoder | None = None

    def encode(self, batch: Sequence[Record]) -> Iterator[tuple[Record, Tokens, bool]]:
        """Yield a row, an example of it, and whether it is the row's first example."""
        text = self._text
        chats = [row for row in batch if isinstance(row, ChatRow) and not self._as_text(row)]
        encoded_chats = iter(self._chats(chats))
        for row in batch:
            if isinstance(row, ChatRow):
                plain = self._as_text(row)
                if plain:
                    yield row, text.prompt_completion(*plain, row.where), True
                    continue
                for number, tokens in enumerate(next(encoded_chats)):
                    yield row, tokens, number == 0
            elif isinstance(row, PromptCompletionRow):
                yield row, text.prompt_completion(row.prompt, row.completion, row.where), True
            else:
                assert isinstance(row, TextRow)
                ids = [*text.documents([row.text], [row.where])[0], text.eos_token_id]
                yield row, Tokens(ids, [True] * len(ids)), True

    def _as_text(self, row: ChatRow) -> tuple[str, str] | None:
        return None if self._has_template else row.text

    def _chats(self, chats: Sequence[ChatRow]) -> list[list[Tokens]]:
        if not chats:
            return []
        if self._chat is None:
            self._chat = ChatEncoder(self._text.tokenizer)
        return self._chat.encode(chats)


def _check_mask(row: Record, tokens: Tokens) -> None:
    if not any(tokens.trained):
        raise PosttrainError(row.where, "no token of this row is trained", "drop the row")
    if isinstance(row, TextRow):
        return
    if all(tokens.trained):
        message = "every token of this row is trained: it has no prompt"
        raise PosttrainError(row.where, message, "use the form text, or add a prompt")


def _bits(record: Record, encoder: TextEncoder) -> Iterator[_Bit]:
    """Yield parts of a document, cut behind line breaks, with the ids before and after them."""
    assert isinstance(record, TextRow)
    text, at = record.text, 0
    while at < len(text):
        end = at + _MAX_BIT_CHARACTERS
        if end < len(text):
            end = text.rfind("\n", at, end) + 1 or end
        follows = "text" if at else "control" if encoder.start else "nothing"
        is_last = end >= len(text)
        stretch = Stretch(text[at:end], follows, record.where)
        yield stretch, () if at else encoder.start, (encoder.eos_token_id,) if is_last else ()
        at = end
