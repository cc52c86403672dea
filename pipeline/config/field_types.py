"""The types that values in a recipe have: names, counts, references, words to choose from.

They are annotations for pydantic, so that the type alone reads, checks and describes a value
(`posttrain schema`). Marks say what a name stands for (marks.py).
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PositiveInt,
)
from pydantic_core import core_schema

from pipeline.config.marks import (
    NamesFile,
    NamesFolder,
    NamesObject,
    NamesTask,
    RefersTo,
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
ROOT_NAME = r"^[A-Za-z][A-Za-z0-9_-]+$"
FINGERPRINT = r"^[0-9a-f]{8,64}$"
OPTION_NAME = r"^[a-z][a-z0-9-]+$"
STAGE = r"^\$"
PATTERN_WORDS = {
    NAME: "use letters, digits, `_`, `.` and `-`, a letter or digit first",
    ROOT_NAME: "use two or more letters, digits, `_` and `-`, a letter first",
    OPTION_NAME: "write the long name of an option, as `cpus-per-task`",
    STAGE: "write `$name` of a stage that makes rows",
    FINGERPRINT: "write the fingerprint that `posttrain plan` shows",
}

_COUNT = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([kKMBG]?)")
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
AnyModelRef = Annotated[str, RefersTo(("policy", "reward_model")), Field(min_length=1)]
DataRef = Annotated[str, RefersTo(("data",)), Field(pattern=STAGE)]
TokenizerRef = Annotated[str, RefersTo(("tokenizer", "policy")), Field(min_length=1)]
TaskName = Annotated[str, NamesTask(), Field(min_length=1)]
ObjectName = Annotated[str, NamesObject(), Field(min_length=1)]
FileName = Annotated[str, NamesFile(), Field(min_length=1)]
FolderName = Annotated[str, NamesFolder(), Field(min_length=1)]
Launcher = Literal["in_process", "python", "accelerate", "slurm"]
Precision = Literal["fp32", "bf16", "fp16"]
TooLong = Literal["drop", "truncate", "error"]
TruncationSide = Literal["left", "right"]
Dedup = Literal["exact", "near"]
Decontaminate = Literal["warn", "drop", "error"]
DataForm = Literal[
    "text", "prompt_completion", "chat", "preference", "unpaired_preference", "prompt"
]
