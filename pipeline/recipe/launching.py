"""How many processes share a stage's work, and what is wrong with a `launch` block, without torch.

Not how they are started (pipeline/run/ranks.py), nor what this machine has room for
(pipeline/plan/room.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from pipeline.config.batch import split_batch
from pipeline.config.deepspeed import ZERO, deepspeed_of, deepspeed_problem
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
    from pathlib import Path

    from pipeline.config.blocks import LaunchBlock
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

_TOGETHER = ("NO", "MULTI_CPU", "MULTI_GPU")  # every process has the whole model
_FSDP, _DEEPSPEED = "FSDP", "DEEPSPEED"
_DEEPSPEED_KEYS = ("deepspeed_config_file", "zero_stage")  # of Accelerate's `deepspeed_config`
# Of the same, what `accelerate config` asks for and the recipe decides, or saves in its own way.
_OF_THE_RECIPE = ("deepspeed_multinode_launcher", "zero3_save_16bit_model")
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
        return Processes(block.processes or 1, sharding=_split_by(recipe, block, split))
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
    if block.deepspeed is not None:
        _read_deepspeed(recipe, block.deepspeed, (*location, "deepspeed"))
    is_split = block.fsdp is not None or block.deepspeed is not None
    if is_split and block.processes == 1:
        message = "weights are split over processes, and there is one"
        raise recipe.error((*location, "processes"), message, "write two or more")
    if block.config is not None:
        _of_file(recipe, block, location)


def _split_by(recipe: Recipe, block: LaunchBlock, split: Split | None) -> Sharding | None:
    """Return what a block splits, None for nothing. split: what the stage can split."""
    if block.deepspeed is not None:
        place = ("launch", "deepspeed")
        return deepspeed_of(_read_deepspeed(recipe, block.deepspeed, place))
    return None if block.fsdp is None else fsdp_of(block.fsdp, split)


def _read_deepspeed(
    recipe: Recipe, given: Mapping[str, Any] | str, place: Location
) -> Mapping[str, Any]:
    """Return a DeepSpeed config, of a file if one is named; raises PosttrainError for a bad one."""
    if not isinstance(given, str):
        problem = deepspeed_problem(given)
        if problem is not None:
            where, *said = problem
            raise recipe.error((*place, *where), *said)
        return given
    path, settings = _read_config(recipe, given, place, "DeepSpeed reads its config from one")
    problem = deepspeed_problem(settings)
    if problem is not None:
        raise PosttrainError(str(path), *problem[1:])
    return cast("dict[str, Any]", settings)


def _read_config(recipe: Recipe, name: str, place: Location, hint: str) -> tuple[Path, Any]:
    """Return the path of a config that a recipe names, and what is in it."""
    try:
        path = recipe.places.file(name)
    except ValueError as error:
        raise recipe.error(place, str(error)) from error
    if not path.is_file():
        message = f"there is no file `{name}`"
        raise recipe.error(place, message, f"looked for {path}; {hint}")
    return path, None if other_than_a_file(path) else read_plain(path)


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
    sharding = processes_of(recipe, config).sharding
    if sharding is None:
        return
    splits = stage_of(config.stage).splits
    place: Location = ("launch",) if config.launch is None else ("stages", name, "launch")
    engine = sharding.engine
    if splits is None:
        message = f"`{name}` is a stage of the kind {config.stage}, which cannot split a model"
        hint = f"write a `launch` without `{engine}` on this stage; adapters take less memory too"
        raise recipe.error(place, message, hint)
    if engine == "deepspeed":
        if splits == "moments":
            message = f"a stage of the kind {config.stage} splits Adam's moments by itself"
            raise recipe.error(place, message, "write `fsdp: {}` on this stage for `deepspeed`")
        if find_spec("deepspeed") is None:
            hint = "`pip install 'posttrain[deepspeed]'`, or split weights by `fsdp: {}`"
            raise recipe.error(place, "`launch` needs DeepSpeed, which is not installed", hint)
        lora = config.lora if isinstance(config, TrainingStage) else None
        if sharding.split == "weights" and lora is not None and lora.load_in_4bit:
            message = "`load_in_4bit` packs weights, which stage 3 of ZeRO cannot split"
            hint = f"write `{ZERO}: {{stage: 2}}`, which leaves them whole"
            raise recipe.error(("stages", name, "lora", "load_in_4bit"), message, hint)
        return
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
    path, settings = _read_config(recipe, block.config, place, "`accelerate config` writes one")
    if not isinstance(settings, dict):
        hint = "`accelerate config` writes one"
        raise recipe.error(place, f"`{block.config}` is no config of Accelerate", hint)
    settings = cast("dict[str, Any]", settings)
    problem = _problem(settings)
    if problem is not None:
        raise PosttrainError(str(path), *problem)
    sharding = _split_by(recipe, block, split)
    kind = settings.get("distributed_type")
    if kind in (_FSDP, _DEEPSPEED):
        if sharding is not None:
            message = f"`{sharding.engine}` is here, and `distributed_type` {kind} in {path.name}"
            raise recipe.error((*location, sharding.engine), message, "say it in one place")
        if kind == _FSDP:
            sharding = fsdp_of(settings["fsdp_config"], split)
        else:
            sharding = deepspeed_of(_deepspeed_of_accelerate(recipe, settings, place))
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
    if sharding is not None and number == 1:
        message = "weights are split over processes, and there is one"
        raise recipe.error((*location, "processes"), message, "write two or more")
    return Processes(number, environment, sharding)


def _deepspeed_of_accelerate(
    recipe: Recipe, settings: Mapping[str, Any], place: Location
) -> Mapping[str, Any]:
    """Return the DeepSpeed config that an Accelerate config names, or means by `zero_stage`."""
    options: Any = settings["deepspeed_config"]
    file = options.get("deepspeed_config_file")
    given: Any = file or {ZERO: {"stage": options["zero_stage"]}}
    return _read_deepspeed(recipe, given, place)


def _problem(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with an Accelerate config, or None."""
    kind = settings.get("distributed_type", "NO")
    environment = settings.get("compute_environment", "LOCAL_MACHINE")
    machines, count = settings.get("num_machines", 1), settings.get("num_processes", 1)
    known = (*_TOGETHER, _FSDP, _DEEPSPEED)
    if kind not in known:
        return f"`distributed_type` is {quote(kind)}, not {' or '.join(known)}", ""
    problem = None
    if kind == _FSDP:
        problem = _problem_of_options(settings.get("fsdp_config"))
    elif kind == _DEEPSPEED:
        problem = _problem_of_deepspeed(settings.get("deepspeed_config"))
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


def _problem_of_deepspeed(options: Any) -> tuple[str, str] | None:
    """Return what is wrong with Accelerate's `deepspeed_config`, or None.

    Accelerate has names of its own for some of DeepSpeed's options; the stage of ZeRO is read of
    these, and what else is wanted from DeepSpeed's own file.
    """
    hint = "write `deepspeed_config: {deepspeed_config_file: ds.json}`"
    if not isinstance(options, dict):
        return "`deepspeed_config` is missing", hint
    named = [key for key in _DEEPSPEED_KEYS if cast("dict[str, Any]", options).get(key) is not None]
    if not named:
        return f"`deepspeed_config` has neither {' nor '.join(_DEEPSPEED_KEYS)}", hint
    idle = (None, False, "none")  # `accelerate config` writes all of them
    unread = [
        key
        for key, value in cast("dict[str, Any]", options).items()
        if key not in (*_DEEPSPEED_KEYS, *_OF_THE_RECIPE) and value not in idle
    ]
    if len(named) == 1 and not unread:
        return None
    if unread:
        return f"`{unread[0]}` of `deepspeed_config` is not read", hint
    return "`zero_stage` is here, and another may be in the file", "leave one of them out"
