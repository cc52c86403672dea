"""Rows of thumbs up and down to token ids: a prompt, a response, and whether it was wanted.

Encoded as in supervised training, like pairs (pairs.py), so that no user's text becomes a control
token. A pair is two such rows. Knows no loss (training/kto_trainer.py). Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.label_balance import DESIRABLE, PAIRS_SPLIT, UNDESIRABLE, check_pair
from pipeline.data.encoding.lengths import NO_LIMIT, Limit, PreferenceCounts
from pipeline.data.encoding.pairs import EQUAL_ROWS, UNUSABLE, split_last_stretch
from pipeline.data.encoding.parts import (
    CUT,
    SPELLED,
    TOKENS,
    TOO_LONG,
    Part,
    Totals,
    counted,
    encode_all,
)
from pipeline.data.encoding.tokens import TextEncoder, Tokens
from pipeline.data.reading.record_texts import form_and_texts
from pipeline.data.reading.records import (
    EQUAL,
    ChatRow,
    DroppedRow,
    PreferenceRow,
    PromptCompletionRow,
    UnpairedRow,
)
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.data.reading.records import Record

_PAIRS, _WANTED = "pairs", "wanted"


@dataclass(frozen=True)
class EncodedAnswer:
    """Token ids of a prompt and of a response, which ends with an end-of-turn token or EOS.

    is_desirable: whether the response was wanted.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    is_desirable: bool
    where: str

    @property
    def length(self) -> int:
        """Its tokens."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, kw_only=True)
class AnswersReport(PreferenceCounts):
    """What became of a source's rows; tokens are counted in those that were kept.

    num_desirable: of the rows that were kept. num_pairs: pairs of the data, two rows each.
    """

    num_desirable: int
    num_pairs: int

    def metrics(self) -> dict[str, Any]:
        """Return the report as a stage's metrics."""
        return {
            **self.length_metrics(),
            "rows_dropped_equal": self.num_dropped_equal,
            "rows_dropped_unusable": self.num_dropped_unusable,
            DESIRABLE: self.num_desirable,
            UNDESIRABLE: self.num_kept - self.num_desirable,
            **({PAIRS_SPLIT: self.num_pairs} if self.num_pairs else {}),
            "tokens": self.num_tokens,
            "longest_tokens": self.longest_tokens,
        }


class AnswerEncoder:
    """Encodes rows of the form unpaired_preference, and pairs; see `encode_unpaired`."""

    kind = EncodedAnswer

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: Limit) -> None:
        self._bos_token_id = tokenizer.bos_token_id
        self._limit = limit
        self._rows = _RowEncoder(tokenizer)
        self._spells = TextEncoder(tokenizer).spells_control_tokens

    def part(self, records: Sequence[Record]) -> Part[EncodedAnswer]:
        """Encode some rows."""
        part = Part[EncodedAnswer]()
        rows: list[UnpairedRow | DroppedRow] = []
        for record in records:
            if isinstance(record, PreferenceRow):
                check_pair(record)
                part.counts[_PAIRS] += 1
                rows += unpair(record)
            else:
                assert isinstance(record, UnpairedRow | DroppedRow)
                rows.append(record)
        answers = iter(self._rows.encode([row for row in rows if isinstance(row, UnpairedRow)]))
        for row in rows:
            part.where = row.where
            if isinstance(row, DroppedRow):
                part.counts[EQUAL_ROWS if row.why == EQUAL else UNUSABLE] += 1
                continue
            whole = next(answers)
            part.counts[SPELLED] += self._spells(form_and_texts(row)[1])
            part.lengths.append(whole.length)
            answer = _within(self._limit, whole, self._bos_token_id)
            if answer is None:
                part.counts[TOO_LONG] += 1
                continue
            part.counts[CUT] += answer is not whole
            part.counts[TOKENS] += answer.length
            part.counts[_WANTED] += answer.is_desirable
            part.rows.append(answer)
        return part

    def report(self, totals: Totals, *, name: str, may_be_none: bool) -> AnswersReport:
        """Return what became of the rows."""
        counts, limit = totals.counts, self._limit
        reasons, room = (EQUAL_ROWS, UNUSABLE, TOO_LONG), f"max_length {limit.max_length}"
        common = counted(totals, limit, reasons, name=name, room=room, may_be_none=may_be_none)
        return AnswersReport(
            noun="rows",
            **common,
            num_spelled=counts[SPELLED],
            num_desirable=counts[_WANTED],
            num_pairs=counts[_PAIRS],
            num_dropped_equal=counts[EQUAL_ROWS],
            num_dropped_unusable=counts[UNUSABLE],
        )


