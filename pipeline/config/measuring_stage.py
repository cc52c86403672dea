"""What may be asked of a model that is measured: shared by the stages `evaluate` and `compare`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt, model_validator

from eval.tasks import BENCHMARKS, parse
from eval.tasks.benchmark import PLACES
from pipeline.config.blocks import READ_FORMS, DataBlock
from pipeline.config.field_types import OR_ONE, DataForm, FolderName, Precision, TaskName
from pipeline.config.marks import EXECUTION
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.stage_config import StageConfig
from pipeline.config.task_names import task_name, task_names

_MOST_SHOTS = 256  # SHOT_POOL of eval/asking/run.py, which takes long to import
MEASURED_FORMS: dict[str, tuple[DataForm, ...]] = {"texts": READ_FORMS, "prompts": ("prompt",)}
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
    prompts: sources of prompts that are answered freely: chats, instructions, texts to go on from,
    of pairs what both answer. rewards: what judges the answers, terms as the reward of `ppo` has
    them; models are then compared by each, with win rates. max_new_tokens: of such an answer.
    harness: tasks of lm-evaluation-harness by name, `arc_easy` or `arc_challenge(num_fewshot=25)`,
    asked and scored as it does; of what follows only `limit`, `precision` and `batch_size` hold for
    them. harness_include: a folder with definitions of the user's own.
    limit: test items a task, rows a text, prompts a source.
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

    trained_on: ClassVar[tuple[str, ...]] = ()
    measured_on: ClassVar[tuple[str, ...]] = ("texts", "prompts")

    tasks: Annotated[tuple[_Task, ...], OR_ONE, BeforeValidator(task_names)] = ()
    texts: Annotated[tuple[DataBlock, ...], OR_ONE] = ()
    prompts: Annotated[tuple[DataBlock, ...], OR_ONE] = ()
    rewards: Annotated[tuple[RewardBlock, ...], OR_ONE] = ()
    max_new_tokens: PositiveInt = 256
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
            entries: tuple[object, ...] = getattr(self, name)
            if len(set(entries)) < len(entries):
                raise ValueError(f"`{name}` has an entry twice; keep one of them")
        if self.rewards and not self.prompts:
            raise ValueError("`rewards` judges answers to `prompts`; name some")
        if self.tasks and any(k > self.samples for k in self.pass_at):
            raise ValueError(
                f"`pass_at` {max(self.pass_at)} takes as many samples of an item; "
                f"`samples` is {self.samples}"
            )
        if self.harness_include is not None and not self.harness:
            raise ValueError("`harness_include` defines tasks; name those to ask in `harness`")
        return self

    @model_validator(mode="after")
    def _are_told_apart(self) -> MeasuringStage:
        """Refuse what would be one row of results: both would be measured, or one of them."""
        names_by_field: dict[str, list[str]] = {
            "tasks": [_name_in_results(name) for name in self.tasks],
            "texts": [block.label for block in self.texts],
            "prompts": [block.label for block in self.prompts],
        }
        for field, names in names_by_field.items():
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"`{field}` has two of the name `{twice}`, whose results would be one; "
                    "measure them in two stages"
                )
        return self

    @property
    def asks(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self.tasks or self.texts or self.prompts or self.harness)

    @property
    def names_few_shot(self) -> bool:
        """Whether the recipe itself asks few-shot: else a task with nothing to show is not."""
        return "styles" in self.model_fields_set and "few-shot" in self.styles


def _name_in_results(task: str) -> str:
    """Return a task's name in results, in which a benchmark does not say where its rows lie."""
    try:
        plain, settings = parse(task)
    except ValueError:  # it is no task, which is said where tasks are looked up
        return task
    if plain not in BENCHMARKS or plain == "qa":  # questions of one's own are named by their file
        return task
    kept = (f"{key}={value}" for key, value in sorted(settings.items()) if key not in PLACES)
    return ", ".join((plain, *kept))
