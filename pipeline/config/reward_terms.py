"""A term of a reward, as a recipe writes it: to learn from, or to judge responses by."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from pipeline.config.blocks import Block
from pipeline.config.field_types import NAME, OR_ONE, ObjectName, RewardModelRef
from pipeline.config.judge import JudgeBlock
from pipeline.config.licence import Licence
from pipeline.config.marks import ABSENT_BY_DEFAULT

ALL_TASKS = "all"
_KINDS = ("model", "use", "verify", "judge")
Ensemble = Literal["mean", "worst"]
SourceNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], OR_ONE]


def _one_or_several(value: Any) -> Any:
    """Read a list of one model as that model, a longer one as a tuple."""
    several = cast("list[Any]", value) if isinstance(value, list) else [value]
    return several[0] if len(several) == 1 else tuple(several)


def _pairs(value: Any) -> Any:
    """Read a list of lists as a tuple of tuples."""
    if not isinstance(value, list):
        return value
    entries = cast("list[Any]", value)
    return tuple(tuple(one) if isinstance(one, list) else one for one in entries)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


_Members = Annotated[tuple[RewardModelRef, ...], Field(min_length=2)]
_Scale = tuple[float, PositiveFloat]


class RewardBlock(Block):
    """One term of the reward: exactly one of `model`, `use`, `verify` and `judge`.

    model: a reward model; it reads prompt and response as token ids, EOS included. With several, as
    `[$a, $b, $c]`, an ensemble: each one's scores minus their mean, over their deviation.
    ensemble: what becomes of these: their mean, or the worst of them.
    scale: `[mean, deviation]` of each model of an ensemble; by default of its own scores on the
    pairs that its training held out.
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

    model: Annotated[RewardModelRef | _Members | None, BeforeValidator(_one_or_several)] = None
    ensemble: Annotated[Ensemble, ABSENT_BY_DEFAULT] = "mean"
    scale: Annotated[tuple[_Scale, ...], BeforeValidator(_pairs), ABSENT_BY_DEFAULT] = ()
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
        if self.licence is not None and self.judge is not None:
            raise ValueError("`licence` of a judge stands in its own block, below `judge`")
        if self.licence is not None and self.model is None:
            raise ValueError("`licence` is for a `model`; what is computed takes no exam")
        return self

    @model_validator(mode="after")
    def _is_an_ensemble(self) -> "RewardBlock":
        given = [
            name
            for name in ("ensemble", "scale")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if given and not isinstance(self.model, tuple):
            raise ValueError(f"`{given[0]}` is for several reward models; write `model: [$a, $b]`")
        twice = next((name for name in self.models if self.models.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"`model` names `{twice}` twice; name each model of an ensemble once")
        if self.scale and len(self.scale) != len(self.models):
            raise ValueError(
                f"`scale` has {len(self.scale)} entries for {len(self.models)} models; write one "
                "`[mean, deviation]` for each"
            )
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The reward models that it asks; () for another kind of term."""
        if isinstance(self.model, tuple):
            return self.model
        return () if self.model is None else (self.model,)

    @property
    def is_ensemble(self) -> bool:
        """Whether it is several reward models."""
        return len(self.models) > 1

    @property
    def model_names(self) -> tuple[str, ...]:
        """What its reward models are called in metrics; of two of one name with their number."""
        if not self.is_ensemble:
            return (self.label,) if self.models else ()
        names = [_short_name(model) for model in self.models]
        return tuple(
            f"{name}{number}" if names.count(name) > 1 else name
            for number, name in enumerate(names, 1)
        )

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
        if self.is_ensemble:
            return "ensemble"
        if isinstance(self.model, str):
            return _short_name(self.model)
        return "verify" if self.use is None else self.use.rpartition(":")[2]


def _short_name(model: str) -> str:
    return model.removeprefix("$").partition("@")[0].rstrip("/").rpartition("/")[2]
