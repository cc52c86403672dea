"""How long a row may be, what becomes of longer ones, and how that is counted and reported.

Works on token ids; the rows themselves are encoded in examples.py, pairs.py and prompts.py. Imports
no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.data.encoding.label_balance import WARNING, describe_labels
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.config.field_types import TooLong, TruncationSide
    from pipeline.config.training_stage import TrainingOnRows

_Sequence = TypeVar("_Sequence", bound=Sequence[Any])
# Shares of the rows: above the first, dropped or cut rows are worth a warning; above the second,
# dropped rows are a mistake in the recipe.
WARNED_SHARE, REFUSED_SHARE = 0.01, 0.5
SPELLED = "rows_spelling_control_tokens"


@dataclass(frozen=True)
class Limit:
    """How many tokens a row may have, and what becomes of longer rows.

    max_length: None for no limit. side: where `truncate` cuts. remedy: how to give rows more room,
    for messages.
    """

    max_length: int | None
    too_long: TooLong = "drop"
    side: TruncationSide = "right"
    remedy: str = "raise `max_length`"

    def is_exceeded(self, num_tokens: int) -> bool:
        """Whether a row of so many tokens is too long."""
        return self.max_length is not None and num_tokens > self.max_length

    def refuse(self, num_tokens: int, where: str) -> None:
        """Raise PosttrainError where a row that is too long is an error."""
        if self.too_long == "error":
            message = f"{num_tokens} tokens, longer than {self.max_length}"
            hint = f"shorten it, {self.remedy}, or write `too_long: truncate` or `drop`"
            raise PosttrainError(where, message, hint)

    def explain_loss(self, which: str, lengths: Sequence[int]) -> tuple[str, str]:
        """Return what is wrong, and what to do, about dropped rows; which: `3 of 4 rows`."""
        message = f"{which} are longer than {self.max_length} tokens"
        hint = f"{self.remedy} (the longest has {max(lengths, default=0)})"
        if self.too_long != "truncate":
            hint += ", or write `too_long: truncate`"
        elif self.side == "right":
            message += " and leave no room for a response"
            hint += ", or write `truncation_side: left`"
        return message, hint

    def room_hint(self, noun: str) -> str:
        """Return what to do where all rows are too long."""
        cutting = ""
        if self.too_long != "truncate":
            cutting = ", write `too_long: truncate`"
        elif self.side == "right":
            cutting = ", write `truncation_side: left`"
        return f"{self.remedy}{cutting}, or shorten the {noun}"

    def fit(self, ids: _Sequence, *, has_bos: bool) -> _Sequence | None:
        """Return a sequence cut to the limit; None where it is dropped.

        has_bos: whether its first token is BOS, which stays even where the left is cut.
        """
        if not self.is_exceeded(len(ids)):
            return ids
        assert self.max_length is not None
        if self.too_long != "truncate" or self.max_length < 1:
            return None
        return cut(ids, self.max_length, self.side, has_bos=has_bos)

    def fit_pair(
        self, prompt: list[int], chosen: list[int], rejected: list[int], *, has_bos: bool
    ) -> tuple[list[int], list[int], list[int]] | None:
        """Return a pair's prompt and responses, cut so that both sequences fit the limit.

        Cut on the left, the prompt gives way first, down to its last token; both responses keep the
        same prompt. None where the pair is dropped, or no token of a response has room.
        """
        longest = len(prompt) + max(len(chosen), len(rejected))
        if not self.is_exceeded(longest):
            return prompt, chosen, rejected
        assert self.max_length is not None
        if self.too_long != "truncate" or self.max_length < 2:
            return None
        if self.side == "left":
            room = max(1, len(prompt) - (longest - self.max_length))
            prompt = cut(prompt, room, "left", has_bos=has_bos)
        room = self.max_length - len(prompt)
        return (prompt, chosen[:room], rejected[:room]) if room > 0 else None


NO_LIMIT = Limit(None)


def limit_of(config: TrainingOnRows, max_length: int | None, positions: int | None) -> Limit:
    """Return how long the rows of a stage may be.

    max_length: of the trainer. positions: how many the model has; None where there is no limit.
    """
    remedy = "raise `max_length`"
    if positions is not None and max_length is not None and max_length >= positions:
        remedy = f"take a model with more than {positions} positions"
    return Limit(max_length, config.too_long, config.truncation_side, remedy)


def prompt_limit(too_long: TooLong, max_prompt_length: int | None, room: int | None) -> Limit:
    """Return how long the prompts of PPO may be; they are cut on the left alone.

    max_prompt_length: of the trainer. room: positions of the model that responses leave; None where
    there is no limit.
    """
    if max_prompt_length is None:
        return Limit(room, too_long, "left", "lower `max_completion_length`")
    return Limit(max_prompt_length, too_long, "left", "raise `max_prompt_length`")


def cut(ids: _Sequence, length: int, side: TruncationSide, *, has_bos: bool) -> _Sequence:
    """Return the first `length` items of a sequence, or the last ones with BOS in front of them."""
    if len(ids) <= length:
        return ids
    if side == "right":
        return ids[:length]  # pyright: ignore[reportReturnType]
    kept = min(int(has_bos), length - 1)
    return ids[:kept] + ids[len(ids) - (length - kept) :]  # pyright: ignore[reportReturnType, reportOperatorIssue]


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """What became of a source's rows; tokens are counted in those that were kept.

    noun: what a row is called: rows, pairs or prompts.
    num_rows: all of them, including those that were dropped.
    num_dropped_too_long: rows without room, not counting those that were cut.
    num_cut: rows that were kept, and cut.
    num_spelled: rows whose text spells a control token, and stays text.
    num_dropped_equal, num_dropped_unusable: of preferences; see records.DroppedRow.
    lengths: tokens per readable row before anything is cut; of a pair, of its longer sequence.
    """

    noun: str
    limit: Limit
    num_rows: int
    num_dropped_too_long: int
    num_cut: int
    num_tokens: int
    longest_tokens: int
    lengths: Sequence[int]
    num_spelled: int = 0
    num_dropped_equal: int = 0
    num_dropped_unusable: int = 0

    @property
    def num_kept(self) -> int:
        """How many rows are used."""
        dropped = self.num_dropped_too_long, self.num_dropped_equal, self.num_dropped_unusable
        return self.num_rows - sum(dropped)

    def metrics(self) -> dict[str, Any]:
        """Return the report as a stage's metrics."""
        return self.length_metrics()

    def length_metrics(self) -> dict[str, Any]:
        """Return how many rows there are, and what became of those that are too long."""
        key = "prompts" if self.noun == "prompts" else "rows"
        return {
            key: self.num_rows,
            f"{key}_used": self.num_kept,
            f"{key}_dropped_too_long": self.num_dropped_too_long,
            f"{key}_cut": self.num_cut,
            **({} if self.limit.max_length is None else {"row_limit": self.limit.max_length}),
            **({SPELLED: self.num_spelled} if self.num_spelled else {}),
        }

    def held_out_metrics(self) -> dict[str, Any]:
        """Return what was left out as metrics, where the rows are held out; {} without any rows."""
        if not self.num_rows:
            return {}
        return {
            "held_out_dropped_too_long": self.num_dropped_too_long,
            "held_out_cut": self.num_cut,
        }

    def problem(self) -> tuple[str, str] | None:
        """Return what is wrong, and what to do, where most rows would be dropped; or None."""
        num = self.num_dropped_too_long
        if not self.num_rows or num <= REFUSED_SHARE * self.num_rows:
            return None
        which = f"{num} of {self.num_rows} {self.noun}"
        return self.limit.explain_loss(which, self.lengths)

    def refuse(self, name: str) -> None:
        """Raise PosttrainError where most rows would be dropped, naming the stage."""
        problem = self.problem()
        if problem:
            raise PosttrainError(name, *problem)


