"""Arguments of an upstream Trainer: the user's over our defaults, with the batch split derived."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from pipeline.config.batch import split_batch
from pipeline.config.training_args import RENAMED, with_new_names
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.training.sharding import let_processors_shard, sharding_arguments
from pipeline.training.trackers import run_names, write_into

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from transformers import TrainingArguments

    from pipeline.config.stage import StageContext
    from pipeline.config.training_stage import TrainingStage


def arguments(
    config_class: type[TrainingArguments],
    config: TrainingStage,
    context: StageContext,
    *,
    defaults: Mapping[str, Any],
    forced: Mapping[str, Any] | None = None,
) -> Any:
    """Return the upstream config object: `training_args` over `defaults`, under what is ours.

    Raises PosttrainError for values that upstream refuses.
    """
    settings = {
        **with_new_names(_defaults_of_old_names(config_class)),
        **with_new_names(defaults),
        **with_new_names(config.training_args),
    }
    settings = {**run_names(context), **settings}
    write_into(context, str(settings.get("project", "posttrain")))
    is_on_cpu = not _has_accelerator() or bool(settings.get("use_cpu"))
    if config.precision == "fp16" and is_on_cpu:  # upstream would train in fp32
        message = "`precision` fp16 needs a GPU, and torch finds none to train on"
        raise PosttrainError(context.name, message, "write bf16 or fp32")
    if is_on_cpu and (config.precision == "bf16" or context.processes > 1):
        # Otherwise upstream refuses bf16, and every process believes that it is the only one.
        settings["use_cpu"] = True
    if is_on_cpu:
        settings.setdefault("dataloader_pin_memory", False)  # else torch warns that it is in vain
    try:
        per_device, accumulation = split_batch(
            config.batch_size,
            per_device=settings.get("per_device_train_batch_size"),
            world_size=context.processes,
        )
        args = config_class(
            **{
                "report_to": "none",
                "per_device_eval_batch_size": per_device,
                **_saving(config, settings),
                **settings,
                "output_dir": str(context.checkpoints),
                "per_device_train_batch_size": per_device,
                "gradient_accumulation_steps": accumulation,
                "seed": context.seed,
                "bf16": config.precision == "bf16",
                "fp16": config.precision == "fp16",
                "save_total_limit": None,  # ours are dropped only after a newer one verifies
                "logging_nan_inf_filter": False,  # on, it logs NaN as 0.0 and trains on
                "disable_tqdm": True,
                "remove_unused_columns": False,
                "push_to_hub": False,
                **sharding_arguments(context),
                **(forced or {}),
            }
        )
    except (ValueError, TypeError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise PosttrainError(f"{context.name}: training_args", first) from error
    _check_joined(args, context)
    let_processors_shard(context)
    _check_precision(args, config, context)
    return args


def _defaults_of_old_names(config_class: type[TrainingArguments]) -> dict[str, Any]:
    """Return the defaults that TRL still has under deprecated names."""
    defaults = {one.name: one.default for one in fields(config_class) if one.name in RENAMED}
    return {name: default for name, default in defaults.items() if default is not None}


def _check_joined(args: TrainingArguments, context: StageContext) -> None:
    """Raise InfrastructureError unless all started processes can reach each other."""
    there = args.world_size
    if there > 1:
        count = torch.ones((), device=args.device)
        distributed.all_reduce(count)
        there = int(count)
    if there != context.processes:
        message = f"{there} of {context.processes} processes found one another"
        raise InfrastructureError(context.name, message, "see `posttrain logs` for why")


def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def _check_precision(args: TrainingArguments, config: TrainingStage, context: StageContext) -> None:
    """Raise PosttrainError where upstream would train in another precision than the stage's."""
    own = "no" if config.precision == "fp32" else config.precision
    if args.mixed_precision != own:
        message = f"accelerate is told to train in {args.mixed_precision}, not {config.precision}"
        hint = "its config or ACCELERATE_MIXED_PRECISION says so; write `precision` on the stage"
        raise PosttrainError(context.name, message, hint)


@contextmanager
def refusals(context: StageContext) -> Generator[None]:
    """Turn what upstream raises while a trainer is made or runs into an error of one line.

    The traceback goes to the stage's log.
    """
    try:
        yield
    except (ValueError, RuntimeError, ImportError) as error:
        is_missing = "installed" in str(error)  # a tracker's callback says so by a RuntimeError
        is_the_machine = isinstance(error, torch.OutOfMemoryError | distributed.DistError)
        if is_the_machine or (type(error) is RuntimeError and not is_missing):
            raise
        logging.getLogger(__name__).exception("upstream refused")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        hint = "see `training_args` in the recipe, and `posttrain logs` for where it came from"
        raise PosttrainError(context.name, lines[0].rstrip("."), hint) from error


def _saving(config: TrainingStage, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return when to save if the user does not say: at evaluations where the best model is kept."""
    saving: dict[str, Any] = {}
    if config.early_stopping is not None:
        # Without its counter a resumed run would stop at another step.
        saving |= {
            "metric_for_best_model": config.best_metric,
            "restore_callback_states_from_checkpoint": True,
        }
    if settings.get("load_best_model_at_end"):
        saving |= {"save_strategy": settings.get("eval_strategy", "no")}
        return saving | ({"save_steps": settings["eval_steps"]} if "eval_steps" in settings else {})
    return saving | {"save_strategy": "steps" if "save_steps" in settings else "no"}
