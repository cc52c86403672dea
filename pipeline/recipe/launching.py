"""How many processes share a stage's work, and what is wrong with a `launch` block, without torch.

Not how they are started (pipeline/run/ranks.py), nor what this machine has room for
(pipeline/plan/room.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pipeline.config.batch import split_batch
from pipeline.config.sharding import (
    Sharding,
    Split,
    fsdp_of,
    fsdp_problem,
    options_of_weights,
)
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
_FSDP = "FSDP"
_SHARDED = ("DEEPSPEED", "MEGATRON_LM")
_ADAM = ("adamw_torch", "adamw_torch_fused")  # of `optim`: whose moments can be split
_ALL_GPUS = "all"
_GPUS = re.compile(r"all|[0-9]{1,4}(, ?[0-9]{1,4})*")


@dataclass(frozen=True)
class Processes:
    """The processes that share one stage's work.

    environment: variables set for all of them. sharding: what is split, if anything is.
    """

    count: int = 1
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    sharding: Sharding | None = None


def processes_of(recipe: Recipe, config: StageConfig) -> Processes:
    """Return the processes of a stage: one, unless it trains under `accelerate`."""
    block = (config.launch or recipe.launch).in_its_job
    if block.launcher != "accelerate" or not stage_of(config.stage).is_distributed:
        return Processes()
    split = stage_of(config.stage).splits
    if block.config is None:
        sharding = None if block.fsdp is None else fsdp_of(block.fsdp, split)
        return Processes(block.processes or 1, sharding=sharding)
    return _of_file(recipe, block, ("launch",), split)


def check_launch_of(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError if a stage cannot be launched, or its batch split, as it says."""
    config, location = recipe.stages[name], ("stages", name, "launch")
    if config.launch is not None:
        check_launch(recipe, config.launch, location)
        is_alone = not stage_of(config.stage).is_distributed
        if config.launch.in_its_job.launcher == "accelerate" and is_alone:
            message = f"a stage of the kind {config.stage} runs in one process"
            hint = "leave `launch` out here; at the top of the recipe it is for what trains"
            raise recipe.error(location, message, hint)
    if isinstance(config, TrainingStage):
        _check_split(recipe, name, config)
    _check_sharding(recipe, name, config)


def check_launch(recipe: Recipe, block: LaunchBlock, location: Location) -> None:
    """Raise PosttrainError for an Accelerate config or options of FSDP that cannot be used."""
    problem = fsdp_problem(block.fsdp or {})
    if problem is not None:
        key, message, hint = problem
        raise recipe.error((*location, "fsdp", key), message, hint)
    if block.fsdp is not None and block.processes == 1:
        message = "weights are split over processes, and there is one"
        raise recipe.error((*location, "processes"), message, "write two or more")
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


def _check_sharding(recipe: Recipe, name: str, config: StageConfig) -> None:
    """Refuse to split over processes what a stage cannot split."""
    if processes_of(recipe, config).sharding is None:
        return
    splits = stage_of(config.stage).splits
    place: Location = ("launch",) if config.launch is None else ("stages", name, "launch")
    if splits is None:
        message = f"`{name}` is a stage of the kind {config.stage}, which cannot split a model"
        hint = "write a `launch` without `fsdp` on this stage; adapters take less memory too"
        raise recipe.error(place, message, hint)
    own = (config.launch.fsdp if config.launch else None) or {}
    vain = options_of_weights(own) if splits == "moments" else []
    if vain:
        message = f"a stage of the kind {config.stage} splits Adam's moments alone"
        raise recipe.error((*place, "fsdp", vain[0]), message, f"leave `{vain[0]}` out")
    arguments = config.training_args if isinstance(config, TrainingStage) else {}
    optim = arguments.get("optim", _ADAM[0])
    if splits == "moments" and optim not in _ADAM:
        message = f"`fsdp` splits Adam's moments, and `optim` is {optim}"
        hint = f"write `optim: {_ADAM[0]}`, or `launch` without `fsdp`"
        raise recipe.error(("stages", name, "training_args", "optim"), message, hint)


def _of_file(
    recipe: Recipe, block: LaunchBlock, location: Location, split: Split | None = None
) -> Processes:
    """Read an Accelerate config: how many processes, which GPUs they see, what is split.

    split: what the stage can split.
    """
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
    options: Any = block.fsdp
    if settings.get("distributed_type") == _FSDP:
        if options is not None:
            message = f"`fsdp` is here, and `fsdp_config` in {path.name}"
            raise recipe.error((*location, "fsdp"), message, "say it in one place")
        options = settings["fsdp_config"]
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
    number = count or block.processes or 1
    if options is None:
        return Processes(number, environment)
    if number == 1:
        message = "weights are split over processes, and there is one"
        raise recipe.error((*location, "processes"), message, "write two or more")
    return Processes(number, environment, fsdp_of(options, split))


def _problem(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with an Accelerate config, or None."""
    kind = settings.get("distributed_type", "NO")
    environment = settings.get("compute_environment", "LOCAL_MACHINE")
    machines, count = settings.get("num_machines", 1), settings.get("num_processes", 1)
    if kind in _SHARDED:
        message = f"`distributed_type` {kind} splits the weights, which no stage can save yet"
        return message, "use `FSDP` or `MULTI_GPU`, or `launch: {with: accelerate, processes: N}`"
    if kind not in (*_TOGETHER, _FSDP):
        return f"`distributed_type` is {quote(kind)}, not {' or '.join((*_TOGETHER, _FSDP))}", ""
    if kind == _FSDP:
        problem = _problem_of_options(settings.get("fsdp_config"))
        if problem is not None:
            return problem
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


def _problem_of_options(options: Any) -> tuple[str, str] | None:
    """Return what is wrong with an `fsdp_config`, or None."""
    if not isinstance(options, dict):
        return "`fsdp_config` is missing", "write `fsdp_config: {fsdp_version: 2}`"
    if "fsdp_version" not in options:  # Accelerate would take the first
        return "`fsdp_config` does not say `fsdp_version`", "write `fsdp_version: 2`"
    problem = fsdp_problem(cast("dict[str, Any]", options))
    return None if problem is None else problem[1:]
