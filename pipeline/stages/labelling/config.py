"""What may be asked of stage `label`: who judges, and what is made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, NonNegativeFloat, PositiveInt, model_validator

from pipeline.config.blocks import Block, DataBlocks
from pipeline.config.field_types import OR_ONE
from pipeline.config.judge import AskedBlock, JudgeBlock, Principles
from pipeline.config.marks import ABSENT_BY_DEFAULT
from pipeline.config.reward_terms import RewardBlock
from pipeline.config.stage_config import Makes, StageConfig
from pipeline.data.making.choices import Which
from pipeline.data.making.rows import (
    COMPARED,
    COMPLETION,
    PAIRED,
    REVISED,
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


class ReviseBlock(AskedBlock):
    """Critique and revision of every response by a principle (Bai et al. 2022, section 3).

    model, endpoint: who writes them; exactly one of both.
    principles: a list, or a YAML file that is one; one is drawn for every response and round.
    rounds: how many times a response is criticised and revised.
    temperature: 0 is greedy. max_tokens: of a critique, and of a revision.
    budget: the most that may be spent on it.
    precision, batch_size: of a model in this process; the latter is memory and speed only.
    """

    principles: Principles
    rounds: PositiveInt = 1

    @model_validator(mode="after")
    def _has_principles(self) -> ReviseBlock:
        if not self.principles:
            raise ValueError("`principles` is empty; write one at least, or name a YAML file")
        return self


class LabelConfig(StageConfig):
    """data: the responses, by `$name` of a stage that makes some, or in a file or on the hub.

    reward: a list of terms, whose weighted sum is the score of a response; or one.
    judge: in place of `reward`, a language model: with `pairs` it compares the responses to a
    prompt two by two, in both orders; otherwise it scores each by its rubric.
    revise: have every response criticised and revised by a principle first. Without `pairs` the
    revisions are what is judged, or the result; with `pairs` a pair is a response and its revision.
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
    revise: Annotated[ReviseBlock | None, ABSENT_BY_DEFAULT] = None
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
            if self.revise is None:
                raise ValueError("nothing judges the responses; name a `reward` or a `judge`")
            if self.pairs is not None or self.thumbs is not None:
                raise ValueError(
                    "nothing says whether a revision is better than its response; name a `judge` "
                    "or a `reward`"
                )
        return self

    @property
    def terms(self) -> tuple[RewardBlock, ...]:
        """The terms that give scores; of a judge alone, its own."""
        return self.reward if self.judge is None else (RewardBlock(judge=self.judge),)

    @property
    def draws(self) -> bool:
        """Whether there are principles, pairs or texts to draw."""
        judges = (self.judge, *(term.judge for term in self.reward))
        return self.revise is not None or any(judge is not None for judge in judges)

    @property
    def compares(self) -> bool:
        """Whether a judge compares responses two by two."""
        return self.judge is not None and self.pairs is not None

    @property
    def makes(self) -> Makes:
        """What rows it makes."""
        revised = REVISED if self.revise is not None else ()
        if self.pairs is not None:
            compared = COMPARED if self.judge is not None else ()
            return Makes("preference", (*PAIRED, *compared, *revised))
        if self.thumbs is not None:
            return Makes("unpaired_preference", (*THUMBS, "score", *revised))
        scored = SCORED if self.terms else ()
        return Makes("prompt_completion", (*COMPLETION, *SAMPLED, *scored, *revised))

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that it writes, and that a file must not have."""
        if self.pairs is None and self.thumbs is None:
            return tuple(name for name in self.makes.columns if name in (*SCORED, *REVISED))
        return tuple(name for name in self.makes.columns if name not in COMPLETION)
