"""The rows of one data source: a local file, a task's split, the hub, or a stage's rows.

Says which rows a stage sees (holdout, split, limit), not what their columns mean (formats.py).
Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from eval.task import Example, Split, Task
from eval.tasks.benchmark import BenchmarkTask, RowsError
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.files import Row, file_rows, sha256
from pipeline.data.reading.holdout import is_held_out
from pipeline.data.reading.hub import hub_rows, streamed_rows
from pipeline.errors import PosttrainError, closest
from pipeline.files.names import ROWS
from pipeline.files.text_files import TEXT_ENDINGS, ending, file_documents, file_text

__all__ = ["ROWS_PER_TASK", "Row", "RowKind", "read_rows", "sha256"]

RowKind = Literal["documents", "demonstrations", "preferences", "prompts"]

# A generated task never ends; a data block without `rows` gets this many.
ROWS_PER_TASK = 2_000


def read_rows(
    block: DataBlock,
    places: Places,
    task: Task | None = None,
    *,
    kind: RowKind = "demonstrations",
    seed: int = 0,
    held_out: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a source, in its own order; PosttrainError if there are none.

    task: the task that `block.task` names; `kind` and `seed` say what of it is read: one pass of
        pre-training documents, or the demonstrations, preference pairs or RL prompts of a split.
    held_out: True where a stage evaluates: with `holdout`, read the share that training never sees
        instead of the rest. Rows are chosen by their hash, so equal rows fall on the same side; of
        a text file without a separator, the last part is held out. For a task's demonstrations,
        pairs and prompts it is the validation split, unless the block names a split.
    """
    limit = block.rows
    if block.task is not None:
        if task is None:
            raise ValueError(f"`task: {block.task}` was not looked up")
        if kind != "documents" and limit is None and not isinstance(task, BenchmarkTask):
            limit = ROWS_PER_TASK
        source_rows = _task_rows(block, task, kind, seed, held_out=held_out)
    elif block.file is not None:
        source_rows = _file_source(block, places, held_out=held_out)
    elif block.stage is not None:
        source_rows = _made_source(block, places, held_out=held_out)
    else:
        source_rows = _hub_source(block, places, held_out=held_out)
    is_empty = True
    start = 0 if held_out else block.skip or 0
    for row in islice(source_rows, start, None if limit is None else start + limit):
        is_empty = False
        yield row
    if is_empty:
        if kind == "preferences" and block.task is not None:
            message = "the task has no preference pairs"
            raise PosttrainError(block.label, message, "name data that has some")
        if start:
            message = f"no rows after the first {start:,}, which `skip` leaves out"
            raise PosttrainError(block.label, message, "lower it")
        raise no_rows(block, held_out=held_out)


def no_rows(block: DataBlock, *, held_out: bool) -> PosttrainError:
    """Return the error for a source without rows, or without rows on this side of its `holdout`."""
    side = "holds out every row" if not held_out else "holds out no row"
    why = f"`holdout: {block.holdout}` {side}" if block.holdout else "no rows"
    return PosttrainError(block.label, why, "name data that has some")


def _task_rows(
    block: DataBlock, task: Task, kind: RowKind, seed: int, *, held_out: bool
) -> Iterator[Row]:
    where = f"task:{task.name}"
    split = block.split or ("validation" if held_out else "train")
    if split == "test":
        raise PosttrainError(
            where, "the test split is for evaluation only", "use train or validation"
        )
    if split not in ("train", "validation"):
        hint = closest(split, ("train", "validation")) or "a task has train and validation"
        raise PosttrainError(where, f"unknown split `{split}`", hint)
    try:
        for number, fields in enumerate(_task_fields(task, kind, cast("Split", split), seed), 1):
            yield Row(f"{where}#{number}", fields)
    except RowsError as error:
        raise PosttrainError(block.label, str(error)) from error


def _task_fields(task: Task, kind: RowKind, split: Split, seed: int) -> Iterator[dict[str, Any]]:
    if kind == "documents":
        is_trained_on = split == "train"
        texts = task.documents(seed) if is_trained_on else task.held_out_documents(seed)
        for text in texts:
            yield {"text": text}
    elif kind == "preferences":
        for pair in task.preference_pairs(split):
            yield asdict(pair)
    elif kind == "prompts":
        for prompt in task.rl_prompts(split):
            yield {name: value for name, value in asdict(prompt).items() if value is not None}
    else:
        offered = {"tools": list(task.tools)} if task.tools else {}
        for example in task.demonstrations(split):
            yield {
                "messages": _turns(example),
                "document": example.document,
                "continuation": example.continuation,
                **offered,
            }


