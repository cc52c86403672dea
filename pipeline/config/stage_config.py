"""The keys of every stage of a recipe, and those of stages that read conversations.

Not what a stage is (stage.py). Stages that train and stages that measure share more:
training_stage.py, measuring_stage.py.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pipeline.config.blocks import Block, Launch
from pipeline.config.field_types import FINGERPRINT, DataForm
from pipeline.config.marks import EXECUTION, NamesTemplate

# The fields of stages that hold data blocks: what is trained on, what is only measured.
TRAINED_ON = ("data", "prompts")
MEASURED_ON = ("texts", "eval_data")


@dataclass(frozen=True)
class Makes:
    """The rows that a stage makes, as known before it has run.

    form: how a data block reads them. columns: those that the stage writes itself; rows have those
    of their prompts beside them.
    """

    form: DataForm
    columns: tuple[str, ...]


class StageConfig(Block):
    """The keys of every stage.

    stage: the kind of work, one of `posttrain list stages`, or `module:STAGE` in a file of yours.
    seed: for this stage alone; by default the recipe's.
    pin: the fingerprint this stage must have; a different one is an error instead of a surprise
    rebuild.
    launch: how its process is started; by default the recipe's.
    """

    trained_on: ClassVar[tuple[str, ...]] = TRAINED_ON
    measured_on: ClassVar[tuple[str, ...]] = MEASURED_ON

    stage: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    launch: Launch | None = None
    pin: Annotated[str, Field(pattern=FINGERPRINT), EXECUTION] | None = None

    @property
    def draws(self) -> bool:
        """Whether the seed can change its result, if it can change that of its kind."""
        return True

    @property
    def max_positions(self) -> int | None:
        """How many positions the model that it makes has, if the recipe says so."""
        return None

    @property
    def makes(self) -> "Makes | None":
        """What rows it makes; None where it makes none, or does not say."""
        return None


class WithTemplate(StageConfig):
    """The keys of a stage that reads conversations.

    chat_template: the template to use instead of the model's own: `chatml`, one that TRL ships
    (`qwen3`), a file (`mine.jinja`), or a folder or hub model that has one. A model without a
    template gets `chatml` where it learns conversations. Tokens that are new to the model are
    trained.
    chat_template_kwargs: values for variables of the template, as `{enable_thinking: false}`; they
    stay with the model.
    """

    chat_template: Annotated[str, NamesTemplate(), Field(min_length=1)] | None = None
    chat_template_kwargs: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it
