"""Conversations with tools: the model writes, tools answer its calls, it writes on.

Whatever writes (a sampler of pipeline/rl, a generator of eval/asking) is called a turn at a time
with all conversations that go on. A turn's tokens are never encoded anew: what a tool answers is
put behind them. Knows token ids, not how they come about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from eval.tools.toolbox import CallRecord, Toolbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.tools.calls import Call

MAX_CALLS = 8  # of a turn; the others are answered that they are too many
_TOO_MANY = f"at most {MAX_CALLS} calls of a turn are answered"


class ToolFormat(Protocol):
    """How calls and answers are written, in tokens: by a chat template (pipeline/tools/use.py)."""

    def read_calls(self, token_ids: Sequence[int]) -> list[Call]:
        """Return the calls in a turn that has ended."""
        ...

    def spoken(self, token_ids: Sequence[int]) -> str:
        """Return what a turn says beside its calls, without the token that ends it."""
        ...

    def answer_ids(self, answers: Sequence[tuple[str, str]], *, last_id: int) -> list[int]:
        """Return the ids between a turn that ends with last_id and where the model goes on.

        answers: (name of the tool, text) for each call of the turn.
        """
        ...


@dataclass(frozen=True)
class ToolUse:
    """The tools of a model, how it calls them, and how often it may write (`max_turns`)."""

    toolbox: Toolbox
    format: ToolFormat
    max_turns: int


@dataclass(frozen=True)
class Turn:
    """What a model wrote in one go.

    token_ids: its end token included. has_ended: False where it was cut for its length. logprobs:
    one for each token, if whatever wrote them gives any.
    """

    token_ids: list[int]
    has_ended: bool
    logprobs: list[float] | None = None


@dataclass
class WrittenTurn:
    """A turn's place among the tokens, [begin, end), and the calls in it that were answered."""

    begin: int
    end: int
    calls: list[CallRecord] = field(default_factory=list[CallRecord])


@dataclass
class Conversation:
    """What stands behind one prompt: turns of the model, and what tools answered between them.

    own: which of the tokens the model wrote. logprobs: of each token, 0 for those of tools; None if
    there are none. has_ended: whether the model ended it: not where a turn was cut, or there was no
    room left for what tools answered. has_open_calls: whether its last turn has calls whose answers
    it never read, because it was the last that the model may write or there was no room.
    """

    prompt: list[int]
    token_ids: list[int] = field(default_factory=list[int])
    own: list[bool] = field(default_factory=list[bool])
    logprobs: list[float] | None = field(default_factory=list[float])
    turns: list[WrittenTurn] = field(default_factory=list[WrittenTurn])
    has_ended: bool = False
    has_open_calls: bool = False

    @property
    def calls(self) -> list[CallRecord]:
        """All calls that tools were asked, in order."""
        return [call for turn in self.turns for call in turn.calls]

    @property
    def num_own(self) -> int:
        """How many tokens the model wrote."""
        return sum(self.own)

    def add_turn(self, turn: Turn) -> None:
        """Append what the model wrote."""
        begin = len(self.token_ids)
        self.turns.append(WrittenTurn(begin, begin + len(turn.token_ids)))
        self.has_ended = turn.has_ended
        self._extend(turn.token_ids, is_own=True, logprobs=turn.logprobs)

    def add_answers(self, token_ids: Sequence[int]) -> None:
        """Append what stands between this turn and the next."""
        zeros = None if self.logprobs is None else [0.0] * len(token_ids)
        self._extend(token_ids, is_own=False, logprobs=zeros)

    def _extend(
        self, token_ids: Sequence[int], *, is_own: bool, logprobs: Sequence[float] | None
    ) -> None:
        self.token_ids += token_ids
        self.own += [is_own] * len(token_ids)
        if logprobs is None:
            self.logprobs = None
        elif self.logprobs is not None:
            self.logprobs += logprobs


def converse(
    conversations: Sequence[Conversation],
    tools: ToolUse,
    *,
    max_new_tokens: int,
    write: Callable[[Sequence[int]], Sequence[Turn]],
) -> None:
    """Carry conversations on until each is over.

    max_new_tokens: of a conversation, what tools answer included. write: given the places of those
    that go on, writes a turn for each behind its prompt and its tokens so far.
    The calls of all conversations are answered together.
    """
    going_on = list(range(len(conversations)))
    while going_on:
        calls_by_place: dict[int, list[Call]] = {}
        for place, turn in zip(going_on, write(going_on), strict=True):
            conversation = conversations[place]
            conversation.add_turn(turn)
            calls = tools.format.read_calls(turn.token_ids) if turn.has_ended else []
            conversation.has_open_calls = bool(calls)
            if calls and len(conversation.turns) < tools.max_turns:
                calls_by_place[place] = calls
        going_on = _answer(conversations, calls_by_place, tools, max_new_tokens)


def answer_calls(toolbox: Toolbox, turns: Sequence[Sequence[Call]]) -> list[list[CallRecord]]:
    """Answer the calls of several turns together; of each turn the first MAX_CALLS."""
    records = iter(toolbox.run([call for calls in turns for call in calls[:MAX_CALLS]]))
    answered: list[list[CallRecord]] = []
    for calls in turns:
        answered.append([next(records) for _ in calls[:MAX_CALLS]])
        answered[-1] += [
            CallRecord(call.name, "{}", f"error: {_TOO_MANY}", "too many")
            for call in calls[MAX_CALLS:]
        ]
    return answered


def _answer(
    conversations: Sequence[Conversation],
    calls_by_place: dict[int, list[Call]],
    tools: ToolUse,
    max_new_tokens: int,
) -> list[int]:
    """Put the tools' answers in; return the places of the conversations that go on."""
    answered_by_turn = answer_calls(tools.toolbox, list(calls_by_place.values()))
    going_on: list[int] = []
    for place, answered in zip(calls_by_place, answered_by_turn, strict=True):
        conversation = conversations[place]
        conversation.turns[-1].calls += answered
        ids = tools.format.answer_ids(
            [(record.name, record.answer) for record in answered],
            last_id=conversation.token_ids[-1],
        )
        # As in TRL, an answer that leaves no token for the model is not put in.
        if len(conversation.token_ids) + len(ids) >= max_new_tokens:
            conversation.has_ended = False
            continue
        conversation.add_answers(ids)
        conversation.has_open_calls = False
        going_on.append(place)
    return going_on
