"""Who judges, how it is asked, and what it may cost: the `judge:` block of a recipe.

Not the rewards that it may be a term of (reward_terms.py), and not the asking (reward/judges/).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.config.blocks import Block
from pipeline.config.field_types import FileName, ModelRef, Precision
from pipeline.config.licence import Licence
from pipeline.config.marks import ABSENT_BY_DEFAULT, EXECUTION

HELPFUL = "It does what is asked, is right, and says no more than is needed."
_URL = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")
_MOST_STEPS = 100
_ENVIRONMENT_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def address(value: str) -> str:
    """Refuse what may hold a key without repeating it, and what is no address of a server."""
    if "@" in value or "?" in value or "#" in value:
        raise ValueError(
            "the address holds more than host and path; a key never stands in a recipe: write "
            "`key: NAME` of the environment variable that holds it"
        )
    if _URL.fullmatch(value) is None:
        raise ValueError(f"`{value}` is no address; write `http://host:port/v1`")
    return value


def variable_name(value: str) -> str:
    """Refuse what is no name of an environment variable, as a key is none, without repeating it."""
    if _ENVIRONMENT_VARIABLE.fullmatch(value) is None:
        raise ValueError(
            "this is no name of an environment variable; write the name of the one that holds the "
            "key, never the key itself"
        )
    return value


Address = Annotated[str, AfterValidator(address)]


class Prices(Block):
    """What an endpoint costs, for the metrics. Execution only.

    prompt, completion: US dollars per million tokens.
    """

    prompt: NonNegativeFloat = 0.0
    completion: NonNegativeFloat = 0.0


class Budget(Block):
    """The most that a stage may spend on a judge, in all attempts at it. Execution only.

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

    url: Address
    model: Annotated[str, Field(min_length=1)]
    key: Annotated[str, AfterValidator(variable_name), EXECUTION] | None = None
    at_once: Annotated[PositiveInt, Field(le=256), EXECUTION] = 8
    timeout_s: Annotated[PositiveFloat, EXECUTION] = 60.0
    retries: Annotated[int, Field(ge=0, le=20), EXECUTION] = 5
    proxy: Annotated[Address, EXECUTION] | None = None
    prices: Annotated[Prices, EXECUTION] = Prices()


class PrinciplesFile(Block):
    """file: a YAML file that is a list of principles; its content is part of what is computed."""

    file: FileName


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _principles(value: Any) -> Any:
    """Read the name of a file as one."""
    return {"file": value} if isinstance(value, str) else _tuple(value)


_Principle = Annotated[str, Field(min_length=1)]
Principles = Annotated[
    tuple[_Principle, ...] | PrinciplesFile,
    BeforeValidator(
        _principles, json_schema_input_type=list[_Principle] | PrinciplesFile | FileName
    ),
]


class AskedBlock(Block):
    """A language model that is asked: in this process, or behind an endpoint; exactly one of both.

    model: `$stage`, a folder or a hub id. endpoint: a server that is asked instead.
    temperature: 0 is greedy. max_tokens: of an answer, its reasons included.
    budget: the most that may be spent on it.
    precision, batch_size: of a model in this process; the latter is memory and speed only.
    """

    model: ModelRef | None = None
    endpoint: EndpointBlock | None = None
    temperature: NonNegativeFloat = 0.0
    max_tokens: PositiveInt = 256
    budget: Annotated[Budget, EXECUTION] = Budget()
    precision: Precision = "fp32"
    batch_size: Annotated[PositiveInt, EXECUTION] = 32

    @model_validator(mode="after")
    def _one_of_two(self) -> AskedBlock:
        if (self.model is None) == (self.endpoint is None):
            stated = "neither" if self.model is None else "both"
            raise ValueError(f"it is exactly one of `model` and `endpoint`; this has {stated}")
        if self.endpoint is None and self.budget != Budget():
            raise ValueError("a model in this process costs nothing; leave `budget` out")
        if self.endpoint is not None and self.budget.cost is not None:
            prices = self.endpoint.prices
            if not (prices.prompt or prices.completion):
                raise ValueError("`budget` has a `cost`, and the endpoint no `prices`; write them")
        return self

    @property
    def label(self) -> str:
        """What it is called in metrics and samples."""
        name = self.model if self.endpoint is None else self.endpoint.model
        return (name or "").removeprefix("$").partition("@")[0].rstrip("/").rpartition("/")[2]


class JudgeBlock(AskedBlock):
    """A model that says how good a response is, or which of two is better.

    model: `$stage`, a folder or a hub id, which answers in this process by the likelihood of its
    options. endpoint: a server that is asked instead. Exactly one of them.
    temperature: 0 is greedy. max_tokens: of an answer, its reasons included.
    budget: the most that may be spent on it.
    precision, batch_size: of a model in this process; the latter is memory and speed only.
    rubric: what makes a response good, in words that the judge reads.
    principles: a constitution: a list, or a YAML file that is one (`constitution.yaml`). One is
    drawn for every response or pair, and stands in place of the rubric.
    scale: the lowest and the highest score, as whole numbers.
    reason: let it give its reasons before its answer; costs tokens.
    licence: the pairs that people labelled on which it is examined before it labels or rewards; by
    default those of the tasks among the prompts. `off` for no exam.
    """

    rubric: Annotated[str, Field(min_length=1)] = HELPFUL
    principles: Principles = ()
    scale: Annotated[
        tuple[int, int],
        BeforeValidator(
            _tuple, json_schema_input_type=Annotated[list[int], Field(min_length=2, max_length=2)]
        ),
    ] = (1, 10)
    reason: bool = False
    licence: Annotated[Licence | None, ABSENT_BY_DEFAULT] = None

    @model_validator(mode="after")
    def _makes_sense(self) -> JudgeBlock:
        low, high = self.scale
        if not low < high or high - low > _MOST_STEPS:
            raise ValueError(f"`scale` {list(self.scale)} is no range of at most 101 whole numbers")
        if self.reason and self.model is not None:
            raise ValueError(
                "a model in this process answers by the likelihood of its options, without "
                "reasons; leave `reason` out, or name an `endpoint`"
            )
        return self
