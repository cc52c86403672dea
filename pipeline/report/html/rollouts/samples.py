"""Completions that a stage kept every few rollouts, by prompt and in time: samples.jsonl.

Not all of them: rollouts from the first to the last, as many completions of each as there is room.
The first completion of every rollout comes first, so that the first few show the whole training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, islice, zip_longest
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pipeline.commands.export import without_places
from pipeline.errors import CorruptArtifactError
from pipeline.files.json_lines import read_lines
from pipeline.files.names import SAMPLES
from pipeline.report.html.samples import cut, picture_of
from pipeline.report.html.tool_steps import ToolStep, steps_of_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.text.pictures import PageImage

_MOST_ROLLOUTS = 20
_MOST_IN_ALL = 240
_MOST_BYTES = 400_000
_PICTURE_PX = 64

Kind = Literal["fooling", "cut"]


@dataclass(frozen=True)
class Completion:
    """A completion in its time; figures are None where nothing was measured.

    terms: the rewards that the score is made of. is_fooling: it is paid more than the mean of its
    source's while its gold score is below their mean. steps: what was called before the text.
    picture: the text, where its task has it be one.
    """

    rollout: int
    text: str
    is_ended: bool
    score: float | None
    terms: tuple[tuple[str, float], ...]
    kl: float | None
    gold: float | None
    is_fooling: bool
    steps: tuple[ToolStep, ...] = ()
    picture: PageImage | None = None


@dataclass(frozen=True)
class PromptInTime:
    """A prompt and what was answered to it, the earliest first."""

    source: str
    prompt: str
    completions: tuple[Completion, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What a reader may look for among its completions."""
        is_there: dict[Kind, bool] = {
            "fooling": any(completion.is_fooling for completion in self.completions),
            "cut": not all(completion.is_ended for completion in self.completions),
        }
        return tuple(kind for kind, is_so in is_there.items() if is_so)


def read_samples(folder: Path, *, is_finished: bool = True) -> tuple[PromptInTime, ...]:
    """Return prompts with their completions; raises CorruptArtifactError."""
    path = folder / SAMPLES
    try:
        lines = read_lines(path, is_finished=is_finished)
        chosen = frozenset(_spread(sorted({_rollout(line) for line in lines}), _MOST_ROLLOUTS))
        return tuple(_by_prompt(_within([line for line in lines if _rollout(line) in chosen])))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error


def _rollout(line: Mapping[str, Any]) -> int:
    return int(line.get("rollout") or 0)


def _spread(numbers: Sequence[int], at_most: int) -> list[int]:
    """Return evenly spaced ones, the first and the last among them."""
    if len(numbers) <= at_most:
        return list(numbers)
    last = len(numbers) - 1
    return [numbers[round(place * last / (at_most - 1))] for place in range(at_most)]


def _within(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return as many of each rollout as there is room for: the first of each, the second, ..."""
    by_rollout: dict[int, list[dict[str, Any]]] = {}
    for line in sorted(lines, key=_rollout):
        by_rollout.setdefault(_rollout(line), []).append(line)
    in_turn = (line for turn in zip_longest(*by_rollout.values()) for line in turn if line)
    chosen = list(islice(in_turn, _MOST_IN_ALL))
    total = accumulate(_size_bytes(line) for line in chosen)
    return [line for line, size in zip(chosen, total, strict=True) if size <= _MOST_BYTES]


def _size_bytes(line: Mapping[str, Any]) -> int:
    texts = (cut(str(line.get(key, ""))) for key in ("prompt", "completion"))
    steps = sum(step.size_bytes for step in steps_of_turns(line.get("turns")))
    return steps + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _by_prompt(lines: Sequence[dict[str, Any]]) -> Iterator[PromptInTime]:
    by_prompt: dict[tuple[str, str], list[dict[str, Any]]] = {}
    by_source: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        source = _source(line)
        by_source.setdefault(source, []).append(line)
        by_prompt.setdefault((source, str(line.get("prompt", ""))), []).append(line)
    usual = {source: _usual(found) for source, found in by_source.items()}
    for (source, prompt), found in by_prompt.items():
        in_time = sorted(found, key=_rollout)
        completions = tuple(_completion(line, usual[source]) for line in in_time)
        yield PromptInTime(source, cut(prompt), completions)


def _source(line: Mapping[str, Any]) -> str:
    return str(without_places(str(line.get("source") or "")))


def _usual(lines: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the means of score and gold score; nan where none was measured."""
    columns = ([_number(line.get(key)) for line in lines] for key in ("score", "gold"))
    known = ([value for value in column if value is not None] for column in columns)
    score, gold = (fmean(found) if found else math.nan for found in known)
    return score, gold


def _completion(line: Mapping[str, Any], usual: tuple[float, float]) -> Completion:
    score, gold = _number(line.get("score")), _number(line.get("gold"))
    terms = (line.get("scores") or {}).items()
    return Completion(
        rollout=_rollout(line),
        text=cut(str(line.get("completion", "")).strip()),
        is_ended=bool(line.get("ended", True)),
        score=score,
        terms=tuple((str(name), v) for name, value in terms if (v := _number(value)) is not None),
        kl=_number(line.get("kl")),
        gold=gold,
        is_fooling=score is not None and gold is not None and score > usual[0] and gold < usual[1],
        steps=steps_of_turns(line.get("turns")),
        picture=picture_of(line, about_px=_PICTURE_PX),
    )


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None
