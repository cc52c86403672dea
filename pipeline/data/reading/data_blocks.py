"""A recipe's data blocks, opened: the rows that stages train on, and those they never train on.

Tasks are looked up by name here; sources.py reads the rows.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pipeline.config.blocks import READ_FORMS
from pipeline.data.reading.dedup import drop_repeats, read_marked
from pipeline.data.reading.formats import Record, TextRow
from pipeline.data.reading.records import text_of_record
from pipeline.data.reading.tasks import load_task, task_rows
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eval.task import Task
    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.references import Places
    from pipeline.config.training_stage import TrainingStage
    from pipeline.data.reading.columns import NotUsed

    Screens = Callable[[DataBlock, Iterable[Record]], Iterator[Record]]

# A pass over a generated task that no training reads: its passes count up from the seed.
_UNSEEN_SEED = 2**40


def read_records(
    block: DataBlock,
    places: Places,
    forms: Sequence[DataForm],
    *,
    seed: int = 0,
    held_out: bool = False,
    not_used: NotUsed | None = None,
) -> Iterator[Record]:
    """Yield a block's rows, checked, in one of the forms that the stage reads."""
    marked = read_marked_records(
        block, places, forms, seed=seed, held_out=held_out, not_used=not_used
    )
    return drop_repeats(marked)


def read_marked_records(
    block: DataBlock,
    places: Places,
    forms: Sequence[DataForm],
    *,
    seed: int = 0,
    held_out: bool = False,
    not_used: NotUsed | None = None,
) -> Iterator[Record]:
    """Yield a block's rows, with a DroppedRow to be counted for every row that `dedup` drops."""
    task = task_of(block, places)
    return read_marked(
        block, places, forms=forms, task=task, seed=seed, held_out=held_out, not_used=not_used
    )


def read_texts(block: DataBlock, places: Places, *, at_most: int) -> Iterator[str]:
    """Yield the training texts of a block, `at_most` so many; of other rows, all that they say.

    A task's are its documents.
    """
    forms: Sequence[DataForm] = READ_FORMS if block.task is None else ("text",)
    for record in islice(read_records(block, places, forms), at_most):
        if text := text_of_record(record):
            yield text


def keeps_texts(block: DataBlock, places: Places) -> bool:
    """Return whether training on a block leaves texts of it unseen; see `read_held_out_texts`."""
    if block.task is None:
        return block.holdout is not None
    splits = task_rows(block.task, places)
    return not splits or "validation" in splits


def read_held_out_texts(block: DataBlock, places: Places, *, at_most: int) -> list[str]:
    """Return texts that training on the same block never sees.

    From a file, its held-out part (all of it without `holdout`: then it is evaluated, not trained
    on); from a task, documents of a pass that no training reads; from a benchmark, its validation
    rows.
    """
    rows = read_records(block, places, ("text",), seed=_UNSEEN_SEED, held_out=True)
    return [record.text for record in islice(rows, at_most) if isinstance(record, TextRow)]


def read_held_out_rows(block: DataBlock, places: Places, *, at_most: int) -> list[Record]:
    """Return rows to read and measure, of any form, that training on the block never sees.

    As `read_held_out_texts`: from a task documents, from a file its held-out part or all of it.
    """
    forms: Sequence[DataForm] = READ_FORMS if block.task is None else ("text",)
    rows = read_records(block, places, forms, seed=_UNSEEN_SEED, held_out=True)
    return list(islice(rows, at_most))


def read_held_out_chats(block: DataBlock, places: Places, *, at_most: int) -> list[Record]:
    """Return prompts to answer and measure, that training on the block never sees.

    From a file, its held-out part or all of it; from a task, its validation split.
    """
    return list(islice(read_records(block, places, ("prompt",), held_out=True), at_most))


def read_held_out_records(
    config: TrainingStage,
    places: Places,
    forms: Sequence[DataForm],
    *,
    at_most: int | None = None,
) -> list[Record]:
    """Return the rows that a training stage never trains on: `eval_data`, or what is held out.

    Held out are a file's `holdout` and a task's validation split, whatever `rows` (of the rows to
    train on) says; empty where there is neither. at_most: per source.
    """
    return [
        record
        for block in config.eval_data or _blocks_kept_out(config.sources)
        for record in islice(read_records(block, places, forms, held_out=True), at_most)
    ]


def holds_pairs_out(config: TrainingStage) -> bool:
    """Whether `read_held_out_records` of a stage has rows, as far as the recipe says."""
    return bool(config.eval_data or _blocks_kept_out(config.sources))


def read_held_out_prompts(
    blocks: Sequence[DataBlock], places: Places, *, at_most: int
) -> list[Record]:
    """Return prompts that training on the blocks never sees. at_most: per block.

    A file without `holdout`, the hub, and a benchmark without validation rows have none.
    """
    return [
        record
        for block in _blocks_kept_out(blocks)
        if keeps_texts(block, places)
        for record in islice(read_records(block, places, ("prompt",), held_out=True), at_most)
    ]


def task_of(block: DataBlock, places: Places) -> Task | None:
    """Return the task that a block names, if any; PosttrainError for one that there is not."""
    try:
        return load_task(block.task, places) if block.task is not None else None
    except ValueError as error:
        raise PosttrainError(block.label, str(error)) from error


def tasks_of(blocks: Sequence[DataBlock], places: Places) -> dict[str, Task]:
    """Return the tasks among the blocks by label, which is the `source` of their prompts."""
    return {
        block.label: load_task(block.task, places) for block in blocks if block.task is not None
    }


def _blocks_kept_out(blocks: Sequence[DataBlock]) -> list[DataBlock]:
    """Return the blocks that training leaves something unseen of, without their limits."""
    unseen = {"rows": None, "split": None}
    return [
        block.model_copy(update=unseen)
        for block in blocks
        if block.holdout is not None
        or (block.task is not None and block.split != "validation" and block.form is None)
    ]
