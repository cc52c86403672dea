"""The tools that a model may call while it answers, as a recipe writes them.

What a tool does is eval/tools' subject; pipeline/tools loads what is named here.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from pipeline.config.blocks import Block
from pipeline.config.field_types import OR_ONE, FileName, ObjectName
from pipeline.config.marks import ABSENT_BY_DEFAULT
from pipeline.errors import closest

BUILT_IN = ("calculator", "python")
_MAX_TURNS = 4
_DATABASES = (".db", ".sqlite", ".sqlite3", ".sql")


class ToolBlock(Block):
    """One tool: exactly one of `name`, `use` and `sql`.

    name: `calculator` (exact arithmetic) or `python` (programs in a box without files or network).
    use: a function of yours, `module:function` beside the recipe, async or not; its annotations and
    its docstring (in Google's style, a line for each argument) say to the model what it takes.
    sql: a database that can be read: an SQLite file, or a `.sql` file with the statements that make
    one.
    timeout_s: of a call; by default 5 s.
    max_result_characters: what the model reads of a result.
    """

    name: str | None = None
    use: ObjectName | None = None
    sql: FileName | None = None
    timeout_s: PositiveFloat = 5.0
    max_result_characters: PositiveInt = 2000

    @model_validator(mode="after")
    def _one_kind(self) -> "ToolBlock":
        kinds = [kind for kind in ("name", "use", "sql") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            stated = " and ".join(f"`{kind}`" for kind in kinds) or "none of them"
            raise ValueError(f"a tool is exactly one of `name`, `use`, `sql`; this has {stated}")
        if self.name is not None and self.name not in BUILT_IN:
            hint = closest(self.name, BUILT_IN) or f"there are {', '.join(BUILT_IN)}"
            raise ValueError(f"there is no tool `{self.name}`; {hint}, or `module:function`")
        return self

    @property
    def label(self) -> str:
        """The name that the model calls it by."""
        if self.use is not None:
            return self.use.rpartition(":")[2]
        return self.name or "sql"


def _tool(value: Any) -> Any:
    if isinstance(value, str):
        return {"use" if ":" in value else "name": value}
    return value


Tools = Annotated[
    tuple[
        Annotated[ToolBlock, BeforeValidator(_tool, json_schema_input_type=str | ToolBlock)], ...
    ],
    OR_ONE,
    ABSENT_BY_DEFAULT,
]


def tool_blocks(text: str) -> tuple[ToolBlock, ...]:
    """Return the tools that a command's option names, parted by commas.

    Each is a name, `module:function`, or a database. Raises ValueError.
    """
    blocks: list[ToolBlock] = []
    for part in text.split(","):
        name = part.strip()
        is_database = Path(name).suffix in _DATABASES
        kind = "sql" if is_database else "use" if ":" in name else "name"
        try:
            blocks.append(ToolBlock.model_validate({kind: name}))
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise ValueError(message.removeprefix("Value error, ")) from error
    return tuple(blocks)


class WithTools(Block):
    """The keys of a stage in which a model may call tools.

    tools: `calculator`, `python`, `module:function`, or blocks of these; the model then answers in
    turns: it calls, the tools answer, it goes on. max_turns: how often it may write, its last
    answer included; calls of the last turn are not answered.
    """

    tools: Tools = ()
    max_turns: Annotated[PositiveInt, ABSENT_BY_DEFAULT] = _MAX_TURNS

    @model_validator(mode="after")
    def _tools_fit(self) -> "WithTools":
        labels = [tool.label for tool in self.tools]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"two tools are called `{twice}`; keep one of them")
        if self.max_turns != _MAX_TURNS and not self.tools:  # a worker reads defaults back as set
            raise ValueError("`max_turns` is for a model with `tools`; name some")
        if self.tools and self.max_turns == 1:
            raise ValueError("with `max_turns` 1 no call is ever answered; write 2 or more")
        return self
