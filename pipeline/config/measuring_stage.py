"""The keys of stages that measure models, `evaluate` and `compare`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from eval.tasks import BENCHMARKS, parse
from eval.tasks.benchmark import PLACES
from pipeline.config.blocks import READ_FORMS, Source
from pipeline.config.field_types import OR_ONE, DataForm, FolderName, ModelRef, Precision, TaskName
from pipeline.config.marks import ABSENT_BY_DEFAULT, EXECUTION
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.rollout_engine import AnswersBlock
from pipeline.config.stage_config import StageConfig
from pipeline.config.task_names import task_name, task_names
from pipeline.config.tools import WithTools

# What a model that answers is asked, and a reward model cannot be.
_OF_POLICIES = ("tasks", "texts", "prompts", "harness", "rewards", "tools")
_MOST_SHOTS = 256  # SHOT_POOL of eval/asking/run.py, which takes long to import
MEASURED_FORMS: dict[str, tuple[DataForm, ...]] = {
    "texts": READ_FORMS,
    "prompts": ("prompt",),
    "pairs": ("preference",),
}
Style = Literal["zero-shot", "few-shot", "chain-of-thought"]
Form = Literal["document", "chat"]
_Settings = dict[str, str | int | float | bool]
_Task = Annotated[TaskName, BeforeValidator(task_name, json_schema_input_type=TaskName | _Settings)]


class MeasuringStage(WithTools, StageConfig):
    """The keys of a stage that measures models.

    tasks: by name, with settings in brackets: `qa(file=mine.csv, match=exact)`.
    texts: sources whose bits per byte are measured (with `holdout`, on the held-out part): on all
    of a text, every message by the assistant in a chat, and the chosen response of a pair, with
    whether that is the likelier of the two.
    prompts: sources of prompts for free-form answers: chats, instructions, texts to continue, the
    prompts of pairs. rewards: terms that judge the answers, as in the reward of `ppo`; models are
    then compared by every term, with win rates. max_new_tokens: of an answer, at most.
    harness: tasks of lm-evaluation-harness by name, `arc_easy` or `arc_challenge(num_fewshot=25)`,
    asked and scored as it does; of the keys below, only `limit`, `precision` and `batch_size` apply
    to them. harness_include: a folder with definitions of your own.
    pairs: sources of preferences that reward models rank, and nothing else of them is measured:
    pairs of any form that `reward_model` learns from (of a task its validation pairs, with
    `holdout` the held-out part), and the files of RewardBench 1 and 2, with several rejected
    responses; accuracy by the column `subset`. All rows of each, or its `rows`.
    limit: test items per task, rows per text, prompts per source.
    styles: chain-of-thought asks for steps before the answer, in tasks that have any.
    shots: demonstrations in a few-shot prompt; with several numbers the task is asked once with
    each, and 0 is zero-shot. A chain-of-thought prompt for a base model has the first above 0.
    tools: what chat models may call while they answer `tasks` and `prompts`; results then say how
    often they called, how often without an error, and whether when it was needed.
    temperature: 0 is greedy.
    samples: responses per prompt. pass_at: report pass@k for these k beside powers of two.
    kl: how far a model that was trained here has moved from the one it was trained from, measured
    on its first sampled responses, where `temperature` is 1. kl_to: from this model instead, so
    that models are told apart that were trained in several steps from one.
    window: tokens of context that texts are read with; by default as many as the model was
    pre-trained on, in a comparison the fewest of these, at most 2,048.
    answers: what writes the answers: our own loop, or a vLLM server.
    precision: of the arithmetic. batch_size: memory and speed only.
    """

    trained_on: ClassVar[tuple[str, ...]] = ()
    measured_on: ClassVar[tuple[str, ...]] = ("texts", "prompts", "pairs")

    tasks: Annotated[tuple[_Task, ...], OR_ONE, BeforeValidator(task_names)] = ()
    texts: Annotated[tuple[Source, ...], OR_ONE] = ()
    prompts: Annotated[tuple[Source, ...], OR_ONE] = ()
    rewards: Annotated[tuple[RewardBlock, ...], OR_ONE] = ()
    max_new_tokens: PositiveInt = 256
    harness: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], OR_ONE] = ()
    harness_include: FolderName | None = None
    pairs: Annotated[tuple[Source, ...], OR_ONE, ABSENT_BY_DEFAULT] = ()
    limit: PositiveInt = 200
    styles: Annotated[tuple[Style, ...], Field(min_length=1), OR_ONE] = (
        "zero-shot",
        "few-shot",
    )
    shots: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), OR_ONE] = (3,)
    temperature: NonNegativeFloat = 0.0
    samples: PositiveInt = 1
    pass_at: Annotated[tuple[PositiveInt, ...], OR_ONE] = ()
    kl: bool = True
    kl_to: Annotated[ModelRef | None, ABSENT_BY_DEFAULT] = None
    precision: Precision = "fp32"
    window: Annotated[int, Field(ge=2)] | None = None
    answers: Annotated[AnswersBlock, ABSENT_BY_DEFAULT] = AnswersBlock()
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
        if self.tools and not (self.tasks or self.prompts):
            raise ValueError("`tools` are called in answers to `tasks` and `prompts`; name some")
        if self.kl_to is not None and not (self.kl and self.tasks and self.temperature == 1):
            raise ValueError(
                "`kl_to` is measured on sampled answers to `tasks`: write some, `temperature: 1` "
                "and `kl: true`, or leave it out"
            )
        if self.answers.engine == "vllm" and self.tools:
            raise ValueError("tools are not called with `answers: {engine: vllm}`; leave one out")
        if self.answers.engine == "vllm" and not (self.tasks or self.prompts):
            raise ValueError(
                "`answers` of vLLM are to `tasks` and `prompts`; name some, or leave it out: "
                "likelihoods are not measured with it"
            )
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
    def _pairs_stand_alone(self) -> MeasuringStage:
        others = [name for name in _OF_POLICIES if getattr(self, name)]
        if self.pairs and others:
            raise ValueError(
                f"`pairs` is ranked by a reward model, and `{others[0]}` is asked of a model that "
                "answers; write two stages"
            )
        if any(block.dedup is not None for block in self.pairs):
            raise ValueError("`pairs` are measured as they are; leave `dedup` out")
        return self

    @model_validator(mode="after")
    def _are_told_apart(self) -> MeasuringStage:
        """Refuse two entries of one name, whose results would be a single row."""
        names_by_field: dict[str, list[str]] = {
            "tasks": [_name_in_results(name) for name in self.tasks],
            "texts": [block.label for block in self.texts],
            "prompts": [block.label for block in self.prompts],
            "pairs": [block.label for block in self.pairs],
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
        return bool(self.tasks or self.texts or self.prompts or self.harness or self.pairs)

    @property
    def asked_styles(self) -> tuple[Style, ...]:
        """The styles that results have: few-shot prompts that show nothing are zero-shot."""
        shows_nothing = "few-shot" in self.styles and 0 in self.shots
        return (*self.styles, *(("zero-shot",) if shows_nothing else ()))

    @property
    def names_few_shot(self) -> bool:
        """Whether few-shot is the recipe's own wish: by default, tasks without examples skip it."""
        return "styles" in self.model_fields_set and "few-shot" in self.styles


def _name_in_results(task: str) -> str:
    """Return a task's name in results, where a benchmark does not say where its rows lie."""
    try:
        plain, settings = parse(task)
    except ValueError:  # not a task, which is an error where tasks are looked up
        return task
    if plain not in BENCHMARKS or plain == "qa":  # the user's own questions are named by their file
        return task
    kept = (f"{key}={value}" for key, value in sorted(settings.items()) if key not in PLACES)
    return ", ".join((plain, *kept))
