"""Preference rows to token ids: a prompt and two responses to it, as in supervised training.

Uses the encoders of examples.py, so that a model is asked to prefer exactly what it was taught to
write, and no user's text becomes a control token. Knows no loss (training/dpo_trainer.py). Imports
no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eval.statistics.pairwise import ScoredPair
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.lengths import NO_LIMIT, Limit, PreferenceCounts
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
from pipeline.data.reading.records import EQUAL, ChatRow, DroppedRow, PreferenceRow
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.data.reading.records import Record

EQUAL_ROWS, UNUSABLE = "equal", "unusable"


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a prompt and of two responses, which end with an end-of-turn token or EOS.

    margin, probability, flaw: as PreferenceRow has them.
    """

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    where: str
    margin: float | None = None
    probability: float | None = None
    flaw: str = ""

    @property
    def length(self) -> int:
        """Tokens of its longer sequence."""
        return max(_lengths(self))


@dataclass(frozen=True, kw_only=True)
class PairsReport(PreferenceCounts):
    """What became of a source's rows; tokens are counted in those that were kept.

    num_tokens: in both sequences of a pair, so that a prompt counts twice. longest_tokens: in one.
    """

    def metrics(self) -> dict[str, Any]:
        """Return the report as a stage's metrics."""
        return {
            **self.length_metrics(),
            "rows_dropped_equal": self.num_dropped_equal,
            "rows_dropped_unusable": self.num_dropped_unusable,
            "tokens": self.num_tokens,
            "longest_tokens": self.longest_tokens,
        }


def attach_scores(pairs: Sequence[EncodedPair], scores: Sequence[float]) -> list[ScoredPair]:
    """Return the pairs with their scores.

    scores: (2 * pairs,), those of all chosen responses, then those of all rejected ones.
    """
    chosen, rejected = scores[: len(pairs)], scores[len(pairs) :]
    return [
        ScoredPair(
            good,
            bad,
            len(pair.chosen_ids),
            len(pair.rejected_ids),
            pair.flaw,
            1.0 if pair.probability is None else pair.probability,
        )
        for pair, good, bad in zip(pairs, chosen, rejected, strict=True)
    ]


class PairEncoder:
    """Encodes rows of the form preference; see `encode_pairs`."""

    kind = EncodedPair

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: Limit) -> None:
        self._bos_token_id = tokenizer.bos_token_id
        self._limit = limit
        self._rows = _RowEncoder(tokenizer)
        self._spells = TextEncoder(tokenizer).spells_control_tokens

    def part(self, records: Sequence[Record]) -> Part[EncodedPair]:
        """Encode some rows."""
        part = Part[EncodedPair]()
        pairs = iter(self._rows.encode([r for r in records if isinstance(r, PreferenceRow)]))
        for row in records:
            part.where = row.where
            if isinstance(row, DroppedRow):
                part.counts[EQUAL_ROWS if row.why == EQUAL else UNUSABLE] += 1
                continue
            whole = next(pairs)
            part.counts[SPELLED] += self._spells(form_and_texts(row)[1])
            part.lengths.append(whole.length)
            pair = _within(self._limit, whole, self._bos_token_id)
            if pair is None:
                part.counts[TOO_LONG] += 1
            elif pair.chosen_ids == pair.rejected_ids:
                part.counts[EQUAL_ROWS] += 1
            else:
                part.counts[CUT] += pair is not whole
                part.counts[TOKENS] += sum(_lengths(pair))
                part.rows.append(pair)
        return part

    def report(self, totals: Totals, *, name: str, may_be_none: bool) -> PairsReport:
        """Return what became of the rows."""
        counts, limit = totals.counts, self._limit
        reasons, room = (EQUAL_ROWS, UNUSABLE, TOO_LONG), f"max_length {limit.max_length}"
        common = counted(totals, limit, reasons, name=name, room=room, may_be_none=may_be_none)
        return PairsReport(
            noun="pairs",
            **common,
            num_spelled=counts[SPELLED],
            num_dropped_equal=counts[EQUAL_ROWS],
            num_dropped_unusable=counts[UNUSABLE],
        )