def _turns(example: Example) -> list[dict[str, Any]]:
    """Return a demonstration as a chat, its calls and their answers before the response."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": example.prompt}]
    for step in example.tool_steps:
        call = {"name": step.name, "arguments": dict(step.arguments)}
        turns.append({"role": "assistant", "content": "", "tool_calls": [{"function": call}]})
        turns.append({"role": "tool", "name": step.name, "content": step.answer})
    return [*turns, {"role": "assistant", "content": example.response}]


def _file_source(block: DataBlock, places: Places, *, held_out: bool) -> Iterator[Row]:
    name = block.file or ""
    try:
        path = places.file(name)
    except ValueError as error:
        raise PosttrainError(name, str(error)) from error
    is_text = ending(path) in TEXT_ENDINGS
    if block.separator is not None and not is_text:
        raise PosttrainError(name, "`separator` divides text files only", "leave it out")
    if is_text and block.separator is None:
        return _one_document(block, path, held_out=held_out)
    if block.separator is not None:
        rows = _documents(path, block.separator, name)
    else:
        rows = file_rows(path, name)
    share = block.holdout
    if share is None:
        return rows
    return (row for row in rows if is_held_out(row.fields, share, block.columns) == held_out)


def _made_source(block: DataBlock, places: Places, *, held_out: bool) -> Iterator[Row]:
    """Return the rows that a stage made; `holdout` keeps all answers to a prompt on one side."""
    folder = places.made.get((block.stage or "$")[1:])
    if folder is None:
        raise PosttrainError(block.label, "its rows are not made yet", "run that stage first")
    rows, share = file_rows(folder / ROWS, block.label), block.holdout
    if share is None:
        return rows
    return (
        row
        for row in rows
        if is_held_out(row.fields, share, block.columns, by_prompt=True) == held_out
    )


def _documents(path: Path, separator: str, name: str) -> Iterator[Row]:
    """Yield the documents between separators, stripped of line breaks, without blank ones."""
    for line, part in file_documents(path, name, separator):
        if part.strip():
            leading = len(part) - len(part.lstrip("\n"))
            yield Row(f"{name}:{line + leading}", {"text": part.strip("\n")})


def _one_document(block: DataBlock, path: Path, *, held_out: bool) -> Iterator[Row]:
    name = block.file or ""
    text = file_text(path, name)
    if block.holdout is None:
        yield Row(f"{name}:1", {"text": text})
        return
    cut = _cut(text, block.holdout)
    trained, held = text[:cut], text[cut:]
    if not trained.strip() or not held.strip():
        raise PosttrainError(
            name, f"too short to hold out {block.holdout} of it", "leave `holdout` out"
        )
    if held_out:
        yield Row(f"{name}:{trained.count(chr(10)) + 1}", {"text": held})
    else:
        yield Row(f"{name}:1", {"text": trained})


def _cut(text: str, share: float) -> int:
    """Return where the held-out end begins: behind the nearest break (paragraph, line, word)."""
    goal = round(len(text) * (1 - share))
    reach = max(1, round(len(text) * min(share, 1 - share) / 2))
    for mark in ("\n\n", "\n", " "):
        before = text.rfind(mark, goal - reach, goal)
        after = text.find(mark, goal, goal + reach)
        ends = [at + len(mark) for at in (before, after) if at >= 0]
        if ends:
            return min(ends, key=lambda at: abs(at - goal))
    return goal


def _hub_source(block: DataBlock, places: Places, *, held_out: bool) -> Iterator[Row]:
    name, split = block.hub or "", block.split or "train"
    if block.reads_test_split and not held_out:
        hint = "a stage that trains reads another split"
        raise PosttrainError(name, f"split `{split}` is for evaluation only", hint)
    read = streamed_rows if block.streaming else hub_rows
    return read(name, block.subset, split, block.revision or places.revisions.get(name))
