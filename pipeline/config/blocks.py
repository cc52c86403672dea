"""The blocks that stages are written with: where rows come from, how to start, what to adapt.

Strict and frozen; unknown keys are refused. The keys of stages are in stage_config.py,
training_stage.py and measuring_stage.py, and in a file per stage under pipeline/stages/. A field
marked EXECUTION says how the work is done, not what is computed, and is never part of a
fingerprint. Whatever is not marked is identity.
"""

import re
from typing import Annotated, Any, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.config.field_types import (
    OPTION_NAME,
    OR_ONE,
    Count,
    DataForm,
    DataRef,
    Dedup,
    Launcher,
    TaskName,
)
from pipeline.config.marks import ABSENT_BY_DEFAULT, EXECUTION
from pipeline.config.task_names import rejoin_settings

_SOURCES = ("task", "file", "hub", "stage")
# Also in splits that are read as one (`train+test`); not in `testimonials`.
_TEST_SPLIT = re.compile(r"(?:^|\+)\s*test(?![A-Za-z])")
# Our names of columns, which `columns:` maps to those of a file; formats.py has their meaning.
COLUMNS = (
    "text",
    *("prompt", "completion"),
    *("messages", "conversations"),
    *("instruction", "input", "output", "history"),
    *("chosen", "rejected", "margin", "probability"),
    *("output_1", "output_2"),
    "label",
    "subset",
    *("system", "tools", "chat_template_kwargs"),
    "input_ids",
)
# Forms that can be measured without training on them, as data/encoding/passages.py says.
READ_FORMS: tuple[DataForm, ...] = ("text", "prompt_completion", "chat", "preference")


class Block(BaseModel):
    """A mapping in a recipe."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class LaunchBlock(Block):
    """How a stage's process is started. Execution only.

    with: `in_process` (default), `python` (a process of its own), `accelerate` (several processes
    that share the work) or `slurm` (at the top of a recipe: a job of its own for each stage).
    processes: how many on this machine, for accelerate; in a job of Slurm's, on its machine.
    config: an Accelerate config file, relative to the recipe, within the limits that
    recipe/launching.py checks.
    fsdp: split weights, gradients and moments over the processes (FSDP2, Zhao et al. 2023); with
    options of Accelerate's `fsdp_config`, or `{}`.
    deepspeed: split them by DeepSpeed instead (ZeRO, Rajbhandari et al. 2020); its config, as in
    `{zero_optimization: {stage: 2}}`, or a JSON file of one, relative to the recipe.
    sbatch: options of `sbatch` by their long names, as in `{partition: gpu, time: 2:00:00}`; `true`
    for one without a value. Those of a stage are added to those at the top.
    """

    model_config = ConfigDict(populate_by_name=True)

    launcher: Launcher = Field("in_process", alias="with")
    processes: PositiveInt | None = None
    config: str | None = None
    fsdp: dict[str, Any] | None = None
    deepspeed: dict[str, Any] | str | None = None
    sbatch: dict[Annotated[str, Field(pattern=OPTION_NAME)], str | int | float | bool] = {}

    @property
    def in_its_job(self) -> "LaunchBlock":
        """How a stage is started where it runs: once Slurm has begun its job, if it has one."""
        if self.launcher != "slurm":
            return self
        launcher = "in_process" if self.processes is None and not self.config else "accelerate"
        return self.model_copy(update={"launcher": launcher, "sbatch": {}})

    @model_validator(mode="after")
    def _sbatch_needs_slurm(self) -> "LaunchBlock":
        if self.sbatch and self.launcher != "slurm":
            raise ValueError("`sbatch` has options of Slurm's; write `with: slurm`")
        return self

    @model_validator(mode="after")
    def _processes_need_accelerate(self) -> "LaunchBlock":
        is_split = self.fsdp is not None or self.deepspeed is not None
        is_for_many = (self.processes or 1) > 1 or self.config or is_split
        if self.launcher not in ("accelerate", "slurm") and is_for_many:
            keys = "`processes`, `config`, `fsdp` and `deepspeed`"
            raise ValueError(f"{keys} are for many; write `with: accelerate`")
        if self.fsdp is not None and self.deepspeed is not None:
            raise ValueError("weights are split by `fsdp` or by `deepspeed`; leave one out")
        is_counted = self.processes is not None or self.config is not None
        if self.launcher == "slurm" and is_split and not is_counted:
            raise ValueError("it is not said over how many processes; write `processes: 2`")
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
    """One source of rows: exactly one of `task`, `file`, `hub` and `stage`.

    task: one of `posttrain list tasks`, or `module:Class` in a file of yours. file: a path from the
    recipe, or `root:path`. hub: a data set's id, `owner/name`. stage: `$name` of a stage that makes
    rows (`generate`, `label`, `best_of_n`, `judgements`); `$name` alone is short for
    `{stage: $name}`.
    form: text | prompt_completion | chat | preference | unpaired_preference | prompt; guessed from
    the columns when absent. For a task, `text` reads its documents where a stage would read its
    demonstrations (replay). Where demonstrations are read, `preference` takes the chosen response
    of every pair.
    columns: from our column names to the file's, as in `{prompt: instruction, completion: output}`.
    weight: share of the mix (of tokens in pre-training, of rows elsewhere), relative to the weights
    of all sources.
    rows: at most this many rows, the first ones.
    skip: leave out so many first, as where one source is divided between stages.
    split: of a task (train | validation) or of a hub data set.
    holdout: share of a file or a stage's rows kept out of training; evaluation of the same source
    with the same share reads only that part.
    separator: what divides a text file into documents; without it the file is one document.
    dedup: drop rows that repeat an earlier one, `exact` or `near` (pipeline/data/reading/dedup.py).
    subset, revision: of a hub data set.
    streaming: read a hub data set as it comes, without a copy of it on this disk; encoded rows are
    kept (docs/data.md).
    """

    task: TaskName | None = None
    file: str | None = None
    hub: str | None = None
    stage: DataRef | None = None
    form: DataForm | None = None
    columns: dict[str, str] = {}
    weight: PositiveFloat | None = None
    rows: Count | None = None
    skip: Annotated[Count | None, ABSENT_BY_DEFAULT] = None
    split: str | None = None
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None
    dedup: Dedup | None = None
    subset: str | None = None
    revision: str | None = None
    streaming: Annotated[bool, EXECUTION] = False

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        """Read `$name` as a stage's rows, and put the settings of a task back to its name."""
        if isinstance(value, str) and value.startswith("$"):
            return {"stage": value}
        return rejoin_settings(cast("dict[str, Any]", value)) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_source(self) -> "DataBlock":
        sources = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(sources) != 1:
            stated = " and ".join(f"`{name}`" for name in sources) or "none of them"
            known = ", ".join(f"`{name}`" for name in _SOURCES)
            raise ValueError(f"a source is exactly one of {known}; this has {stated}")
        foreign = {
            "task": ("columns", "holdout", "separator", "subset", "revision", "streaming"),
            "file": ("subset", "revision", "split", "streaming"),
            "hub": ("holdout", "separator"),
            "stage": ("subset", "revision", "split", "separator", "streaming"),
        }[sources[0]]
        if self.skip is not None and self.dedup is not None:
            raise ValueError("`skip` counts rows before `dedup` drops any; leave one of them out")
        if self.task is not None and self.form not in (None, "text"):
            raise ValueError("a task's `form` is `text` or none: its documents, or what is wanted")
        for name in foreign:
            if getattr(self, name):
                raise ValueError(
                    f"`{name}` has no meaning for a `{sources[0]}` source; leave it out"
                )
        if self.streaming and any(sign in (self.split or "") for sign in "[+"):
            message = f"`streaming` reads one split from its start, and `{self.split}` is another"
            raise ValueError(f"{message} part; name one split, and how much of it by `rows`")
        return self

    @property
    def reads_test_split(self) -> bool:
        """Whether its split is for testing: `test`, `test_sft`, `train+test[:10%]`."""
        return _TEST_SPLIT.search(self.split or "") is not None

    @property
    def label(self) -> str:
        """The source as a person would name it."""
        return self.task or self.file or self.hub or self.stage or ""


