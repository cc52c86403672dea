"""Numbers in a recipe that this machine has no room for: refused before anything runs.

Bytes, the least that a stage keeps in memory because of a number, against all the memory there is;
processes against cores and GPUs. What a stage really takes is more (estimate.py); here is what
cannot be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.measuring_stage import MeasuringStage
from pipeline.config.new_model import NewModelBlock
from pipeline.config.stage_config import TRAINED_ON, StageConfig
from pipeline.config.trainer_fields import architecture_fields
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import PosttrainError
from pipeline.machine import (
    is_part,
    may_have_gpu,
    memory_bytes,
    num_cores,
    num_gpus,
    visible_gpus,
)
from pipeline.plan.sizes import EXPERTS, begins_with, lora_parameters, shape_of, vocab_size
from pipeline.recipe.launching import processes_of
from pipeline.recipe.slurm import is_on_slurm
from pipeline.stages import stage_of
from pipeline.stages.pretrain import PretrainConfig
from pipeline.stages.rl.config import RolloutStage
from pipeline.stages.tokenizer import TokenizerConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.config.blocks import DataBlock
    from pipeline.plan.plan import Plan
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

_FLOAT_BYTES = 4  # what is trained is fp32
_ADAM_FLOATS = 3  # the gradient and two moments of each trained parameter
# Measured.
_LAYER_BYTES = 35_000  # the modules of a layer of a llama, without weights
_TOKEN_BYTES = 16  # a token as it was read, and as id, label and position in a row
_ENTRY_BYTES = 64  # of a vocabulary, in the tables that training begins with
_ROW_BYTES = 400  # a row with its texts, in Python
_RESULT_BYTES = 300  # a result of an evaluation, without its texts
_RESPONSE_BYTES = 16  # per response token in a rollout: its id, mask and log-probabilities
# Two processes on one core are slow but right, as a test of several; thousands are a slip.
_PROCESSES_PER_CORE = 4
_WORKERS = ("dataloader_num_workers", "dataset_num_proc")


@dataclass(frozen=True)
class _Need:
    """place: of the number, in its stage. size_bytes: what `what` takes at least."""

    place: Location
    what: str
    size_bytes: int


def check_room(plan: Plan, names: Iterable[str] | None = None) -> None:
    """Raise PosttrainError at the first number that this machine cannot hold.

    names: stages to look at; without it all that are not there already.
    """
    limit = memory_bytes()
    pending = [planned.name for planned in plan.stages if planned.status != "cached"]
    for name in pending if names is None else names:
        config = plan.recipe.stages[name]
        for need in _needs(plan, config):
            if need.size_bytes > limit:
                message = f"{need.what} take at least {_size(need.size_bytes)} of memory"
                hint = f"this machine has {_size(limit)}: write a smaller number"
                raise plan.recipe.error(("stages", name, *need.place), message, hint)
        _check_workers(plan, name, config)


def check_processes(recipe: Recipe, names: Iterable[str] | None = None) -> None:
    """Raise PosttrainError if a stage asks for more processes than this machine has room for."""
    for name in recipe.stages if names is None else names:
        config = recipe.stages[name]
        processes = processes_of(recipe, config)
        seen = visible_gpus({**os.environ, **processes.environment})
        cores, gpus = num_cores(), len(seen)
        at = ("stages", name, "launch") if config.launch is not None else ("launch",)
        asks = f"`{name}` asks for {processes.count} processes"
        if processes.count > 1 and any(map(is_part, seen)):
            hint = "name whole GPUs in CUDA_VISIBLE_DEVICES, or leave `launch` out"
            raise recipe.error(at, f"{asks}, and a part of a GPU (MIG) is for one", hint)
        limit = gpus or _PROCESSES_PER_CORE * cores
        if processes.count <= limit:
            continue
        has = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else f"no GPU and {cores} cores"
        raise recipe.error(
            at, f"{asks}, and this machine has {has}", f"write `processes: {gpus or cores}` or less"
        )


def check_jobs(recipe: Recipe, asked: int | None = None) -> None:
    """Raise PosttrainError if more stages are to run side by side than this machine has room for.

    asked: on the command line; by default the recipe says it.
    """
    jobs = recipe.jobs if asked is None else asked
    if is_on_slurm(recipe) and jobs > 1:
        message = "is for one machine; how many jobs run at once is Slurm's to say"
        raise PosttrainError("-j", message, "leave it out")
    gpus, cores = num_gpus(os.environ), num_cores()
    if jobs <= max(gpus, _PROCESSES_PER_CORE * cores):
        return
    message = f"{jobs} stages are to run side by side, and this machine has {cores} cores"
    hint = f"write {max(gpus, cores)} or less"
    if asked is not None:
        raise PosttrainError("-j", message, hint)
    raise recipe.error(("jobs",), message, hint)


def _needs(plan: Plan, config: StageConfig) -> Iterator[_Need]:
    if isinstance(config, TokenizerConfig):
        what = f"the tables of {config.vocab_size:,} tokens"
        yield _Need(("vocab_size",), what, config.vocab_size * _ENTRY_BYTES)
    if isinstance(config, PretrainConfig):
        yield from _of_a_new_model(plan, config)
        yield _Need(("tokens",), f"{config.tokens:,} tokens", config.tokens * _TOKEN_BYTES)
    if isinstance(config, TrainingStage):
        what = f"the rows of a step, {config.batch_size:,} of them,"
        yield _Need(("batch_size",), what, config.batch_size * _ROW_BYTES)
    if isinstance(config, TrainingStage) and config.lora is not None:
        shape = begins_with(plan, config).shape
        adapter = lora_parameters(shape, config.lora) if shape else None
        count = adapter or 2 * config.lora.r  # of a layer with one input and one output
        what = f"adapters of rank {config.lora.r:,}"
        yield _Need(("lora", "r"), what, count * _FLOAT_BYTES * (1 + _ADAM_FLOATS))
    if isinstance(config, RolloutStage):
        yield from _of_a_rollout(config)
    if isinstance(config, MeasuringStage):
        for key in ("samples", "limit"):
            count = getattr(config, key) if config.tasks else 0
            yield _Need((key,), f"{count:,} results", count * _RESULT_BYTES)
    if stage_of(config.stage).data_forms != ("text",):
        yield from _of_generated_rows(config)


def _of_a_new_model(plan: Plan, config: PretrainConfig) -> Iterator[_Need]:
    """Yield what a model with random weights takes, which is made in memory whatever trains it."""
    if not isinstance(config.model, NewModelBlock):
        return
    fields = config.model.fields()
    dense = {key: value for key, value in fields.items() if key not in EXPERTS}
    shape = shape_of(dense, vocab_size(plan, config.model.tokenizer))
    if shape is None:
        return
    experts = max(
        (value for key in EXPERTS if isinstance(value := fields.get(key), int)), default=0
    )
    count = shape.parameters() + experts * shape.num_layers * shape.width  # a router's weights
    positions = config.model.positions
    if positions is not None and "rope_parameters" not in architecture_fields(
        config.model.architecture
    ):
        count += positions * shape.width  # they are learned
    floats = 1 if may_have_gpu() else 1 + _ADAM_FLOATS
    size_bytes = count * _FLOAT_BYTES * floats + shape.num_layers * _LAYER_BYTES
    what = f"{shape.num_layers:,} layers with {count:,} weights"
    yield _Need(("model",), what, size_bytes)


def _of_a_rollout(config: RolloutStage) -> Iterator[_Need]:
    arguments = {**stage_of(config.stage).defaults(config), **config.training_args}
    schedule = config.schedule(arguments)
    responses = schedule.responses
    tokens = responses * arguments["max_completion_length"]
    what = f"{responses:,} responses of {arguments['max_completion_length']:,} tokens"
    named = [key for key in (schedule.keys[1], "max_completion_length") if arguments.get(key)]
    largest = max(named, key=lambda key: arguments[key])
    is_batch = config.batch_size >= arguments[largest]
    place: Location = ("batch_size",) if is_batch else ("training_args", largest)
    yield _Need(place, what, tokens * _RESPONSE_BYTES)


def _of_generated_rows(config: StageConfig) -> Iterator[_Need]:
    """Yield the memory for the rows that a task generates, as many as the recipe says."""
    for field in TRAINED_ON:
        blocks: tuple[DataBlock, ...] = getattr(config, field, ())
        for number, block in enumerate(blocks):
            if block.task is not None and block.rows is not None:
                what = f"{block.rows:,} rows"
                yield _Need((field, number, "rows"), what, block.rows * _ROW_BYTES)


def _check_workers(plan: Plan, name: str, config: StageConfig) -> None:
    """Refuse more worker processes than `launch` would be given."""
    arguments = getattr(config, "training_args", {})
    limit = _PROCESSES_PER_CORE * num_cores()
    for key in _WORKERS:
        if (arguments.get(key) or 0) > limit:
            message = f"`{key}` asks for {arguments[key]:,} processes"
            hint = f"this machine has {num_cores()} cores: write at most {limit}"
            raise plan.recipe.error(("stages", name, "training_args", key), message, hint)


def _size(size_bytes: int) -> str:
    """Return bytes with the unit that fits, `4.1 PB` say."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.3g} EB"
