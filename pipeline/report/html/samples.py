"""Which items are shown with all models' responses side by side, read from items.jsonl.

Each model is shown asked in its best way. Not all items: as many of those on which a candidate and
the baseline differ as of those on which they agree, up to a limit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate, islice, zip_longest
from typing import TYPE_CHECKING, Any, Literal

from eval.comparison.score_rows import pick_best_rows
from eval.results import BITS_PER, REWARD
from pipeline.commands.export import without_places
from pipeline.errors import CorruptArtifactError
from pipeline.files.names import ITEMS
from pipeline.report.formatting import asking_label
from pipeline.report.html.tool_steps import ToolStep, steps_of_calls
from pipeline.text.pictures import PageImage, page_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pipeline.report.comparison import StageComparison

Kind = Literal["gained", "lost", "wrong", "right"]
Mark = Literal["right", "wrong", "partly right", "not graded"]
_MOST_PER_TASK = 60
_MOST_IN_ALL = 720
_MOST_BYTES = 1_200_000  # of all texts together
_LONGEST = 1_500  # characters of a text
_PICTURE_PX = 64
_FIRST_CHOICE = "verified_accuracy"
_Result = dict[str, Any]
_Way = tuple[str, int]


@dataclass(frozen=True)
class Response:
    """What one model answered. prompt: as it was asked. times: `2 of 4 right`, of several.

    steps: what it called before its last turn. picture: the answer, where its task has it be one.
    """

    model: str
    asked: str
    prompt: str
    text: str
    answer: str
    reason: str
    mark: Mark
    times: str
    steps: tuple[ToolStep, ...] = ()
    picture: PageImage | None = None


@dataclass(frozen=True)
class Sample:
    """One item. kind: whether candidates and baseline agree on it."""

    stage: str
    task: str
    item: str
    group: str
    question: str
    gold: str
    kind: Kind
    responses: tuple[Response, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its texts."""
        texts = [self.question, self.gold]
        for response in self.responses:
            texts += [response.prompt, response.text, response.answer, response.reason]
            texts += [] if response.picture is None else [response.picture.source]
        steps = sum(step.size_bytes for response in self.responses for step in response.steps)
        return steps + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


@dataclass(frozen=True)
class Room:
    """How many items of a task there is room for, and how many bytes of them."""

    items: int
    size_bytes: int


