"""What a recipe's measuring stages will ask, as items to search training rows for.

These are test items of tasks, texts, prompts and pairs. A built-in generated task keeps its splits
apart itself: its documents share the wording of its test items by design, so its rows are not
searched for them, nor are questions to a judge made of its pairs. In rows of a user's own task, a
prompt that is word for word a test item is still reported. Imports no torch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.task import Task
from eval.tasks import BUILT_IN, BY_PACKAGE, parse
from eval.tasks.benchmark import BenchmarkTask, RowsError
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.contests import ContestRow, read_contests
from pipeline.data.reading.data_blocks import read_held_out_chats, read_held_out_rows
from pipeline.data.reading.record_texts import turns
from pipeline.data.reading.records import DroppedRow, PreferenceRow, Record
from pipeline.data.reading.tasks import HubRows, load_task, task_rows
from pipeline.data.screening.overlaps import Item
from pipeline.errors import PosttrainError
from pipeline.store.store import read as read_artifact

_KEPT_APART = frozenset((*BUILT_IN.values(), *BY_PACKAGE.values()))
_QUESTIONS = "judgements"  # the kind of stage that puts pairs as questions to a judge


@dataclass(frozen=True)
class Evaluation:
    """What one stage asks.

    limit: items of a task, rows of a text; pairs are ranked all. harness: tasks of
    lm-evaluation-harness, whose items only it knows.
    """

    stage: str
    tasks: tuple[str, ...] = ()
    texts: tuple[DataBlock, ...] = ()
    prompts: tuple[DataBlock, ...] = ()
    pairs: tuple[DataBlock, ...] = ()
    limit: int = 200
    harness: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """items: all that is asked, without repeats. not_compared: what could not be read, and why."""

    items: tuple[Item, ...]
    not_compared: tuple[str, ...]


def origin_of(task: Task) -> object:
    """Return what the rows and items of a generated task share; None for a benchmark."""
    return None if isinstance(task, BenchmarkTask) else type(task)


def task_of_questions(folder: Path) -> str | None:
    """Return a task whose own pairs the rows of a stage are, put as questions; None for others.

    Of several tasks, all built in, one; None where anything else is among the rows. folder: of the
    finished stage.
    """
    artifact = read_artifact(folder)
    if artifact.kind != _QUESTIONS:
        return None
    sources: list[Mapping[str, Any]] = artifact.identity.get("data", [])
    names = [str(source["task"]["task"]) for source in sources if "task" in source]
    built_in = [name for name in names if parse(name)[0] in (*BUILT_IN, *BY_PACKAGE)]
    if len(names) < len(sources) or (len(names) > 1 and len(built_in) < len(names)):
        return None
    return names[0] if names else None


def is_built_in(origin: object) -> bool:
    """Whether a generated task is built in, so that our own tests keep its splits apart."""
    return isinstance(origin, type) and f"{origin.__module__}:{origin.__qualname__}" in _KEPT_APART


def collect_items(
    evaluations: Sequence[Evaluation],
    places: Places,
    *,
    generated: bool = True,
    reads_hub: bool = True,
    may_miss: bool = True,
) -> Evaluated:
    """Return the items that the given stages ask.

    generated: False to leave out items of built-in tasks, where only those are trained on.
    reads_hub: False to leave out items on the hub. may_miss: carry on without items that cannot be
    read, instead of raising PosttrainError.
    """
    item_by_key: dict[tuple[str, str], Item] = {}
    missing: dict[str, None] = {}
    for evaluation in evaluations:
        for name in evaluation.harness:
            missing[f"{name}: lm-evaluation-harness asks it"] = None
        for source in _sources(evaluation, generated=generated):
            try:
                if not reads_hub and source.is_on_hub(places):
                    missing[f"{source.label}: it is on the hub"] = None
                    continue
                for item in source.items(evaluation, places):
                    item_by_key.setdefault((item.source, item.name), item)
            except (RowsError, ValueError) as error:
                if not may_miss:
                    raise PosttrainError(source.label, str(error)) from error
                missing[f"{source.label}: {error}"] = None
            except PosttrainError as error:
                if not may_miss:
                    raise
                missing[f"{source.label}: {error}"] = None
    return Evaluated(tuple(item_by_key.values()), tuple(missing))


@dataclass(frozen=True)
class _Source:
    """One thing that a stage asks: a task, or a block of texts or of prompts."""

    task: str | None = None
    block: DataBlock | None = None
    field: Literal["texts", "prompts", "pairs"] = "texts"

    @property
    def label(self) -> str:
        """What the recipe calls it."""
        return self.task or (self.block.label if self.block else "")

    @property
    def task_name(self) -> str | None:
        """The task whose items these are, if they are a task's."""
        return self.task or (self.block.task if self.block else None)

    def is_on_hub(self, places: Places) -> bool:
        """Whether its rows have to be fetched."""
        if self.task_name is None:
            return self.block is not None and self.block.hub is not None
        return any(isinstance(rows, HubRows) for rows in task_rows(self.task_name, places).values())

    def items(self, evaluation: Evaluation, places: Places) -> Iterator[Item]:
        """Yield its items, as many as the stage asks."""
        if self.block is None:
            return _test_items(str(self.task), evaluation.limit, places)
        return _rows(self.block, self._records(self.block, evaluation.limit, places), places)

    def _records(self, block: DataBlock, limit: int, places: Places) -> Iterable[Record]:
        """Return what the stage reads of it; of more than two responses, the first pair."""
        if self.field == "pairs":
            rows = read_contests(block, places)
            return (row.pairs[0] for row in rows if isinstance(row, ContestRow))
        read = read_held_out_chats if self.field == "prompts" else read_held_out_rows
        return read(block, places, at_most=limit)


def _sources(evaluation: Evaluation, *, generated: bool) -> Iterator[_Source]:
    sources = [
        *(_Source(task=name) for name in evaluation.tasks),
        *(_Source(block=block) for block in evaluation.texts),
        *(_Source(block=block, field="prompts") for block in evaluation.prompts),
        *(_Source(block=block, field="pairs") for block in evaluation.pairs),
    ]
    for source in sources:
        name = source.task_name
        if generated or name is None or parse(name)[0] not in (*BUILT_IN, *BY_PACKAGE):
            yield source


def _test_items(name: str, limit: int, places: Places) -> Iterator[Item]:
    task = load_task(name, places)
    origin = origin_of(task)
    for number, example in enumerate(task.test_items(limit), 1):
        # A fact that a document states may, and should, be learnt from any text.
        ways = (example.prompt,) if task.kind == "knowledge" else (example.prompt, example.document)
        yield Item(name, f"{number} ({example.id})", tuple(filter(None, ways)), origin)


def _rows(block: DataBlock, records: Iterable[Record], places: Places) -> Iterator[Item]:
    origin = origin_of(load_task(block.task, places)) if block.task is not None else None
    for record in records:
        if not isinstance(record, DroppedRow) and (ways := _ways(record)):
            yield Item(block.label, record.where, ways, origin)


def _ways(record: Record) -> tuple[str, ...]:
    """Return the texts of a record to search for: all of it, of a pair once with either answer."""
    texts = turns(record)
    if isinstance(record, PreferenceRow):
        *prompt, chosen, rejected = texts
        return "\n\n".join([*prompt, chosen]), "\n\n".join([*prompt, rejected])
    whole = "\n\n".join(texts)
    return (whole,) if whole.strip() else ()
