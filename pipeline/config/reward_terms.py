"""A term of a reward, as a recipe writes it: to learn from, or to judge responses by."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.blocks import Block
from pipeline.config.field_types import NAME, OR_ONE, ObjectName, RewardModelRef
from pipeline.config.judge import JudgeBlock
from pipeline.config.licence import Licence
from pipeline.config.marks import ABSENT_BY_DEFAULT

ALL_TASKS = "all"
_KINDS = ("model", "use", "verify", "judge")
SourceNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], OR_ONE]


class RewardBlock(Block):
    """One term of the reward: exactly one of `model`, `use`, `verify` and `judge`.

    model: a reward model; it reads prompt and response as token ids, EOS included.
    use: a function of yours, `module:function` beside the recipe, in TRL's calling convention.
    verify: tasks among the prompts, whose verifiers grade the responses; `all` for all of them.
    judge: a language model that scores a response by a rubric; what it gives no answer for has no
    score.
    weight: its factor in the sum; a term of weight 0 is only reported.
    on: the sources of prompts it applies to, named as in `prompts`; by default all.
    name: its name in metrics; by default that of the stage, the model, the function or the
    judge, or `verify`.
    licence: of a `model`: the pairs that it is examined on before it counts; by default those of
    the tasks among the prompts, else what its own stage kept out. `off` for no exam.
    """

    model: RewardModelRef | None = None
    use: ObjectName | None = None
    verify: SourceNames = ()
    judge: Annotated[JudgeBlock | None, ABSENT_BY_DEFAULT] = None
    weight: float = 1.0
    on: SourceNames = ()
    name: Annotated[str, Field(pattern=NAME, max_length=100)] | None = None
    licence: Annotated[Licence | None, ABSENT_BY_DEFAULT] = None

    @model_validator(mode="after")
    def _one_kind(self) -> "RewardBlock":
        kinds = [name for name in _KINDS if getattr(self, name)]
        if len(kinds) != 1:
            stated = " and ".join(f"`{name}`" for name in kinds) or "none of them"
            known = ", ".join(f"`{name}`" for name in _KINDS)
            raise ValueError(f"a reward is exactly one of {known}; this has {stated}")
        if self.verify and self.on:
            raise ValueError("`on` has no meaning beside `verify`, which names its tasks")
        if self.licence is not None and self.model is None:
            raise ValueError("`licence` is for a `model`; what is computed takes no exam")
        return self

    def is_for(self, source: str, tasks: Collection[str]) -> bool:
        """Whether it judges the prompts of a source. tasks: the sources that are tasks."""
        if self.verify:
            return source in tasks and (self.verify == (ALL_TASKS,) or source in self.verify)
        return not self.on or source in self.on

    @property
    def label(self) -> str:
        """What it is called in metrics and samples."""
        if self.name is not None:
            return self.name
        if self.judge is not None:
            return self.judge.label
        if self.model is not None:
            return self.model.removeprefix("$").partition("@")[0].rstrip("/").rpartition("/")[2]
        return "verify" if self.use is None else self.use.rpartition(":")[2]
