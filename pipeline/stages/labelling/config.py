"""What may be asked of stage `label`: who judges, and what is made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, NonNegativeFloat, PositiveInt, model_validator

from pipeline.config.blocks import Block, DataBlocks
from pipeline.config.field_types import OR_ONE
from pipeline.config.judge import JudgeBlock
from pipeline.config.marks import ABSENT_BY_DEFAULT
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.stage_config import Makes, StageConfig
from pipeline.data.making.choices import Which
from pipeline.data.making.rows import (
    COMPARED,
    COMPLETION,
    PAIRED,
    SAMPLED,
    SCORED,
    THUMBS,
)


class PairsBlock(Block):
    """Which pairs are made of the responses to one prompt.

    which: the best against the worst, or all pairs. With a `judge`, the best is the one that wins
    the most comparisons.
    margin: by how much their scores must differ at least; equal scores make no pair. With a
    `judge`, by how much the probabilities that either is better must differ.
    compared: how many pairs of a prompt's responses a `judge` compares at most, drawn by the seed;
    by default all.
    soft: whether pairs of a judge that gives probabilities have a column `probability`, which the
    losses of reward_model and dpo use.
    """

    which: Which = "best_worst"
    margin: NonNegativeFloat = 0.0
    compared: Annotated[PositiveInt | None, ABSENT_BY_DEFAULT] = None
    soft: Annotated[bool, ABSENT_BY_DEFAULT] = True


def _pairs(value: Any) -> Any:
    return {"which": value} if isinstance(value, str) else value


class LabelConfig(StageConfig):
    """data: the responses, by `$name` of a stage that makes some, or in a file or on the hub.

    reward: a list of terms, whose weighted sum is the score of a response; or one.
    judge: in place of `reward`, a language model: with `pairs` it compares the responses to a
    prompt two by two, in both orders; otherwise it scores each by its rubric.
    pairs: make pairs of a chosen and a rejected response, for reward_model and dpo: `best_worst`,
    `all`, or with a `margin`.
    thumbs: label every response as wanted or not, for kto: from this score on, or `mean`: by
    whether it is above or below the mean of its prompt's responses.
    Without either every response gets its `score`.
    """

    stage: Literal["label"]
    data: DataBlocks
    reward: Annotated[tuple[RewardBlock, ...], OR_ONE] = ()
    judge: Annotated[JudgeBlock | None, ABSENT_BY_DEFAULT] = None
    pairs: (
        Annotated[PairsBlock, BeforeValidator(_pairs, json_schema_input_type=Which | PairsBlock)]
        | None
    ) = None
    thumbs: float | Literal["mean"] | None = None

    @model_validator(mode="after")
    def _one_result(self) -> LabelConfig:
        if self.pairs is not None and self.thumbs is not None:
            raise ValueError("`thumbs` and `pairs` are two results; write two `label` stages")
        if self.judge is not None and self.reward:
            raise ValueError(
                "`judge` and `reward` are two ways to judge; write the judge as a term of "
                "`reward`, or leave one of them out"
            )
        if self.judge is None and not self.reward:
            raise ValueError("nothing judges the responses; name a `reward` or a `judge`")
        return self

    @property
    def terms(self) -> tuple[RewardBlock, ...]:
        """The terms that give scores; of a judge alone, its own."""
        return self.reward if self.judge is None else (RewardBlock(judge=self.judge),)

    @property
    def draws(self) -> bool:
        """Whether there are principles or pairs to draw."""
        judges = (self.judge, *(term.judge for term in self.reward))
        return any(judge is not None for judge in judges)

    @property
    def compares(self) -> bool:
        """Whether a judge compares responses two by two."""
        return self.judge is not None and self.pairs is not None

    @property
    def makes(self) -> Makes:
        """What rows it makes."""
        if self.pairs is not None:
            compared = COMPARED if self.judge is not None else ()
            return Makes("preference", (*PAIRED, *compared))
        if self.thumbs is not None:
            return Makes("unpaired_preference", (*THUMBS, "score"))
        return Makes("prompt_completion", (*COMPLETION, *SAMPLED, *SCORED))

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that it writes, and that a file must not have."""
        if self.pairs is None and self.thumbs is None:
            return SCORED
        return tuple(name for name in self.makes.columns if name not in COMPLETION)
