"""Stage `evaluate`: asks one model the test items of tasks and reads it held-out text.

Base models are asked by a document to continue, chat models through their template; every result
says which. What is asked here is asked in the same way by `compare`, which can take this stage's
results for a model's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt, model_validator

from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.recipe.config import (
    EXECUTION,
    OR_ONE,
    READ_FORMS,
    DataBlock,
    DataForm,
    FolderName,
    ModelRef,
    Precision,
    StageConfig,
    TaskName,
)
from pipeline.recipe.task_names import task_name, task_names
from pipeline.stage import Stage, StageContext, StageInput, StageResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from eval.ask import Progress
    from eval.compare import Row
    from eval.harness import Harness
    from eval.model import LanguageModel
    from eval.results import ItemResult
    from eval.task import Task
    from pipeline.data.records import Record

ITEMS = "items.jsonl"
_MOST_SHOTS = 256  # SHOT_POOL of eval/run.py, which takes long to import
MEASURED_FORMS: dict[str, tuple[DataForm, ...]] = {"texts": READ_FORMS}
Style = Literal["zero-shot", "few-shot", "chain-of-thought"]
Form = Literal["document", "chat"]
_Settings = dict[str, str | int | float | bool]
_Task = Annotated[TaskName, BeforeValidator(task_name, json_schema_input_type=TaskName | _Settings)]


class MeasuringStage(StageConfig):
    """What is asked of a model.

    tasks: by name, with settings in brackets: `qa(file=mine.csv, match=exact)`.
    texts: sources whose bits per byte are measured (with `holdout`, of the part held out): of a
    text all of it, of a chat each message of the assistant's, of a pair the chosen response, and
    whether that is the likelier.
    harness: tasks of lm-evaluation-harness by name, `arc_easy` or `arc_challenge(num_fewshot=25)`,
    asked and scored as it does; of what follows only `limit`, `precision` and `batch_size` hold for
    them. harness_include: a folder with definitions of the user's own.
    limit: test items a task.
    styles: chain-of-thought asks for steps before the answer, of tasks that have any.
    shots: demonstrations in a few-shot prompt, which is asked with each of these numbers; the first
    one in a chain-of-thought prompt for a base model.
    temperature: 0 is greedy.
    samples: responses to each prompt; pass_at: report pass@k for these k beside powers of two.
    kl: how far a model that was trained here has moved from the one it was trained from, measured
    on its first sampled responses, where `temperature` is 1.
    window: tokens of context that texts are read with; without it as many as the model was
    pre-trained on, in a comparison the fewest of these, at most 2,048.
    precision: of the arithmetic. batch_size: memory and speed only.
    """

    tasks: Annotated[tuple[_Task, ...], OR_ONE, BeforeValidator(task_names)] = ()
    texts: Annotated[tuple[DataBlock, ...], OR_ONE] = ()
    harness: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], OR_ONE] = ()
    harness_include: FolderName | None = None
    limit: PositiveInt = 200
    styles: Annotated[tuple[Style, ...], Field(min_length=1), OR_ONE] = (
        "zero-shot",
        "few-shot",
    )
    shots: Annotated[tuple[PositiveInt, ...], Field(min_length=1), OR_ONE] = (3,)
    temperature: NonNegativeFloat = 0.0
    samples: PositiveInt = 1
    pass_at: Annotated[tuple[PositiveInt, ...], OR_ONE] = ()
    kl: bool = True
    precision: Precision = "fp32"
    window: Annotated[int, Field(ge=2)] | None = None
    batch_size: Annotated[PositiveInt, EXECUTION] = 64

    @model_validator(mode="after")
    def _samples_differ(self) -> MeasuringStage:
        if max(self.shots) > _MOST_SHOTS:
            raise ValueError(
                f"`shots` {max(self.shots)} is more than the {_MOST_SHOTS} examples that "
                "demonstrations are drawn from; write fewer"
            )
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                "`samples` of greedy responses are all the same; set `temperature` above 0"
            )
        for name in ("styles", "shots", "pass_at", "harness"):
            given: tuple[object, ...] = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"`{name}` has an entry twice; keep one of them")
        if self.tasks and any(k > self.samples for k in self.pass_at):
            raise ValueError(
                f"`pass_at` {max(self.pass_at)} takes as many samples of an item; "
                f"`samples` is {self.samples}"
            )
        if self.harness_include is not None and not self.harness:
            raise ValueError("`harness_include` defines tasks; name those to ask in `harness`")
        return self

    @property
    def asks(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self.tasks or self.texts or self.harness)


class EvaluateConfig(MeasuringStage):
    """model: what is asked. form: how, when its own stage does not say or says it wrong."""

    stage: Literal["evaluate"]
    model: ModelRef
    form: Form | None = None

    @model_validator(mode="after")
    def _something_to_ask(self) -> EvaluateConfig:
        if not self.asks:
            raise ValueError("there is nothing to measure; name `tasks`, `texts` or `harness`")
        return self


@dataclass(frozen=True)
class Measured:
    """What was made of every item.

    trained_from: what `log_ratio` is against. notes: for people. harness: versions of lm_eval and
    of its tasks.
    """

    results: list[ItemResult]
    trained_from: str | None = None
    notes: Sequence[str] = field(default_factory=list[str])
    harness: Mapping[str, str] = field(default_factory=dict[str, str])


def run(config: EvaluateConfig, context: StageContext) -> StageResult:
    """Ask, and write one line an item to items.jsonl."""
    from eval.compare import compare

    source = context.model(config.model)
    measured = measure(config, context, source, config.form, window=config.window)
    name = model_name(source)
    write_items(measured.results, name, context)
    rows = compare({name: measured.results}, name, pass_at=config.pass_at)
    return StageResult(
        metrics={metric_name(row): row.score for row in rows},
        properties={
            "model": name,
            "trained_from": measured.trained_from,
            "notes": list(measured.notes),
            "harness": dict(measured.harness),
        },
    )


def model_name(source: StageInput) -> str:
    """Return a model's name in tables; of an evaluation, the name of the model it asked."""
    return source.properties.get("model", source.name)