class PreferenceCounts(RowCounts):
    """What became of a source's preferences, which may be dropped for more than their length."""

    def held_out_metrics(self) -> dict[str, Any]:
        """Return what was left out as metrics, where the rows are held out; {} without any rows."""
        if not self.num_rows:
            return {}
        return {
            **super().held_out_metrics(),
            "held_out_dropped_equal": self.num_dropped_equal,
            "held_out_dropped_unusable": self.num_dropped_unusable,
        }


def describe_rows(metrics: Mapping[str, Any]) -> str:
    """Return in one line what became of a stage's rows, from its metrics; "" without any rows.

    `529 of 902 rows trained: 373 longer than 512`
    """
    key = _noun(metrics)
    total, used = metrics.get(key), metrics.get(f"{key}_used")
    if not total or used is None:
        return ""
    sentence = f"{used} of {total} {key} {'used' if key == 'prompts' else 'trained'}"
    if metrics.get(f"{key}_cut"):
        sentence += f", {metrics[f'{key}_cut']} of them cut to {metrics.get('row_limit')} tokens"
    lost = _count_lost(metrics, key)
    parts = [f"{sentence}: {', '.join(lost)}" if lost else sentence]
    if metrics.get("rows_left_out_per_epoch"):
        parts.append(f"{metrics['rows_left_out_per_epoch']} in each epoch fill no batch")
    held_out = _count_lost(metrics, "held_out")
    if metrics.get("held_out_cut"):
        held_out.append(f"{metrics['held_out_cut']} cut to {metrics.get('row_limit')} tokens")
    if held_out:
        parts.append(f"of the held-out ones {', '.join(held_out)}")
    if metrics.get(SPELLED):
        parts.append(f"{metrics[SPELLED]} spell control tokens, which stay text")
    if metrics.get("chats"):
        parts.append(f"made of {metrics['chats']} chats: each answer as it is written when given")
    parts += describe_labels(metrics)
    if metrics.get("not_used"):
        parts.append(f"not used: {'; '.join(metrics['not_used'])}")
    return "; ".join(parts)


def is_worth_a_warning(metrics: Mapping[str, Any]) -> bool:
    """Whether the user must be told: so many rows were dropped or cut, or labels are uneven."""
    key = _noun(metrics)
    total, used = metrics.get(key) or 0, metrics.get(f"{key}_used") or 0
    lost = total - used + (metrics.get(f"{key}_cut") or 0)
    return WARNING in metrics or max(lost, metrics.get(SPELLED) or 0) > WARNED_SHARE * total


def _noun(metrics: Mapping[str, Any]) -> str:
    return "prompts" if metrics.get("prompts") else "rows"


def _count_lost(metrics: Mapping[str, Any], key: str) -> list[str]:
    """Return how many rows were dropped, per reason, where there are any."""
    reasons = {
        "too_long": f"longer than {metrics.get('row_limit')}",
        "equal": "whose two responses are equal",
        "unusable": "not usable",
    }
    return [
        f"{number} {words}"
        for why, words in reasons.items()
        if (number := metrics.get(f"{key}_dropped_{why}"))
    ]
