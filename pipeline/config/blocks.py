"""The blocks a recipe is written in, shared by the stages: strict, frozen, unknown keys refused.

A stage's own questions stand in its file under pipeline/stages/; here is what several of them ask.
Nothing in this file imports torch. A field marked EXECUTION says how the work is done, not what is
computed: it is never part of a fingerprint. Whatever is not marked is identity.
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_core import core_schema

from pipeline.config.marks import (
    EXECUTION,
    NamesFile,
    NamesFolder,
    NamesObject,
    NamesTask,
    NamesTemplate,
    RefersTo,
)
from pipeline.config.task_names import together

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
ROOT_NAME = r"^[A-Za-z][A-Za-z0-9_-]+$"
FINGERPRINT = r"^[0-9a-f]{8,64}$"
PATTERN_WORDS = {
    NAME: "use letters, digits, `_`, `.` and `-`, a letter or digit first",
    ROOT_NAME: "use two or more letters, digits, `_` and `-`, a letter first",
    FINGERPRINT: "write the fingerprint that `posttrain plan` shows",
}

_COUNT = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([kKMBG]?)")
# Also one of several that are read as one, `train+test`; `testimonials` is none.
_TEST_SPLIT = re.compile(r"(?:^|\+)\s*test(?![A-Za-z])")
_FACTOR = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9}


def _count(value: Any) -> Any:
    """Read `4M`, `1.5k` or a plain number as an int."""
    if not isinstance(value, str):
        return value
    match = _COUNT.fullmatch(value)
    if match is None:
        raise ValueError(f"`{value}` is not a count; write for example 4000000 or 4M")
    return round(float(match[1]) * _FACTOR[match[2]])


def _as_tuple(value: Any) -> Any:
    """Read one value as a tuple of one, a list as a tuple."""
    return tuple(cast("list[Any]", value)) if isinstance(value, list | tuple) else (value,)


@dataclass(frozen=True)
class OrOne:
    """Marks a list that may be written as its only item."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(_as_tuple, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


OR_ONE = OrOne()
Count = Annotated[
    int,
    Field(gt=0, le=10**15),
    BeforeValidator(
        _count,
        json_schema_input_type=PositiveInt | Annotated[str, Field(pattern=f"^{_COUNT.pattern}$")],
    ),
]
ModelRef = Annotated[str, RefersTo(("policy",)), Field(min_length=1)]
RewardModelRef = Annotated[str, RefersTo(("reward_model",)), Field(min_length=1)]
TokenizerRef = Annotated[str, RefersTo(("tokenizer", "policy")), Field(min_length=1)]
TaskName = Annotated[str, NamesTask(), Field(min_length=1)]
ObjectName = Annotated[str, NamesObject(), Field(min_length=1)]
FileName = Annotated[str, NamesFile(), Field(min_length=1)]
FolderName = Annotated[str, NamesFolder(), Field(min_length=1)]
Launcher = Literal["in_process", "python", "accelerate"]
Precision = Literal["fp32", "bf16", "fp16"]
TooLong = Literal["drop", "truncate", "error"]
TruncationSide = Literal["left", "right"]
Dedup = Literal["exact", "near"]
Decontaminate = Literal["warn", "drop", "error"]
DataForm = Literal["text", "prompt_completion", "chat", "preference", "prompt"]
# Our names of columns, which `columns:` maps to those of a file; formats.py says what they mean.
COLUMNS = (
    "text",
    *("prompt", "completion"),
    *("messages", "conversations"),
    *("instruction", "input", "output", "history"),
    *("chosen", "rejected", "margin", "probability"),
    *("system", "tools", "chat_template_kwargs"),
    "input_ids",
)
# What can be read and measured without training on it; data/encoding/passages.py says what of it
# is.
READ_FORMS: tuple[DataForm, ...] = ("text", "prompt_completion", "chat", "preference")
# The fields of stages that hold data blocks: what is trained on, what is only measured.
TRAINED_ON = ("data", "prompts")
MEASURED_ON = ("texts", "eval_data")


