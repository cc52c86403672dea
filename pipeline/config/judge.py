"""Who judges, how it is asked, and what it may cost: the `judge:` block of a recipe.

Not the rewards that it may be a term of (reward_terms.py), and not the asking (reward/judges/).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pipeline.config.blocks import Block
from pipeline.config.field_types import OR_ONE, ModelRef
from pipeline.config.marks import EXECUTION

_HELPFUL = "It does what is asked, is right, and says no more than is needed."
_URL = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"
_MOST_STEPS = 100
_ENVIRONMENT_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


class Prices(Block):
    """US dollars per million tokens, for the cost in the metrics. Execution only."""

    prompt: NonNegativeFloat = 0.0
    completion: NonNegativeFloat = 0.0


class Budget(Block):
    """The most that a stage may spend on a judge. Execution only: a stage that is over it stops.

    requests: sent, retries included. tokens: of prompts and completions. cost: in US dollars.
    """

    requests: PositiveInt | None = None
    tokens: PositiveInt | None = None
    cost: PositiveFloat | None = None


class EndpointBlock(Block):
    """A model behind an OpenAI-compatible server: vLLM, `transformers serve`, a hosted one.

    url: up to the version, `http://127.0.0.1:8000/v1`. model: the name that the server knows.
    key: name of the environment variable that holds the key; the key itself never stands in a
    recipe, and goes to this host only.
    at_once: requests under way at a time. timeout_s: for each attempt, until its last byte.
    retries: of a request that failed in a way that may pass.
    proxy: `http://host:port` to go through; those of the environment are not used.
    prices: for the cost in the metrics.
    """

    url: Annotated[str, Field(pattern=_URL)]
    model: Annotated[str, Field(min_length=1)]
    key: Annotated[str, Field(pattern=_ENVIRONMENT_VARIABLE), EXECUTION] | None = None
    at_once: Annotated[PositiveInt, Field(le=256), EXECUTION] = 8
    timeout_s: Annotated[PositiveFloat, EXECUTION] = 60.0
    retries: Annotated[int, Field(ge=0, le=20), EXECUTION] = 5
    proxy: Annotated[str, Field(pattern=_URL), EXECUTION] | None = None
    prices: Annotated[Prices, EXECUTION] = Prices()


class JudgeBlock(Block):
    """A model that says how good a response is, or which of two is better.

    model: `$stage`, a folder or a hub id, which answers in this process by the likelihood of its
    options. endpoint: a server that is asked instead. Exactly one of them.
    rubric: what makes a response good, in words that the judge reads.
    principles: a constitution: a list, or a YAML file with one. One is drawn for every response or
    pair, and stands in place of the rubric.
    scale: the lowest and the highest score, as whole numbers.
    reason: let it give its reasons before its answer; costs tokens.
    temperature: 0 is greedy. max_tokens: of an answer, its reasons included.
    budget: the most that may be spent on it.
    """

    model: ModelRef | None = None
    endpoint: EndpointBlock | None = None
    rubric: Annotated[str, Field(min_length=1)] = _HELPFUL
    principles: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], OR_ONE] = ()
    scale: tuple[int, int] = (1, 10)
    reason: bool = False
    temperature: NonNegativeFloat = 0.0
    max_tokens: PositiveInt = 256
    budget: Annotated[Budget, EXECUTION] = Budget()

    @model_validator(mode="after")
    def _makes_sense(self) -> JudgeBlock:
        if (self.model is None) == (self.endpoint is None):
            stated = "neither" if self.model is None else "both"
            raise ValueError(f"a judge is exactly one of `model` and `endpoint`; this has {stated}")
        low, high = self.scale
        if not low < high or high - low > _MOST_STEPS:
            raise ValueError(f"`scale` {list(self.scale)} is no range of at most 101 whole numbers")
        if self.reason and self.model is not None:
            raise ValueError(
                "a model in this process answers by the likelihood of its options, without "
                "reasons; leave `reason` out, or name an `endpoint`"
            )
        return self

    @property
    def label(self) -> str:
        """What it is called in metrics and samples."""
        name = self.model if self.endpoint is None else self.endpoint.model
        return (name or "").removeprefix("$").partition("@")[0].rstrip("/").rpartition("/")[2]
