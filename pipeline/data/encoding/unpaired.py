"""Rows of thumbs up and down to token ids: a prompt, a response, and whether it was wanted.

Encoded as in supervised training, like pairs (pairs.py), so that no user's text becomes a control
token. A pair is two such rows. Knows no loss (training/kto_trainer.py). Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.label_balance import DESIRABLE, PAIRS_SPLIT, UNDESIRABLE, check_pair
from pipeline.data.encoding.lengths import NO_LIMIT, Limit, RowCounts
from pipeline.data.encoding.pairs import split_last_stretch
from pipeline.data.encoding.tokens import TextEncoder, Tokens
from pipeline.data.reading.data_blocks import read_held_out_records
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
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.config.field_types import DataForm
    from pipeline.config.references import Places
    from pipeline.config.training_stage import TrainingStage
    from pipeline.data.reading.records import Record

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class EncodedAnswer:
    """Token ids of a prompt and of a response, which ends with an end-of-turn token or EOS.

    is_desirable: whether the response was wanted.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    is_desirable: bool
    where: str


@dataclass(frozen=True, kw_only=True)
class AnswersReport(RowCounts):
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

    def held_out_metrics(self) -> dict[str, Any]:
        """Return what was left out as metrics, where the rows are held out; {} without any rows."""
        if not self.num_rows:
            return {}
        return {
            **super().held_out_metrics(),
            "held_out_dropped_equal": self.num_dropped_equal,
            "held_out_dropped_unusable": self.num_dropped_unusable,
        }


def encode_unpaired(
    records: Iterable[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: Limit = NO_LIMIT,
    name: str = "rows",
    may_be_none: bool = False,
) -> tuple[list[EncodedAnswer], AnswersReport]:
    """Encode the rows of a source of the form unpaired_preference, or of pairs, two rows each.

    `limit` decides about rows that are too long. A source (called `name` in the error) of which no
    row is left is an error, unless it `may_be_none`.
    """
    kept: list[EncodedAnswer] = []
    lengths: list[int] = []
    counts: Counter[str] = Counter()
    where = ""
    for encoded, is_spelled in _encode_rows(records, tokenizer, counts):
        where = encoded.where
        counts["spelled"] += is_spelled
        if isinstance(encoded, DroppedRow):
            counts["equal" if encoded.why == EQUAL else "unusable"] += 1
            continue
        length = len(encoded.prompt_ids) + len(encoded.completion_ids)
        lengths.append(length)
        answer = _within(limit, encoded, length, tokenizer.bos_token_id)
        if answer is None:
            counts["too long"] += 1
        else:
            kept.append(answer)
            counts["cut"] += answer is not encoded
    dropped = {why: counts[why] for why in ("equal", "unusable", "too long") if counts[why]}
    num_rows = len(kept) + sum(dropped.values())
    if not kept and not may_be_none:
        reasons = ", ".join(f"{count} {why}" for why, count in dropped.items())
        message = f"none of {num_rows} {name} is left for max_length {limit.max_length}: {reasons}"
        raise PosttrainError(where, message, limit.room_hint("rows") if counts["too long"] else "")
    kept_lengths = [len(each.prompt_ids) + len(each.completion_ids) for each in kept]
    report = AnswersReport(
        noun="rows",
        limit=limit,
        num_rows=num_rows,
        num_dropped_too_long=counts["too long"],
        num_cut=counts["cut"],
        num_tokens=sum(kept_lengths),
        longest_tokens=max(kept_lengths, default=0),
        lengths=lengths,
        num_spelled=counts["spelled"],
        num_desirable=sum(answer.is_desirable for answer in kept),
        num_pairs=counts["pairs"],
        num_dropped_equal=counts["equal"],
        num_dropped_unusable=counts["unusable"],
    )
    return kept, report


def encode_held_out_unpaired(
    config: TrainingStage,
    places: Places,
    forms: Sequence[DataForm],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: Limit,
    may_be_none: bool,
) -> tuple[list[EncodedAnswer], AnswersReport]:
    """Return the rows that a stage never trains on, and what became of them.

    That none is left is an error, unless it `may_be_none` or the recipe holds nothing out.
    """
    unseen = read_held_out_records(config, places, forms)
    return encode_unpaired(
        unseen,
        tokenizer,
        limit=limit,
        name="held-out rows",
        may_be_none=may_be_none or not unseen,
    )


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


def _within(limit: Limit, answer: EncodedAnswer, length: int, bos: Any) -> EncodedAnswer | None:
    """Return a row cut to the limit; None where it is dropped. length: its tokens."""
    if not limit.is_exceeded(length):
        return answer
    limit.refuse(length, answer.where)
    prompt, completion = answer.prompt_ids, answer.completion_ids
    kept = limit.fit_pair(prompt, completion, [], has_bos=prompt[0] == bos)
    return None if kept is None else replace(answer, prompt_ids=kept[0], completion_ids=kept[1])


def _encode_rows(
    records: Iterable[Record], tokenizer: PreTrainedTokenizerBase, counts: Counter[str]
) -> Iterator[tuple[EncodedAnswer | DroppedRow, bool]]:
    """Yield rows and dropped rows, and whether their text spells a control token.

    counts: takes note of the `pairs` among them.
    """
    encoder = _AnswerEncoder(tokenizer)
    spells = TextEncoder(tokenizer).spells_control_tokens
    remaining = iter(records)
    while batch := list(islice(remaining, _ROWS_AT_ONCE)):
        rows: list[UnpairedRow | DroppedRow] = []
        for record in batch:
            if isinstance(record, PreferenceRow):
                check_pair(record)
                counts["pairs"] += 1
                rows += unpair(record)
            else:
                assert isinstance(record, UnpairedRow | DroppedRow)
                rows.append(record)
        answers = iter(encoder.encode([row for row in rows if isinstance(row, UnpairedRow)]))
        for row in rows:
            if isinstance(row, DroppedRow):
                yield row, False
            else:
                yield next(answers), spells(form_and_texts(row)[1])


class _AnswerEncoder:
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