class Block(BaseModel):
    """A mapping in a recipe."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class LaunchBlock(Block):
    """How a stage's process is started. Execution only.

    with: `in_process` (default), `python` (a process of its own) or `accelerate` (several
    processes that share the work).
    processes: how many on this machine, for accelerate.
    config: an Accelerate config file, relative to the recipe; recipe/launching.py says what of it.
    """

    model_config = ConfigDict(populate_by_name=True)

    launcher: Launcher = Field("in_process", alias="with")
    processes: PositiveInt | None = None
    config: str | None = None

    @model_validator(mode="after")
    def _processes_need_accelerate(self) -> "LaunchBlock":
        if self.launcher != "accelerate" and ((self.processes or 1) > 1 or self.config):
            raise ValueError("`processes` and `config` are for many; write `with: accelerate`")
        if self.launcher == "accelerate" and self.processes is None and self.config is None:
            raise ValueError(
                "it is not said how many processes; write `{with: accelerate, processes: 2}`"
            )
        return self


def _launch(value: Any) -> Any:
    return {"with": value} if isinstance(value, str) else value


Launch = Annotated[
    LaunchBlock,
    BeforeValidator(_launch, json_schema_input_type=Launcher | LaunchBlock),
    EXECUTION,
]


class DataBlock(Block):
    """One source of rows: exactly one of `task`, `file` and `hub`.

    task: one of `posttrain list tasks`, or `module:Class` in a file of yours. file: a path from the
    recipe, or `root:path`. hub: a data set's id, `owner/name`.
    form: text | prompt_completion | chat | preference | prompt; guessed from the columns when
    absent. Of a task, `text` asks for its documents where a stage would read its demonstrations
    (replay). Where demonstrations are read, `preference` takes the chosen response of each pair.
    columns: their column names for ours, as in `{prompt: instruction, completion: output}`.
    weight: share of the mix (pre-training: of tokens; else of rows), relative to the other sources'
    weights.
    rows: at most this many rows, the first ones.
    split: of a task (train | validation) or of a hub data set.
    holdout: share of a file kept out of training; evaluation of the same file with the same share
    sees only that part.
    separator: what divides a text file into documents; without it the file is one document.
    dedup: leave out rows that repeat an earlier one, `exact` or `near`
    (pipeline/data/reading/dedup.py).
    subset, revision: of a hub data set.
    """

    task: TaskName | None = None
    file: str | None = None
    hub: str | None = None
    form: DataForm | None = None
    columns: dict[str, str] = {}
    weight: PositiveFloat | None = None
    rows: Count | None = None
    split: str | None = None
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None
    dedup: Dedup | None = None
    subset: str | None = None
    revision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _whole_task(cls, value: Any) -> Any:
        return together(cast("dict[str, Any]", value)) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_source(self) -> "DataBlock":
        given = [name for name in ("task", "file", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            said = "none of them" if not given else " and ".join(f"`{name}`" for name in given)
            raise ValueError(f"a source is exactly one of `task`, `file`, `hub`; this has {said}")
        foreign = {
            "task": ("columns", "holdout", "separator", "subset", "revision"),
            "file": ("subset", "revision", "split"),
            "hub": ("holdout", "separator"),
        }[given[0]]
        if self.task is not None and self.form not in (None, "text"):
            raise ValueError("a task's `form` is `text` or none: its documents, or what is wanted")
        for name in foreign:
            if getattr(self, name):
                raise ValueError(f"`{name}` has no meaning for a `{given[0]}` source; leave it out")
        return self

    @property
    def reads_test_split(self) -> bool:
        """Whether its split is one to test on: `test`, `test_sft`, `train+test[:10%]`."""
        return _TEST_SPLIT.search(self.split or "") is not None

    @property
    def label(self) -> str:
        """The source as a person would name it."""
        return self.task or self.file or self.hub or ""


DataBlocks = Annotated[tuple[DataBlock, ...], Field(min_length=1), OR_ONE]
TaskNames = Annotated[tuple[TaskName, ...], Field(min_length=1), OR_ONE]


class StageConfig(Block):
    """What every stage may be asked.

    stage: the kind of work, one of `posttrain list stages`, or `module:STAGE` in a file of yours.
    seed: of this stage alone; without it the recipe's.
    pin: the fingerprint this stage must have; a different one is an error instead of a surprise
    rebuild.
    launch: how its process is started; without it the recipe's.
    """

    trained_on: ClassVar[tuple[str, ...]] = TRAINED_ON
    measured_on: ClassVar[tuple[str, ...]] = MEASURED_ON

    stage: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    launch: Launch | None = None
    pin: Annotated[str, Field(pattern=FINGERPRINT), EXECUTION] | None = None

    @property
    def max_positions(self) -> int | None:
        """How many positions the model that it makes has, if the recipe says so."""
        return None


class WithTemplate(StageConfig):
    """What a stage may be asked that reads conversations.

    chat_template: what they are written with, instead of the model's own: `chatml`, one that TRL
    ships (`qwen3`), a file (`mine.jinja`), or a folder or hub model that has one. A model without
    one is given `chatml` where it learns conversations. Tokens that are new to it are trained.
    chat_template_kwargs: values for variables of the template, as `{enable_thinking: false}`; they
    stay with the model.
    """

    chat_template: Annotated[str, NamesTemplate(), Field(min_length=1)] | None = None
    chat_template_kwargs: dict[str, Any] = {}


class LoraBlock(Block):
    """Train a low-rank adapter instead of all weights (Hu et al. 2021), through PEFT.

    Any field of PEFT's LoraConfig goes through (`use_dora`, `use_rslora`, `modules_to_save`, ...);
    below are our defaults.
    r: rank. lora_alpha: scale times rank; without it twice the rank. target_modules: which layers.
    load_in_4bit: keep the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023): CUDA with
    bitsandbytes only.
    """

    model_config = ConfigDict(extra="allow")

    r: PositiveInt = 16
    lora_alpha: PositiveInt | None = None
    target_modules: str | list[str] = "all-linear"
    load_in_4bit: bool = False

    def fields(self) -> dict[str, Any]:
        """Return the fields of PEFT's LoraConfig: ours, the user's own on top."""
        return {
            "r": self.r,
            "lora_alpha": self.lora_alpha or 2 * self.r,
            "target_modules": self.target_modules,
            **(self.model_extra or {}),
        }


class EarlyStoppingBlock(Block):
    """When to stop before the last step; needs `eval_strategy` in `training_args`.

    patience: evaluations without an improvement of `metric_for_best_model` (the loss, of ppo the
    score, unless said). threshold: what counts as one.
    """

    patience: PositiveInt = 3
    threshold: NonNegativeFloat = 0.0


class TrainingStage(StageConfig):
    """What every stage that trains a model may be asked.

    batch_size: sequences per optimizer step over all devices; accumulation is derived from it.
    precision: of the training arithmetic. What is trained stays fp32, as do embeddings and norms;
    frozen projections (below an adapter, of a reference) are kept in it. fp16 needs a GPU.
    lora: train an adapter instead of all weights.
    training_args: goes through to the upstream config class, names checked against it.
    eval_data: what is measured during training when `training_args` has an `eval_strategy`, and
    never trained on; without it the held-out part of what is trained on (`holdout`; a task's
    validation split).
    early_stopping: when evaluations during training do not improve any more.
    decontaminate: as the recipe's, for this stage.
    """

    best_metric: ClassVar[str] = "loss"  # by which the best checkpoint is told

    batch_size: PositiveInt = 16
    precision: Precision = "fp32"
    lora: LoraBlock | None = None
    training_args: dict[str, Any] = {}
    eval_data: Annotated[tuple[DataBlock, ...], OR_ONE] = ()
    early_stopping: EarlyStoppingBlock | None = None
    # `drop` is part of what is computed, with what is then held against (plan/identity.py).
    decontaminate: Annotated[Decontaminate | None, EXECUTION] = None

    @property
    @abstractmethod
    def sources(self) -> tuple[DataBlock, ...]:
        """The rows that it trains on."""


class TrainingOnData(TrainingStage):
    """What every stage that learns from the rows of `data` may be asked.

    data: the sources that it learns from; their columns tell the form of the rows.
    """

    data: DataBlocks

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The rows that it trains on."""
        return self.data


class TrainingOnRows(WithTemplate, TrainingOnData):
    """What every stage that learns from rows of `data`, each as it is, may be asked.

    too_long: what becomes of a row of more than `max_length` tokens (of `training_args`; without
    it as many as the model has positions): drop it, truncate it, or make it an error. Dropped and
    truncated rows are counted; that most are dropped is an error.
    truncation_side: where `truncate` takes away. right: the end of a response, which is then not
    taught to stop; left: the beginning of the prompt.
    """

    too_long: TooLong = "drop"
    truncation_side: TruncationSide = "right"