def encode_pairs(
    records: Iterable[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: Limit = NO_LIMIT,
    name: str = "pairs",
    may_be_none: bool = False,
) -> tuple[list[EncodedPair], PairsReport]:
    """Encode the rows of a source of the form preference, in memory.

    `limit` decides about pairs with a sequence that is too long. Pairs whose responses have the
    same token ids, also after being cut, are dropped and counted. A source (called `name` in the
    error) of which no pair is left is an error, unless it `may_be_none`.
    """
    encoder, kept = PairEncoder(tokenizer, limit), list[EncodedPair]()
    totals = encode_all(records, encoder, kept.extend)
    return kept, encoder.report(totals, name=name, may_be_none=may_be_none)


def split_last_stretch(tokens: Tokens, where: str) -> tuple[list[int], list[int]]:
    """Split ids into the last stretch that the model writes, and all ids before it.

    What a template writes after the end of the last turn (ChatML's line break) is in neither.
    """
    end = len(tokens.ids)
    while end and not tokens.trained[end - 1]:
        end -= 1
    start = end
    while start and tokens.trained[start - 1]:
        start -= 1
    if not start:
        message = "no prompt is left of this row" if end else "no token of this row is written"
        raise PosttrainError(where, message, "the chat template drops it; give another one")
    return tokens.ids[:start], tokens.ids[start:end]


def _within(limit: Limit, pair: EncodedPair, bos: Any) -> EncodedPair | None:
    """Return a pair cut to the limit; None where it is dropped."""
    if not limit.is_exceeded(pair.length):
        return pair
    limit.refuse(pair.length, pair.where)
    parts = pair.prompt_ids, pair.chosen_ids, pair.rejected_ids
    kept = limit.fit_pair(*parts, has_bos=pair.prompt_ids[0] == bos)
    if kept is None:
        return None
    return replace(pair, prompt_ids=kept[0], chosen_ids=kept[1], rejected_ids=kept[2])


class _RowEncoder:
    """Encodes preference rows as chats if row and tokenizer allow it, otherwise as running text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._text = TextEncoder(tokenizer)
        self._has_template = bool(tokenizer.chat_template)
        self._chat: ChatEncoder | None = None

    def encode(self, rows: Sequence[PreferenceRow]) -> list[EncodedPair]:
        """Encode rows; much faster for many at once."""
        are_chats = [bool(row.prompt) and self._has_template for row in rows]
        chats = [row for row, is_chat in zip(rows, are_chats, strict=True) if is_chat]
        encoded = iter(self._chats(chats))
        pairs: list[EncodedPair] = []
        for row, is_chat in zip(rows, are_chats, strict=True):
            if is_chat:
                chosen, rejected = next(encoded), next(encoded)
            else:
                chosen, rejected = self._texts(row)
            pairs.append(_pair(row, chosen, rejected))
        return pairs

    def _chats(self, rows: Sequence[PreferenceRow]) -> list[Tokens]:
        """Encode two conversations per row, the chosen one first."""
        if not rows:
            return []
        if self._chat is None:
            self._chat = ChatEncoder(self._text.tokenizer)
        return self._chat.answers(
            [
                ChatRow(row.where, (*row.prompt, answer), settings=row.settings)
                for row in rows
                for answer in row.turns
            ]
        )

    def _texts(self, row: PreferenceRow) -> tuple[Tokens, Tokens]:
        if row.text is None:
            message = f"a conversation, and {self._text.name} has no chat template"
            hint = "use pairs of plain texts (prompt, chosen, rejected), or a chat model"
            raise PosttrainError(row.where, message, hint)
        prompt, chosen, rejected = row.text
        return (
            self._text.prompt_completion(prompt, chosen, row.where),
            self._text.prompt_completion(prompt, rejected, row.where),
        )


def _pair(row: PreferenceRow, chosen: Tokens, rejected: Tokens) -> EncodedPair:
    prompt_ids, chosen_ids = split_last_stretch(chosen, row.where)
    other_ids, rejected_ids = split_last_stretch(rejected, row.where)
    # Losses subtract log-probabilities of two responses to one prompt; a template that looks at the
    # answer before it writes the prompt would break that.
    if prompt_ids != other_ids:
        message = "the prompt has other tokens before the chosen response than before the rejected"
        hint = "the chat template writes the prompt by what is answered; give another template"
        raise PosttrainError(row.where, message, hint)
    return EncodedPair(
        prompt_ids,
        chosen_ids,
        rejected_ids,
        row.where,
        row.margin,
        row.probability,
        row.flaw,
    )


def _lengths(pair: EncodedPair) -> tuple[int, int]:
    prompt = len(pair.prompt_ids)
    return prompt + len(pair.chosen_ids), prompt + len(pair.rejected_ids)
