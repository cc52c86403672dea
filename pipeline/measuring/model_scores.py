"""Loads a model and measures it: tasks, texts, tasks of lm-evaluation-harness.

Neither what may be asked (config/measuring_stage.py) nor the table of results
(eval/comparison/comparison.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.files.names import ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from eval.asking.harness import Harness
    from eval.asking.question import Progress
    from eval.model import Form, LanguageModel
    from eval.results import ItemResult
    from eval.task import Task
    from pipeline.config.measuring_stage import MeasuringStage
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.data.reading.records import Record
    from pipeline.measuring.free_form import FreeForm


@dataclass(frozen=True)
class Measurement:
    """What was made of every item.

    trained_from: what `log_ratio` is against. notes: for people. harness: versions of lm_eval and
    of its tasks. pairs: what a reward model made of pairs, by source (pairs.py).
    """

    results: list[ItemResult]
    trained_from: str | None = None
    notes: Sequence[str] = field(default_factory=list[str])
    harness: Mapping[str, str] = field(default_factory=dict[str, str])
    pairs: Mapping[str, Any] = field(default_factory=dict[str, Any])


def measure(
    config: MeasuringStage,
    context: StageContext,
    source: StageInput,
    form: Form | None,
    *,
    window: int | None,
    free_form: FreeForm | None,
) -> Measurement:
    """Load a model and return what it made of every item.

    window: tokens of context for texts; without it as many as the model was trained on. free_form:
    the stage's prompts and their judges, the same for every model (`free_form_of`).
    """
    from pipeline.data.reading.data_blocks import read_held_out_rows
    from pipeline.data.reading.tasks import load_task
    from pipeline.measuring.engine import answering
    from pipeline.measuring.prompt_lengths import note_lengths
    from pipeline.measuring.tool_use import give_tools
    from pipeline.models.chat_templates import give_known_template
    from pipeline.models.language import language_model

    tasks = [load_task(name, context.places) for name in config.tasks]
    harness = _harness(config, context)
    texts = {
        block.label: read_held_out_rows(block, context.places, at_most=config.limit)
        for block in config.texts
    }
    prepare = partial(give_known_template, config=config, context=context)
    model = language_model(source, form=form, precision=config.precision, prepare=prepare)
    model, notes = give_tools(config, context, model)
    _check_questions(config, context, tasks, model.form)
    if window is not None and model.max_length is not None and window > model.max_length:
        message = f"`window` {window} is beyond the {model.max_length} positions of {source.name}"
        raise PosttrainError(context.name, message, "lower it")
    parent, more_notes = _load_parent(config, context, source, model)
    notes += more_notes

    def show(label: str, done: int, total: int) -> None:
        context.progress(f"{source.name}: {label}", done, total)

    with answering(config, context, model) as respondent:
        results = _ask_tasks(config, context, respondent, tasks, parent, show)
        notes += note_lengths(results, model)
        if free_form is not None:
            answered, more_notes = free_form.ask(respondent, show)
            results += answered
            notes += more_notes
    for name, rows in texts.items():
        read, more_notes = _read(model, name, rows, config, window, show, context)
        results += read
        notes += more_notes
    notes += _note_left_out(config, tasks)
    versions: dict[str, str] = {}
    if harness is not None:
        from_harness = harness.ask(
            model,
            limit=config.limit,
            batch_size=config.batch_size,
            on_progress=show,
            should_stop=context.should_stop,
        )
        results += from_harness.results
        notes += from_harness.notes
        versions = from_harness.versions
    return Measurement(results, parent.name if parent else None, notes, versions)


def _ask_tasks(
    config: MeasuringStage,
    context: StageContext,
    model: LanguageModel,
    tasks: Sequence[Task],
    parent: LanguageModel | None,
    show: Progress,
) -> list[ItemResult]:
    """Return what a model made of the items of tasks; parent: what its KL is measured against."""
    from eval.asking.run import evaluate
    from reward.sandbox import SandboxUnavailable

    try:
        return evaluate(
            model,
            tasks,
            limit=config.limit,
            styles=config.styles,
            shots=config.shots,
            batch_size=config.batch_size,
            seed=context.seed,
            temperature=config.temperature,
            samples=config.samples,
            trained_from=parent,
            counts_calls=bool(config.tools),
            on_progress=show,
            should_stop=context.should_stop,
        )
    except SandboxUnavailable as error:
        raise InfrastructureError(context.name, str(error)) from error


def _read(
    model: LanguageModel,
    name: str,
    rows: Sequence[Record],
    config: MeasuringStage,
    window: int | None,
    show: Progress,
    context: StageContext,
) -> tuple[list[ItemResult], list[str]]:
    """Return what reading rows costs a model in bits, and notes for people."""
    from eval.asking.passages import read
    from pipeline.data.encoding.passages import count_dropped, is_transcribed, passages_of

    results = read(
        model,
        name,
        passages_of(rows, model),
        batch_size=config.batch_size,
        window=window,
        on_progress=show,
        should_stop=context.should_stop,
    )
    notes: list[str] = []
    if is_transcribed(rows, model):
        notes.append(
            f"`{model.name}` has no chat template: it read the chats of `{name}` as transcripts "
            "(User: ... Assistant: ...)."
        )
    if count_dropped(rows):
        notes.append(f"`{name}`: {count_dropped(rows)} of {len(rows)} rows were unusable.")
    return results, notes


def free_form_of(config: MeasuringStage, context: StageContext) -> FreeForm | None:
    """Return a stage's prompts with what judges the answers; None where it has none."""
    if not config.prompts:
        return None
    from pipeline.measuring.free_form import FreeForm

    return FreeForm(config, context)