def metric_name(row: Row) -> str:
    """Return a row's name among a stage's metrics: `arithmetic verified_accuracy few-shot 3`."""
    if row.window:
        return f"{row.task} {row.metric} window {row.window}"
    shots = f" {row.shots}" if row.shots else ""
    return f"{row.task} {row.metric} {row.style}{shots}"


def measure(
    config: MeasuringStage,
    context: StageContext,
    source: StageInput,
    form: Form | None,
    *,
    window: int | None,
) -> Measured:
    """Load a model and return what it made of every item.

    window: tokens of context for texts; without it as many as the model was trained on.
    """
    from eval.run import evaluate
    from pipeline.data.blocks import held_out_rows
    from pipeline.data.tasks import load_task
    from pipeline.models.language import language_model
    from reward.sandbox import SandboxUnavailable

    tasks = [load_task(name, context.places) for name in config.tasks]
    harness = _harness(config, context)
    texts = {
        block.label: held_out_rows(block, context.places, at_most=config.limit)
        for block in config.texts
    }
    model = language_model(source, form=form, precision=config.precision)
    _check_questions(config, context, tasks, model.form)
    if window is not None and model.max_length is not None and window > model.max_length:
        message = f"`window` {window} is beyond the {model.max_length} positions of {source.name}"
        raise PosttrainError(context.name, message, "lower it")
    parent, notes = _trained_from(config, context, source, model)

    def show(label: str, done: int, total: int) -> None:
        context.progress(f"{source.name}: {label}", done, total)

    try:
        results = evaluate(
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
            on_progress=show,
            should_stop=context.should_stop,
        )
    except SandboxUnavailable as error:
        raise InfrastructureError(context.name, str(error)) from error
    for name, rows in texts.items():
        read, said = _read(model, name, rows, config, window, show, context)
        results += read
        notes += said
    notes += _left_out(config, tasks)
    versions: dict[str, str] = {}
    if harness is not None:
        asked = harness.ask(
            model,
            limit=config.limit,
            batch_size=config.batch_size,
            on_progress=show,
            should_stop=context.should_stop,
        )
        results += asked.results
        notes += asked.notes
        versions = asked.versions
    return Measured(results, parent.name if parent else None, notes, versions)


