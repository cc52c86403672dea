"""Calls of tools within a response, as a page shows them: the call, and what was answered.

From items.jsonl, where a response has `calls`, and from samples.jsonl, where it has `turns`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LONGEST = 300  # characters of a call or an answer
_MOST = 20  # calls of a response


@dataclass(frozen=True)
class ToolStep:
    """A call and its answer, after what the model said before it.

    is_error: whether it has no result.
    """

    said: str
    name: str
    arguments: str
    answer: str
    is_error: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of its texts."""
        texts = (self.said, self.name, self.arguments, self.answer)
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def steps_of_calls(calls: Iterable[Mapping[str, Any]] | None) -> tuple[ToolStep, ...]:
    """Return the steps of a response of items.jsonl."""
    steps = [
        ToolStep(
            "",
            _cut(call["name"]),
            _cut(_plain(call["arguments"])),
            _cut(call["answer"]),
            call["error"] is not None,
        )
        for call in calls or ()
    ]
    return tuple(steps[:_MOST])


def steps_of_turns(turns: Iterable[Mapping[str, Any]] | None) -> tuple[ToolStep, ...]:
    """Return the steps of a response of samples.jsonl; the last turn is no step."""
    return tuple(_steps(list(turns or ())))[:_MOST]


def _steps(turns: list[Mapping[str, Any]]) -> Iterator[ToolStep]:
    for place, turn in enumerate(turns):
        calls = turn.get("tool_calls") or ()
        for number, call in enumerate(calls):
            behind = turns[place + 1 + number : place + 2 + number]
            answer = str(behind[0]["content"]) if behind and behind[0]["role"] == "tool" else ""
            function = call["function"]
            said = str(turn.get("content") or "") if number == 0 else ""
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            yield ToolStep(
                _cut(said),
                _cut(function["name"]),
                _cut(_plain(arguments)),
                _cut(answer),
                answer.startswith("error: "),
            )


def _plain(arguments: str) -> str:
    """Return the arguments of a call as `name=value`, where they are a JSON object."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return arguments
    if not isinstance(found, dict):
        return arguments
    return ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in found.items()  # pyright: ignore[reportUnknownVariableType]
    )


def _cut(text: Any) -> str:
    text = str(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} \N{HORIZONTAL ELLIPSIS}"
