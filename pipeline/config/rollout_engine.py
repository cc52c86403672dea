"""What writes responses: `rollout:` of stages that learn from them, `answers:` of measuring ones.

Not how they are sampled (temperature and lengths are `training_args`), and not the engines
themselves (pipeline/rl/engines.py, pipeline/vllm/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from pipeline.config.blocks import Block
from pipeline.config.field_types import OPTION_NAME
from pipeline.config.judge import Address, variable_name
from pipeline.config.marks import EXECUTION

if TYPE_CHECKING:
    from collections.abc import Mapping

Sends = Literal["adapter", "weights"]
Value = str | int | float | bool

# Options of vLLM's server that decide what is sampled, or how it is reached: ours to say.
_OURS = {
    **dict.fromkeys(("model", "tokenizer", "served-model-name"), "it serves the policy"),
    **dict.fromkeys(("host", "port", "uds", "root-path"), "it listens where only posttrain asks"),
    "dtype": "it is the stage's `precision`",
    **dict.fromkeys(
        ("enable-lora", "max-lora-rank", "max-loras", "max-cpu-loras", "lora-modules"),
        "it follows from `lora`",
    ),
    **dict.fromkeys(
        ("logprobs-mode", "max-logprobs", "generation-config", "seed"),
        "what is sampled must be what is scored",
    ),
    "quantization": "log-probabilities would not be those that are trained",
    "api-key": "a key never stands in a recipe; the server hears this machine only",
}
_OF_A_START = ("python", "server_args", "start_timeout_s")
_ServerArgs = dict[Annotated[str, Field(pattern=OPTION_NAME)], Value]


def _check_server_args(options: Mapping[str, Value]) -> None:
    for option in options:
        if option in _OURS:
            raise ValueError(f"`{option}` cannot be set in `server_args`: {_OURS[option]}")


class AnswersBlock(Block):
    """What writes the answers of a stage that measures.

    engine: `own` (a loop over the model's forward passes) or `vllm`: a vLLM server that posttrain
    starts on the model. Likelihoods are our own in any case: of texts, of choices, of the harness.
    python: of the environment that vLLM is installed in (`vllm/bin/python`); by default the one
    that posttrain runs in.
    server_args: options of vLLM's server by their long names, as in
    `{gpu-memory-utilization: 0.4}`; `true` for one without a value.
    at_once: requests under way at a time. timeout_s: for each. start_timeout_s: until the server
    answers.
    """

    engine: Literal["own", "vllm"] = "own"
    python: Annotated[str, Field(min_length=1), EXECUTION] | None = None
    server_args: Annotated[_ServerArgs, EXECUTION] = {}  # noqa: RUF012  pydantic copies it
    at_once: Annotated[PositiveInt, Field(le=1024), EXECUTION] = 64
    timeout_s: Annotated[PositiveFloat, EXECUTION] = 600.0
    start_timeout_s: Annotated[PositiveFloat, EXECUTION] = 900.0

    @model_validator(mode="after")
    def _fits_together(self) -> AnswersBlock:
        _refuse_without_vllm(self)
        _check_server_args(self.server_args)
        return self


class RolloutBlock(Block):
    """What samples the responses, and where.

    engine: `own` (a loop over the model's forward passes), `generate` (transformers') or `vllm`: a
    vLLM server that is sent the policy before each rollout. With vLLM responses of the same seed
    may differ from run to run.
    url: of a vLLM server that runs and serves the policy as it comes in, `http://host:8000`;
    without it posttrain starts one.
    key: name of the environment variable that holds the server's key; the key itself never stands
    in a recipe.
    folder: what is sent is written here, and the server of `url` reads it: a folder that both see
    under the same path. By default the stage's own.
    python: of the environment that vLLM is installed in (`vllm/bin/python`), for a server that
    posttrain starts; by default the one that posttrain runs in.
    server_args: options of vLLM's server by their long names, as in
    `{gpu-memory-utilization: 0.4}`; `true` for one without a value.
    sends: the `adapter` of `lora` alone, or all `weights`; by default the adapter where vLLM can
    take it. A server of `url` takes weights only if it is in its development mode.
    at_once: requests under way at a time. timeout_s: for each. start_timeout_s: until a server that
    was started answers.
    max_gap: between a token's log-probability in vLLM and in the trainer; above it a warning is
    said. By default 0.01 in fp32 and 0.5 in bf16, whose rounding alone makes 0.2.
    """

    engine: Literal["own", "generate", "vllm"] = "own"
    url: Annotated[Address, EXECUTION] | None = None
    key: Annotated[str, AfterValidator(variable_name), EXECUTION] | None = None
    folder: Annotated[str, Field(min_length=1), EXECUTION] | None = None
    python: Annotated[str, Field(min_length=1), EXECUTION] | None = None
    server_args: Annotated[dict[Annotated[str, Field(pattern=OPTION_NAME)], Value], EXECUTION] = {}  # noqa: RUF012  pydantic copies it
    sends: Annotated[Sends, EXECUTION] | None = None
    at_once: Annotated[PositiveInt, Field(le=1024), EXECUTION] = 64
    timeout_s: Annotated[PositiveFloat, EXECUTION] = 600.0
    start_timeout_s: Annotated[PositiveFloat, EXECUTION] = 900.0
    max_gap: Annotated[PositiveFloat, EXECUTION] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> RolloutBlock:
        _refuse_without_vllm(self)
        of_start = [name for name in _OF_A_START if name in _stated(self)]
        if self.url is not None and of_start:
            raise ValueError(
                f"`{of_start[0]}` is for a server that posttrain starts, and `url` is of one that "
                "runs; leave one of them out"
            )
        if self.url is None and (self.key is not None or self.folder is not None):
            name = "key" if self.key is not None else "folder"
            raise ValueError(f"`{name}` is for a server that runs; write its `url`")
        _check_server_args(self.server_args)
        return self

    def options(self) -> dict[str, Any]:
        """Return what is said beside the engine, by its keys."""
        return {name: getattr(self, name) for name in _stated(self)}

    def gap_bound(self, *, is_bf16: bool) -> float:
        """Return the gap of log-probabilities above which a warning is said."""
        return self.max_gap or (0.5 if is_bf16 else 0.01)


def rollout_block(options: Mapping[str, Any] | None) -> RolloutBlock:
    """Return the block of vLLM with these options; ValueError, in one line, for bad ones."""
    try:
        return RolloutBlock(engine="vllm", **(options or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "vllm_options"
        raise ValueError(f"`{key}`: {first['msg'].removeprefix('Value error, ')}") from error


def _refuse_without_vllm(block: AnswersBlock | RolloutBlock) -> None:
    stated = _stated(block)
    if block.engine != "vllm" and stated:
        raise ValueError(f"`{stated[0]}` is for `engine: vllm`; write that, or leave it out")


def _stated(block: AnswersBlock | RolloutBlock) -> list[str]:
    """Return the keys beside `engine` that are not at their defaults: a worker reads all as set."""
    fields = type(block).model_fields
    return [
        name
        for name, field in fields.items()
        if name != "engine" and getattr(block, name) != field.default
    ]