# A data block as a recipe may write it: `$name` for `{stage: $name}`, too.
Source = Annotated[
    DataBlock,
    BeforeValidator(lambda value: value, json_schema_input_type=DataBlock | DataRef),
]
DataBlocks = Annotated[tuple[Source, ...], Field(min_length=1), OR_ONE]


class LoraBlock(Block):
    """Train a low-rank adapter instead of all weights (Hu et al. 2021), through PEFT.

    Any field of PEFT's LoraConfig may be set (`use_dora`, `use_rslora`, `modules_to_save`, ...);
    those below have defaults of ours.
    r: rank. lora_alpha: scale times rank; by default twice the rank. target_modules: which layers.
    load_in_4bit: keep the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023), with
    bitsandbytes; it saves memory and costs time, most of it on a CPU.
    """

    model_config = ConfigDict(extra="allow")

    r: PositiveInt = 16
    lora_alpha: PositiveInt | None = None
    target_modules: str | list[str] = "all-linear"
    load_in_4bit: bool = False

    def fields(self) -> dict[str, Any]:
        """Return the fields of PEFT's LoraConfig: our defaults, overridden by the user's own."""
        return {
            "r": self.r,
            "lora_alpha": self.lora_alpha or 2 * self.r,
            "target_modules": self.target_modules,
            **(self.model_extra or {}),
        }


class EarlyStoppingBlock(Block):
    """When to stop before the last step; needs `eval_strategy` in `training_args`.

    patience: evaluations without an improvement of `metric_for_best_model` (by default the loss,
    for ppo the score). threshold: the least improvement that counts.
    """

    patience: PositiveInt = 3
    threshold: NonNegativeFloat = 0.0
