"""What can be known to be wrong with a `rollout:` block beside the rest of its stage.

Most of it is about vLLM: what it does not sample, and what no server could be started with.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipeline.config.rollout_engine import AnswersBlock
from pipeline.recipe.launching import processes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.config.rollout_engine import RolloutBlock
    from pipeline.errors import PosttrainError
    from pipeline.recipe.recipe import Recipe
    from pipeline.stages.rl.config import RolloutStage

    Problem = tuple[tuple[str | int, ...], str, str]

_KINDS = ("ppo", "grpo", "rloo")
_OWN = "write `engine: own`, or leave it out"


def check_rollout_engine(
    recipe: Recipe, config: RolloutStage, error: Callable[..., PosttrainError]
) -> None:
    """Raise PosttrainError, with its place, where vLLM could not sample for a stage.

    error: makes one of a place in the stage, a message and a hint.
    """
    if config.rollout.engine != "vllm":
        return
    for place, message, hint in _problems(recipe, config):
        raise error(place, message, hint)


def _problems(recipe: Recipe, config: RolloutStage) -> Iterator[Problem]:
    engine = ("rollout", "engine")
    if config.stage not in _KINDS:
        yield engine, f"a `{config.stage}` stage does not sample with vLLM", _OWN
    if config.tools:
        yield ("tools",), "tools are not called with `engine: vllm`", f"{_OWN} of `rollout`"
    processes = processes_of(recipe, config).count
    if processes > 1:
        message = f"with `engine: vllm` a stage has one process, and `launch` says {processes}"
        yield engine, message, "leave `processes` out; the server may use more devices"
    arguments = config.training_args
    if arguments.get("reuse_rollout_logprobs"):
        message = "vLLM's log-probabilities are not the policy's own, and no gap would be seen"
        yield ("training_args", "reuse_rollout_logprobs"), message, "leave it out"
    corrects = arguments.get("vllm_importance_sampling_correction", True)
    if arguments.get("loss_type") == "vespo" and corrects:
        message = "`loss_type` vespo has a weight of its own for whole responses"
        hint = "write `vllm_importance_sampling_correction: false`"
        yield ("training_args", "loss_type"), message, hint
    yield from _problems_of_sending(config)
    if config.rollout.url is None:
        yield from _problems_of_starting(recipe, config.rollout)


def _problems_of_sending(config: RolloutStage) -> Iterator[Problem]:
    """Yield what is wrong with how the policy would be sent."""
    sends, place = config.rollout.sends, ("rollout", "sends")
    if config.lora is None:
        if sends == "adapter":
            message = "there is no adapter to send, since all weights are trained"
            yield place, message, "write `lora: {r: 16}` on the stage, or leave it out"
        return
    fields: dict[str, Any] = config.lora.fields()
    if config.lora.load_in_4bit:
        message = "4-bit weights have other log-probabilities than those that vLLM would serve"
        yield ("lora", "load_in_4bit"), message, "leave it out, or `engine: own`"
    whole = [key for key in ("modules_to_save", "trainable_token_indices") if fields.get(key)]
    if whole:
        message = f"`{whole[0]}` trains weights as a whole, which vLLM cannot be sent"
        yield ("lora", whole[0]), message, "leave it out, or `engine: own`"
    if sends == "adapter" and fields.get("use_dora"):
        yield place, "vLLM takes no DoRA as an adapter", "leave `sends` out: weights are merged"


def check_answers_engine(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError, with its place, where no server could answer for a measuring stage."""
    block = getattr(recipe.stages[name], "answers", None)
    if isinstance(block, AnswersBlock) and block.engine == "vllm":
        for place, message, hint in _problems_of_starting(recipe, block, "answers"):
            raise recipe.error(("stages", name, *place), message, hint)


def _problems_of_starting(
    recipe: Recipe, block: RolloutBlock | AnswersBlock, key: str = "rollout"
) -> Iterator[Problem]:
    """Yield what keeps a server from being started. key: of the block."""
    if block.python is None:
        if find_spec("vllm") is None:
            hint = "write `python:` of the environment that has it"
            hint += ", or the `url:` of a server" if key == "rollout" else ""
            yield (key, "engine"), "vLLM is not installed beside posttrain", hint
        return
    place = (key, "python")
    try:
        path = recipe.places.file(block.python)
    except ValueError as error:
        yield place, str(error), ""
        return
    if not path.is_file() or not os.access(path, os.X_OK):
        message = f"`{block.python}` is no program"
        yield place, message, "name the Python of the environment that has vLLM"