def _read(
    model: LanguageModel,
    name: str,
    rows: Sequence[Record],
    config: MeasuringStage,
    window: int | None,
    show: Progress,
    context: StageContext,
) -> tuple[list[ItemResult], list[str]]:
    """Return what reading rows costs a model in bits, and what is to be said of it."""
    from eval.passages import read
    from pipeline.data.passages import is_transcribed, num_dropped, passages_of

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
    if num_dropped(rows):
        notes.append(f"`{name}`: {num_dropped(rows)} of {len(rows)} rows were unusable.")
    return results, notes


def write_items(results: Iterable[ItemResult], model: str, context: StageContext) -> None:
    """Append one JSON line an item to items.jsonl."""
    with (context.out / ITEMS).open("a", encoding="utf-8") as stream:
        for result in results:
            stream.write(json.dumps({"model": model, **asdict(result)}) + "\n")


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
    from eval.harness import Harness
    from pipeline.data.hub import hub_errors

    include = config.harness_include
    context.progress("lm-evaluation-harness", 0, 1)
    with hub_errors(context.name):
        return Harness(config.harness, context.places.file(include) if include else None)


def _check_questions(
    config: MeasuringStage, context: StageContext, tasks: Sequence[Task], form: Form
) -> None:
    """Raise PosttrainError for a task without items, or with too few examples to show."""
    from eval.run import can_show, demonstrations, questions

    try:
        for task in tasks:
            task.test_items(config.limit)
            if _names_few_shot(config) and not can_show(task):
                demonstrations(task, 1, context.seed)  # raises, saying what is missing
            for metric in task.metrics:
                list(questions(task, metric, config.styles, config.shots, context.seed, form))
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error


def _names_few_shot(config: MeasuringStage) -> bool:
    """Whether the recipe itself asks for few-shot prompts: else they are left out without rows."""
    return "styles" in config.model_fields_set and "few-shot" in config.styles


def _left_out(config: MeasuringStage, tasks: Sequence[Task]) -> list[str]:
    """Return notes on what is not asked: ways that a task does not know, items beyond `limit`."""
    from eval.run import can_show, is_worked
    from eval.tasks.benchmark import BenchmarkTask

    notes: list[str] = []
    names = [f"`{task.name}`" for task in tasks if not is_worked(task)]
    if names and "chain-of-thought" in config.styles:
        said = f"Not asked by chain of thought, since they work nothing out: {', '.join(names)}."
        notes.append(said)
    names = [f"`{task.name}`" for task in tasks if not can_show(task)]
    if names and "few-shot" in config.styles:
        shown = "no rows to show in a prompt (`train=FILE` gives some)"
        notes.append(f"Not asked few-shot, since they have {shown}: {', '.join(names)}.")
    for task in tasks:
        number = len(list(task.examples("test"))) if isinstance(task, BenchmarkTask) else 0
        if number > config.limit:
            notes.append(f"`{task.name}`: the first {config.limit} of {number} items (`limit`).")
    return notes


def _trained_from(
    config: MeasuringStage, context: StageContext, source: StageInput, model: LanguageModel
) -> tuple[LanguageModel | None, list[str]]:
    """Load what a model was trained from, where its divergence can be measured; and why not."""
    from pipeline.models.language import language_model

    parent = context.parent_of(source) if config.kl and config.tasks else None
    if parent is None:
        return None, []
    if config.temperature != 1:
        what = "greedy responses" if config.temperature == 0 else "responses at other temperatures"
        return None, [
            "How far a model has moved from the one it was trained from is measured with "
            f"`temperature: 1`: {what} are no estimate of it."
        ]
    found = language_model(parent, form="document", precision=config.precision)
    if found.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        note = f"`{source.name}` has other tokens than `{parent.name}`: no divergence of the two."
        return None, [note]
    return found, []


STAGE = Stage(
    config=EvaluateConfig,
    run=run,
    produces="evaluation",
    version=6,
    data_forms=("text",),
    measured_forms=MEASURED_FORMS,
)