def write_items(results: Iterable[ItemResult], model: str, context: StageContext) -> None:
    """Append one JSON line per item to items.jsonl."""
    with (context.out / ITEMS).open("a", encoding="utf-8") as stream:
        for result in results:
            fields = asdict(result)
            for name in ("calls", "picture"):
                if fields[name] is None:
                    del fields[name]
            stream.write(json.dumps({"model": model, **fields}) + "\n")


def read_items(folder: Path) -> dict[str, list[ItemResult]]:
    """Return the results that `write_items` wrote into a folder, by model."""
    from eval.results import ItemResult

    results: dict[str, list[ItemResult]] = {}
    for line in (folder / ITEMS).read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        results.setdefault(item.pop("model"), []).append(ItemResult(**item))
    return results


def _harness(config: MeasuringStage, context: StageContext) -> Harness | None:
    """Return the tasks of lm-evaluation-harness with their data."""
    if not config.harness:
        return None
    from eval.asking.harness import Harness
    from pipeline.data.reading.hub import hub_errors

    include = config.harness_include
    context.progress("lm-evaluation-harness", 0, 1)
    with hub_errors(context.name):
        return Harness(config.harness, context.places.file(include) if include else None)


def _check_questions(
    config: MeasuringStage, context: StageContext, tasks: Sequence[Task], form: Form
) -> None:
    """Raise PosttrainError for a task without items, or with too few examples to show."""
    from eval.asking.run import check_questions

    try:
        for task in tasks:
            check_questions(
                task,
                limit=config.limit,
                styles=config.styles,
                shots=config.shots,
                seed=context.seed,
                form=form,
                needs_few_shot=config.names_few_shot,
            )
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error


def _note_left_out(config: MeasuringStage, tasks: Sequence[Task]) -> list[str]:
    """Return notes on what is not asked: ways that a task does not know, items beyond `limit`."""
    from eval.asking.run import can_show, is_worked
    from eval.tasks.benchmark import BenchmarkTask

    notes: list[str] = []
    names = [f"`{task.name}`" for task in tasks if not is_worked(task)]
    if names and "chain-of-thought" in config.styles:
        note = f"Not asked by chain of thought, since they work nothing out: {', '.join(names)}."
        notes.append(note)
    names = [f"`{task.name}`" for task in tasks if not can_show(task)]
    if names and "few-shot" in config.styles:
        shown = "no rows to show in a prompt (`train=FILE` gives some)"
        notes.append(f"Not asked few-shot, since they have {shown}: {', '.join(names)}.")
    for task in tasks:
        number = len(list(task.examples("test"))) if isinstance(task, BenchmarkTask) else 0
        if number > config.limit:
            notes.append(f"`{task.name}`: the first {config.limit} of {number} items (`limit`).")
    return notes


def _load_parent(
    config: MeasuringStage, context: StageContext, source: StageInput, model: LanguageModel
) -> tuple[LanguageModel | None, list[str]]:
    """Load the model that a model was trained from; None, with notes, where KL has no meaning."""
    from pipeline.models.language import language_model

    parent = None
    if config.kl_to is not None:
        parent = context.model(config.kl_to)
    elif config.kl and config.tasks:
        parent = context.parent_of(source)
    if parent is None:
        return None, []
    if config.temperature != 1:
        what = "greedy responses" if config.temperature == 0 else "responses at other temperatures"
        return None, [
            "How far a model has moved from the one it was trained from is measured with "
            f"`temperature: 1`: {what} are no estimate of it."
        ]
    parent_model = language_model(parent, form="document", precision=config.precision)
    if parent_model.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        note = f"`{source.name}` has other tokens than `{parent.name}`: no divergence of the two."
        return None, [note]
    return parent_model, []
