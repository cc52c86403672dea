"""How many processes share a stage's work, and what is wrong with a `launch` block, without torch.

Not how they are started (pipeline/run/ranks.py), nor what this machine has room for
(pipeline/plan/room.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pipeline.config.batch import split_batch
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import PosttrainError
from pipeline.files.plain_files import other_than_a_file
from pipeline.recipe.yaml.document import read_plain
from pipeline.stages import stage_of
from pipeline.text.values import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config.blocks import LaunchBlock
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

_TOGETHER = ("NO", "MULTI_CPU", "MULTI_GPU")  # every process has the whole model
_SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
_ALL_GPUS = "all"
_GPUS = re.compile(r"all|[0-9]{1,4}(, ?[0-9]{1,4})*")


@dataclass(frozen=True)
class Processes:
    """The processes that share one stage's work. environment: variables set for all of them."""

    count: int = 1
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def processes_of(recipe: Recipe, config: StageConfig) -> Processes:
    """Return the processes of a stage: one, unless it trains under `accelerate`."""
    block = config.launch or recipe.launch
    if block.launcher != "accelerate" or not stage_of(config.stage).is_distributed:
        return Processes()
    if block.config is None:
        return Processes(block.processes or 1)
    return _of_file(recipe, block, ("launch",))


def check_launch_of(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError if a stage cannot be launched, or its batch split, as it says."""
    config, location = recipe.stages[name], ("stages", name, "launch")
    if config.launch is not None:
        check_launch(recipe, config.launch, location)
        is_alone = not stage_of(config.stage).is_distributed
        if config.launch.launcher == "accelerate" and is_alone:
            message = f"a stage of the kind {config.stage} runs in one process"
            hint = "leave `launch` out here; at the top of the recipe it is for what trains"
            raise recipe.error(location, message, hint)
    if isinstance(config, TrainingStage):
        _check_split(recipe, name, config)


def check_launch(recipe: Recipe, block: LaunchBlock, location: Location) -> None:
    """Raise PosttrainError for an Accelerate config that is missing or cannot be used."""
    if block.config is not None:
        _of_file(recipe, block, location)


def _check_split(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Refuse a batch that does not divide evenly over processes and forward passes."""
    wanted_size = config.training_args.get("per_device_train_batch_size")
    per_device = wanted_size if isinstance(wanted_size, int) and wanted_size > 0 else None
    try:
        split_batch(
            config.batch_size,
            per_device=per_device,
            world_size=processes_of(recipe, config).count,
        )
    except ValueError as error:
        hint = "change one of these"
        raise recipe.error(("stages", name, "batch_size"), str(error), hint) from error


def _of_file(recipe: Recipe, block: LaunchBlock, location: Location) -> Processes:
    """Read an Accelerate config: how many processes, and which GPUs they see."""
    assert block.config is not None
    place: Location = (*location, "config")
    try:
        path = recipe.places.file(block.config)
    except ValueError as error:
        raise recipe.error(place, str(error)) from error
    if not path.is_file():
        hint = f"looked for {path}; `accelerate config` writes one"
        raise recipe.error(place, f"there is no file `{block.config}`", hint)
    settings = None if other_than_a_file(path) else read_plain(path)
    if not isinstance(settings, dict):
        hint = "`accelerate config` writes one"
        raise recipe.error(place, f"`{block.config}` is no config of Accelerate", hint)
    settings = cast("dict[str, Any]", settings)
    problem = _problem(settings)
    if problem is not None:
        raise PosttrainError(str(path), *problem)
    count = settings.get("num_processes")
    if block.processes is not None and count not in (None, block.processes):
        message = f"`processes` is {block.processes}, in {path.name} it is {quote(count)}"
        raise recipe.error((*location, "processes"), message, "say it in one place")
    if count is None and block.processes is None:
        hint = "write `processes:` beside it"
        raise recipe.error(place, f"{path.name} does not say `num_processes`", hint)
    gpus = str(settings.get("gpu_ids") or _ALL_GPUS)
    environment = {} if gpus == _ALL_GPUS else {"CUDA_VISIBLE_DEVICES": gpus}
    if settings.get("use_cpu") is True or settings.get("distributed_type") == "MULTI_CPU":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return Processes(count or block.processes or 1, environment)


def _problem(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with an Accelerate config, or None."""
    kind = settings.get("distributed_type", "NO")
    environment = settings.get("compute_environment", "LOCAL_MACHINE")
    machines, count = settings.get("num_machines", 1), settings.get("num_processes", 1)
    if kind in _SHARDED:
        message = f"`distributed_type` {kind} splits the weights, which no stage can save yet"
        return message, "use `MULTI_GPU`, or `launch: {with: accelerate, processes: N}`"
    if kind not in _TOGETHER:
        return f"`distributed_type` is {quote(kind)}, not {' or '.join(_TOGETHER)}", ""
    if environment != "LOCAL_MACHINE" or machines != 1:
        what = "num_machines" if environment == "LOCAL_MACHINE" else "compute_environment"
        message = f"`{what}` is {quote(settings[what])}: a stage runs on one machine"
        return message, "leave it out, or write LOCAL_MACHINE and 1"
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return f"`num_processes` is {quote(count)}", "write a whole number above 0"
    if not _GPUS.fullmatch(str(settings.get("gpu_ids") or _ALL_GPUS)):
        return f"`gpu_ids` is {quote(settings['gpu_ids'])}", "write all, or numbers as in 0,1"
    if settings.get("mixed_precision", "no") not in ("no", None):
        message = f"`mixed_precision` is {quote(settings['mixed_precision'])}"
        return message, "write `precision:` on the stage, as it changes the numbers"
    if settings.get("dynamo_config"):
        return "`dynamo_config` cannot be set here", "write `torch_compile` in `training_args`"
    return None