def room(comparisons: Sequence[StageComparison]) -> Room:
    """Return what each task of each comparison may take, so that a page stays small."""
    tasks = sum(len({row.task for row in comparison.rows}) for comparison in comparisons) or 1
    return Room(min(_MOST_PER_TASK, _MOST_IN_ALL // tasks), _MOST_BYTES // tasks)


def read_samples(folder: Path, comparison: StageComparison, *, within: Room) -> list[Sample]:
    """Return as many items of each task as there is room for; raises CorruptArtifactError."""
    path = folder / ITEMS
    ways = best_ways(comparison)
    try:
        read = _read(path, ways)
        return [
            sample
            for task in dict.fromkeys(task for task, _ in ways)
            for sample in _chosen(_samples(task, read, ways, comparison), within)
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error


def few_of(samples: Sequence[Sample], number: int = 3) -> tuple[Sample, ...]:
    """Return a few items that show the difference: a gained one, a lost one, another gained one.

    Of each kind the first one that all models answered in words, of a task not shown yet.
    """
    chosen: list[Sample] = []
    most = max((len(sample.responses) for sample in samples), default=0)
    kinds: tuple[Kind, ...] = ("gained", "lost", "gained", "right", "wrong")
    for kind in kinds:
        tasks = {sample.task for sample in chosen}
        fitting = [
            sample
            for sample in samples
            if sample.kind == kind and len(sample.responses) == most
            if sample not in chosen
        ]
        fresh = [sample for sample in fitting if sample.task not in tasks] or fitting
        if fresh and len(chosen) < number:
            chosen.append(min(fresh, key=_says_nothing))
    return tuple(chosen)


def _says_nothing(sample: Sample) -> bool:
    return not all(response.text for response in sample.responses)


def cut(text: str) -> str:
    """Return a text's beginning, and how much was left out."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]} \N{HORIZONTAL ELLIPSIS} ({len(text) - _LONGEST:,} more characters)"


def best_ways(comparison: StageComparison) -> dict[tuple[str, str], tuple[str, _Way]]:
    """Return metric and best way of asking by task and model."""
    asked = [
        row for row in comparison.rows if not row.is_win_rate and not row.metric.startswith("pass@")
    ]
    ways: dict[tuple[str, str], tuple[str, _Way]] = {}
    for task in dict.fromkeys(row.task for row in asked):
        metrics = [row.metric for row in asked if row.task == task]
        metric = _FIRST_CHOICE if _FIRST_CHOICE in metrics else metrics[0]
        if metric.startswith(BITS_PER):
            continue
        for row in pick_best_rows(asked):
            if (row.task, row.metric) == (task, metric):
                ways[task, row.model] = metric, (row.style, row.shots)
    return ways


@dataclass
class _Read:
    """What is kept of items.jsonl: shown results by task and model, then item; questions by item.

    A question is the shortest prompt that any model was asked about an item, in chat if any was.
    """

    shown: dict[tuple[str, str], dict[str, list[_Result]]]
    questions: dict[tuple[str, str], tuple[bool, str]]

    def ask(self, task: str, result: _Result) -> None:
        """Take a prompt as the item's question if it is a better one."""
        key, prompt = (task, str(result["item"])), str(result["prompt"])
        asked = (result["form"] != "chat", prompt)
        known = self.questions.get(key)
        if known is None or (asked[0], len(prompt)) < (known[0], len(known[1])):
            self.questions[key] = asked


def _read(path: Path, ways: Mapping[tuple[str, str], tuple[str, _Way]]) -> _Read:
    read = _Read({}, {})
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            result = json.loads(line)
            key = (hide_place(result["task"]), hide_place(result["model"]))
            metric, way = ways.get(key, ("", ("", 0)))
            if result["metric"] != metric:
                continue
            read.ask(key[0], result)
            if (result["style"], result.get("shots", 0)) == way:
                read.shown.setdefault(key, {}).setdefault(str(result["item"]), []).append(result)
    return read


def hide_place(value: Any) -> str:
    """Return the name of a task or model as a page may show it."""
    return str(without_places(str(value)))


def _samples(
    task: str,
    read: _Read,
    ways: Mapping[tuple[str, str], tuple[str, _Way]],
    comparison: StageComparison,
) -> Iterable[Sample]:
    by_model = {model: read.shown.get((task, model), {}) for model in comparison.models}
    for item in by_model[comparison.baseline]:
        found = {model: results[item] for model, results in by_model.items() if item in results}
        first = next(iter(found.values()))[0]
        yield Sample(
            stage=comparison.stage,
            task=task,
            item=item,
            group=str(first.get("group", "")),
            question=cut(read.questions[task, item][1]),
            gold=cut(str(first["gold"])),
            kind=_kind(_outcomes(found, comparison), comparison),
            responses=tuple(
                _response(model, results, ways[task, model][1]) for model, results in found.items()
            ),
        )


def _outcomes(
    found: Mapping[str, Sequence[_Result]], comparison: StageComparison
) -> dict[str, bool]:
    """Return for each model whether it is right; of rewards, whether none is better than it."""
    if any(results[0]["metric"] != REWARD for results in found.values()):
        return {model: _is_right(results) for model, results in found.items()}
    rewards = {model: results[0]["score"] for model, results in found.items()}
    base = rewards[comparison.baseline]
    known = {model: value for model, value in rewards.items() if None not in (value, base)}
    outcomes = {model: model in known and known[model] >= base for model in found}
    is_beaten = any(value > base for value in known.values()) and all(outcomes.values())
    return {**outcomes, comparison.baseline: not is_beaten}


def _is_right(results: Sequence[_Result]) -> bool:
    """Whether most of a model's responses to an item are right."""
    right = [result["score"] is not None and result["score"] > 0.5 for result in results]
    return sum(right) * 2 > len(right)


def _kind(is_right_by_model: Mapping[str, bool], comparison: StageComparison) -> Kind:
    before = is_right_by_model[comparison.baseline]
    after = {
        is_right for model, is_right in is_right_by_model.items() if model in comparison.candidates
    }
    if before:
        return "lost" if False in after else "right"
    return "gained" if True in after else "wrong"


def _response(model: str, results: Sequence[_Result], way: _Way) -> Response:
    shown = results[0]
    right = sum(result["score"] is not None and result["score"] > 0.5 for result in results)
    answer = shown["answer"]
    is_reward = shown["metric"] == REWARD and shown["score"] is not None
    times = f"{right} of {len(results)} right" if len(results) > 1 else ""
    return Response(
        model=model,
        asked=asking_label(*way),
        prompt=cut(str(shown["prompt"])),
        text=cut(str(shown["response"]).strip()),
        answer="" if answer is None else cut(str(answer)),
        reason=cut(str(shown["reason"])),
        mark="not graded" if is_reward else mark_of(shown["score"]),
        times=f"reward {shown['score']:.2f}" if is_reward else times,
        steps=steps_of_calls(shown.get("calls")),
        picture=picture_of(shown, about_px=_PICTURE_PX),
    )


def picture_of(line: Mapping[str, Any], *, about_px: int) -> PageImage | None:
    """Return the picture of a response in a JSON line; None where it is a text."""
    levels = line.get("picture")
    return None if levels is None else page_image(levels, about_px=about_px)


def mark_of(score: float | None) -> Mark:
    """Return what a score says of a response."""
    if score is None:
        return "not graded"
    if score >= 1:
        return "right"
    return "partly right" if score > 0 else "wrong"


def _chosen(samples: Iterable[Sample], within: Room) -> list[Sample]:
    """Return samples of all kinds in turn, so that the first few show each."""
    by_kind: dict[Kind, list[Sample]] = {"lost": [], "gained": [], "wrong": [], "right": []}
    for sample in samples:
        by_kind[sample.kind].append(sample)
    in_turn = (sample for turn in zip_longest(*by_kind.values()) for sample in turn if sample)
    chosen = list(islice(in_turn, within.items))
    total = list(accumulate(sample.size_bytes for sample in chosen))
    return [sample for sample, size in zip(chosen, total, strict=True) if size <= within.size_bytes]
