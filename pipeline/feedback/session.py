"""A labeller at work: which pair is next, what is told of it, and what is decided.

Nothing that is told says where a response is from, or which of them a judge prefers. Several tabs
may look at one session: a decision on a pair that is decided already changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.feedback.decisions import Decision
from pipeline.feedback.showings import name_showing
from pipeline.feedback.sources import prompt_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.data.reading.records import Message, PromptRow
    from pipeline.feedback.decisions import Verdict
    from pipeline.feedback.record import Record
    from pipeline.feedback.showings import Showing


class StaleError(Exception):
    """What is asked for was done already, or is not the last thing that was."""


class Session:
    """The showings in their order, and the record of those that are decided.

    seed: says which response stands first.
    """

    def __init__(
        self, showings: Sequence[Showing], record: Record, *, labeller: str, seed: int
    ) -> None:
        self._showings = showings
        self._record = record
        self._labeller = labeller
        self._seed = seed

    @property
    def is_finished(self) -> bool:
        """Whether everything is decided."""
        return self._next() is None

    def tell(self) -> dict[str, Any]:
        """Return what the page shows: how far it is, and the next pair if there is one."""
        decided = self._decided()
        due = [showing for showing in self._showings if _is_due(showing, decided)]
        done = sum((showing.pair.key, showing.number) in decided for showing in due)
        showing = self._next()
        return {
            "done": done,
            "total": len(due),
            "last": self._last(),
            "pair": None if showing is None else self._tell_pair(showing, decided),
        }

    def decide(self, name: str, verdict: Verdict, seconds: float) -> None:
        """Write a decision on the pair that is next; StaleError for any other one."""
        showing = self._next()
        if showing is None or showing.name != name:
            raise StaleError("this pair is decided already")
        first, second = self._sides(showing, self._decided())
        decision = Decision(
            pair=showing.pair.key,
            showing=1 if showing.number == 1 else 2,
            verdict=verdict,
            labeller=self._labeller,
            when=_now(),
            seconds=round(seconds, 1),
            sources=[first.source, second.source],
            prompt=first.row.fields["prompt"],
            first=first.written,
            second=second.written,
            columns=prompt_columns(first),
        )
        self._record.add(decision)

    def take_back(self, name: str) -> None:
        """Take back the last decision; StaleError where it is another one."""
        if name != self._last():
            raise StaleError("this was taken back already")
        self._record.take_back(_now())

    def _last(self) -> str | None:
        """Return what was decided last; None where that is no pair of this session."""
        if not self._record.decisions:
            return None
        last = self._record.decisions[-1]
        name = name_showing(last.pair, last.showing)
        return name if any(showing.name == name for showing in self._showings) else None

    def _decided(self) -> dict[tuple[str, int], Decision]:
        return {(one.pair, one.showing): one for one in self._record.decisions}

    def _next(self) -> Showing | None:
        decided = self._decided()
        for showing in self._showings:
            if (showing.pair.key, showing.number) not in decided and _is_due(showing, decided):
                return showing
        return None

    def _sides(self, showing: Showing, decided: dict[tuple[str, int], Decision]) -> Any:
        before = decided.get((showing.pair.key, 1)) if showing.number == 2 else None
        first_text = None
        if before is not None:
            a = showing.pair.a
            first_text = a.text if before.first == a.written else showing.pair.b.text
        return showing.sides(seed=self._seed, first_text=first_text)

    def _tell_pair(
        self, showing: Showing, decided: dict[tuple[str, int], Decision]
    ) -> dict[str, Any]:
        first, second = self._sides(showing, decided)
        return {
            "name": showing.name,
            "prompt": _tell_prompt(first.row.prompt),
            "first": first.text,
            "second": second.text,
        }


def _is_due(showing: Showing, decided: dict[tuple[str, int], Decision]) -> bool:
    """Whether a pair is to be shown at all: none a second time that was skipped the first time."""
    if showing.number == 1:
        return True
    before = decided.get((showing.pair.key, 1))
    return before is None or before.verdict != "skip"


def _tell_prompt(prompt: PromptRow) -> list[dict[str, str]]:
    """Return the turns of a prompt; a text, which the responses continue, as one without a role."""
    if not prompt.messages:
        return [{"role": "", "text": prompt.text or ""}]
    return [{"role": turn.role, "text": _tell_turn(turn)} for turn in prompt.messages]


def _tell_turn(turn: Message) -> str:
    calls = [f"→ {call.name}: {call.arguments}" for call in turn.calls]
    return "\n".join(filter(None, (turn.reasoning, turn.content, *calls)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