def encode_unpaired(
    records: Iterable[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: Limit = NO_LIMIT,
    name: str = "rows",
    may_be_none: bool = False,
) -> tuple[list[EncodedAnswer], AnswersReport]:
    """Encode the rows of a source of the form unpaired_preference, or of pairs, two rows each.

    In memory. `limit` decides about rows that are too long. A source (called `name` in the error)
    of which no row is left is an error, unless it `may_be_none`.
    """
    encoder, kept = AnswerEncoder(tokenizer, limit), list[EncodedAnswer]()
    totals = encode_all(records, encoder, kept.extend)
    return kept, encoder.report(totals, name=name, may_be_none=may_be_none)


def unpair(pair: PreferenceRow) -> tuple[UnpairedRow, UnpairedRow]:
    """Return a pair as two rows: the chosen response was wanted, the rejected one was not."""
    answered: list[PromptCompletionRow | ChatRow] = []
    for number, turn in enumerate(pair.turns, 1):
        text = None if pair.text is None else (pair.text[0], pair.text[number])
        if pair.prompt:
            messages = (*pair.prompt, turn)
            answered.append(ChatRow(pair.where, messages, text, pair.settings))
        else:
            assert text is not None, "a pair without a conversation is of texts"
            answered.append(PromptCompletionRow(pair.where, *text))
    return UnpairedRow(answered[0], True), UnpairedRow(answered[1], False)


def _within(limit: Limit, answer: EncodedAnswer, bos: Any) -> EncodedAnswer | None:
    """Return a row cut to the limit; None where it is dropped."""
    if not limit.is_exceeded(answer.length):
        return answer
    limit.refuse(answer.length, answer.where)
    prompt, completion = answer.prompt_ids, answer.completion_ids
    kept = limit.fit_pair(prompt, completion, [], has_bos=prompt[0] == bos)
    return None if kept is None else replace(answer, prompt_ids=kept[0], completion_ids=kept[1])


class _RowEncoder:
    """Encodes rows as chats if row and tokenizer allow it, otherwise as running text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._text = TextEncoder(tokenizer)
        self._has_template = bool(tokenizer.chat_template)
        self._chat: ChatEncoder | None = None

    def encode(self, rows: Sequence[UnpairedRow]) -> list[EncodedAnswer]:
        """Encode rows; much faster for many at once."""
        chats = [row.answered for row in rows if isinstance(row.answered, ChatRow)]
        encoded = iter(self._chats(chats) if self._has_template else map(self._as_text, chats))
        answers: list[EncodedAnswer] = []
        for row in rows:
            answered = row.answered
            if isinstance(answered, ChatRow):
                tokens = next(encoded)
            else:
                texts = answered.prompt, answered.completion
                tokens = self._text.prompt_completion(*texts, row.where)
            prompt_ids, completion_ids = split_last_stretch(tokens, row.where)
            answers.append(EncodedAnswer(prompt_ids, completion_ids, row.is_desirable, row.where))
        return answers

    def _chats(self, chats: Sequence[ChatRow]) -> list[Tokens]:
        if not chats:
            return []
        if self._chat is None:
            self._chat = ChatEncoder(self._text.tokenizer)
        return self._chat.answers(chats)

    def _as_text(self, chat: ChatRow) -> Tokens:
        if chat.text is None:
            message = f"a conversation, and {self._text.name} has no chat template"
            hint = "use plain texts (prompt, completion, label), or a chat model"
            raise PosttrainError(chat.where, message, hint)
        return self._text.prompt_completion(*chat.text, chat.where)
