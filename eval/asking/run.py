"""Asks a model the test items of tasks and returns one result per item, metric, style and sample.

A base model is asked by a document to continue, a chat model through its template. Choice by
log-likelihood is put to both in the document's phrasing: it measures what a model knows, and stays
comparable. Everything is deterministic; the demonstrations of a prompt are the same for every model
and item. How a single question is put is `eval.asking.question`'s subject. Imports no torch until a
model is asked.

Sources of the styles: Brown et al. 2020 (few-shot); Wei et al. 2022 (chain of thought, few-shot);
Kojima et al. 2022 (chain of thought, zero-shot).
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from eval.asking.passages import document, read
from eval.asking.question import Asker, Item, Progress, Question
from eval.model import Form, LanguageModel
from eval.results import CHOICE, ItemResult, Style
from eval.task import Example, Metric, Task
from eval.tasks.benchmark import BenchmarkTask

SHOT_POOL = 256  # demonstrations are drawn from this many first training examples


def evaluate(
    model: LanguageModel,
    tasks: Sequence[Task],
    *,
    limit: int,
    styles: Sequence[Style],
    shots: Sequence[int],
    batch_size: int,
    seed: int,
    temperature: float = 0.0,
    samples: int = 1,
    trained_from: LanguageModel | None = None,
    counts_calls: bool = False,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[ItemResult]:
    """Return the results of up to `limit` test items a task, by each of its metrics, in each style.

    shots: demonstrations in a few-shot prompt, which is asked with each of these numbers; they come
        from the train split, drawn by `seed`, or are an item's siblings. 0 is asked zero-shot. The
        first number above 0, if any, is that of worked demonstrations in a chain-of-thought prompt
        for a base model.
    samples: written responses to each prompt; more than one need a temperature above 0.
    trained_from: what `log_ratio` is taken against, for models that share their tokens.
    counts_calls: also return how responses used tools (`TOOL_METRICS` of eval/results.py); of a
        model without any nothing is known.
    on_progress: called with what is being asked, how much of it is done, and how much there is.

    A choice is not asked by chain of thought, nor is a task that works nothing out (`is_worked`).
    A task that has nothing to show (`can_show`) is not asked few-shot.
    Items whose prompt leaves no room in the model's context are not cut but left ungraded (score
    None), with the reason. Raises ValueError for a task that cannot be asked this way, and
    StopRequested.
    """
    if samples > 1 and temperature == 0:
        raise ValueError(
            f"{samples} greedy responses to one prompt are the same one {samples} times"
        )
    asker = Asker(
        model,
        batch_size,
        seed=seed,
        temperature=temperature,
        samples=samples,
        trained_from=trained_from,
        counts_calls=counts_calls,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    results: list[ItemResult] = []
    for task in tasks:
        items = _with_unique_ids(task.test_items(limit))
        for metric in task.metrics:
            ask = asker.choose if metric == CHOICE else asker.write
            for question in make_questions(task, metric, styles, shots, seed, model.form):
                results += ask(question, items)
        if task.unit:
            results += asker.read(task, items)
    return results


def evaluate_texts(
    model: LanguageModel,
    texts: Mapping[str, Sequence[str]],
    *,
    batch_size: int,
    window: int | None = None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[ItemResult]:
    """Return the bits per byte of each document of each named text (see `eval.asking.passages`).

    window: tokens of context; without it as many as the model was trained on.
    """
    return [
        result
        for name, documents in texts.items()
        for result in read(
            model,
            name,
            [document(model, index, text) for index, text in enumerate(documents)],
            batch_size=batch_size,
            window=window,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    ]


def make_questions(
    task: Task,
    metric: Metric,
    styles: Sequence[Style],
    shots: Sequence[int],
    seed: int,
    form: Form,
) -> Iterator[Question]:
    """Yield a task's metric in every way of asking that it and the model's form know.

    The arguments are those of `evaluate`; ValueError where there is too little to show in a prompt.
    """
    for style in styles:
        if style == "few-shot":
            for number in shots if can_show(task) else ():
                if number:
                    yield Question(task, metric, style, choose_demonstrations(task, number, seed))
                elif "zero-shot" not in styles:
                    yield Question(task, metric, "zero-shot", ())
        elif style != "chain-of-thought":
            yield Question(task, metric, style, ())
        elif metric != CHOICE and is_worked(task):
            is_document = form == "document"
            number = next(filter(None, shots), 0) if is_document else 0
            shown = choose_demonstrations(task, number, seed, worked=True) if number else ()
            yield Question(task, metric, style, shown)


def check_questions(
    task: Task,
    *,
    limit: int,
    styles: Sequence[Style],
    shots: Sequence[int],
    seed: int,
    form: Form,
    needs_few_shot: bool,
) -> None:
    """Raise ValueError for a task without items, or with too little to show in a prompt.

    needs_few_shot: it is no good to leave few-shot prompts out where there is nothing to show.
    """
    items = task.test_items(limit)
    if needs_few_shot and not can_show(task):
        choose_demonstrations(task, 1, seed)  # says what is missing
    for metric in task.metrics:
        for question in make_questions(task, metric, styles, shots, seed, form):
            for item in items:
                question.shown(item)


def choose_demonstrations(
    task: Task, shots: int, seed: int, *, worked: bool = False
) -> list[Example]:
    """Return the examples shown in a prompt, the same for every model and item.

    worked: only such as are worked out step by step in document form.
    """
    # Twins, and one question in several wordings, share an id: a prompt shows one of them.
    pool_by_id = {
        example.id: example
        for example in islice(task.examples("train"), SHOT_POOL)
        if (example.worked_document if worked else example.response)
    }
    pool = list(pool_by_id.values())
    if not 1 <= shots <= len(pool):
        kind = "worked " if worked else ""
        raise ValueError(
            f"a prompt of `{task.name}` takes 1 to {len(pool)} {kind}demonstrations, not {shots}"
        )
    return random.Random(f"{seed}/{task.name}").sample(pool, shots)


def can_show(task: Task) -> bool:
    """Return whether a task has demonstrations: a benchmark may have rows to ask and no others."""
    if not isinstance(task, BenchmarkTask):
        return True
    return "train" in task.splits and any(each.response for each in task.examples("train"))


def is_worked(task: Task) -> bool:
    """Return whether a task works answers out step by step: else there is no chain of thought."""
    return any(example.worked_document for example in task.test_items(SHOT_POOL))


def _with_unique_ids(examples: Iterable[Example]) -> list[Item]:
    """Return (id, example); twins share an id, so the second one is called `id#2`."""
    items: list[Item] = []
    count_by_id: dict[str, int] = {}
    for example in examples:
        count = count_by_id[example.id] = count_by_id.get(example.id, 0) + 1
        items.append((example.id if count == 1 else f"{example.id}#{count}", example))
    return items
