"""What a stage's processes split by DeepSpeed's ZeRO (Rajbhandari et al. 2020), without torch.

The options are those of a DeepSpeed config. What the recipe says elsewhere (batch, precision,
optimizer, clipping) is refused in it: it could say otherwise. DeepSpeed itself reads over names
that it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.config.sharding import Sharding
from pipeline.errors import closest
from pipeline.text.values import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

ZERO = "zero_optimization"
_AUTO = "auto"
_WEIGHTS_FROM = 3  # the stage of ZeRO that splits weights too
_BATCH = "write the global `batch_size` on the stage"
_TRAINER = "write it in `training_args`"
_PRECISION = "write `precision: fp32 | bf16 | fp16` on the stage"
# What may only be left to the recipe, and where that says it.
_SAID_ELSEWHERE = {
    "train_batch_size": _BATCH,
    "train_micro_batch_size_per_gpu": "write `per_device_train_batch_size` in `training_args`",
    "gradient_accumulation_steps": _BATCH,
    "gradient_clipping": "write `max_grad_norm` in `training_args`",
}
_NOT_HERE = {
    "optimizer": "write `optim` and `learning_rate` in `training_args`",
    "scheduler": "write `lr_scheduler_type` in `training_args`",
    "seed": "write `seed:` on the stage or the recipe",
    **dict.fromkeys(("tensorboard", "wandb", "csv_monitor"), "write `report_to` on the stage"),
    **dict.fromkeys(("amp", "torch_autocast"), _PRECISION),
}
_PRECISIONS = ("bf16", "fp16")
_PASSED_ON = (
    *("activation_checkpointing", "aio", "checkpoint", "comms_logger", "communication_data_type"),
    *("data_types", "dump_state", "flops_profiler", "gradient_predivide_factor"),
    *("memory_breakdown", "prescale_gradients", "sparse_gradients", "steps_per_print"),
    *("wall_clock_breakdown", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"),
)
_KNOWN = (ZERO, *_SAID_ELSEWHERE, *_PRECISIONS, *_PASSED_ON)
_STAGES = (1, 2, 3)


def deepspeed_of(settings: Mapping[str, Any]) -> Sharding:
    """Return what is split by a config in which `deepspeed_problem` finds nothing."""
    zero = settings[ZERO]
    options: dict[str, Any] = {
        "zero_allow_untested_optimizer": True,  # torch's own, which Accelerate allows as well
        "zero_force_ds_cpu_optimizer": False,  # it would have to be compiled here
        **{key: value for key, value in settings.items() if value is not None},
        **dict.fromkeys(_SAID_ELSEWHERE, _AUTO),
        **{name: {**(settings.get(name) or {}), "enabled": _AUTO} for name in _PRECISIONS},
    }
    split = "weights" if zero["stage"] >= _WEIGHTS_FROM else "moments"
    return Sharding(split, options, engine="deepspeed")


def deepspeed_problem(settings: Any) -> tuple[tuple[str, ...], str, str] | None:
    """Return (where, what is wrong, what to do) of the first bad option, or None."""
    if not isinstance(settings, dict):
        return (), "this is no config of DeepSpeed", "write `{zero_optimization: {stage: 2}}`"
    options = cast("dict[str, Any]", settings)
    for key, value in options.items():
        problem = _option_problem(key, value)
        if problem is not None:
            return (key,), *problem
    zero: Any = options.get(ZERO)
    if not isinstance(zero, dict) or "stage" not in zero:
        return (), f"`{ZERO}` does not say which `stage`", f"write `{ZERO}: {{stage: 2}}`"
    stage = cast("dict[str, Any]", zero)["stage"]
    if isinstance(stage, bool) or stage not in _STAGES:
        message = f"`stage` is {quote(stage)}"
        return (ZERO, "stage"), message, "write 1, 2 or 3; `launch` without `deepspeed` for none"
    return None


def _option_problem(key: str, value: Any) -> tuple[str, str] | None:
    if key in _SAID_ELSEWHERE and value not in (None, _AUTO):
        return f"`{key}` is {quote(value)}: the recipe says it", _SAID_ELSEWHERE[key]
    if key in _NOT_HERE:
        return f"`{key}` is not read here", _NOT_HERE[key]
    if key in _PRECISIONS:
        options = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if options.get("enabled", _AUTO) != _AUTO:
            return f"`{key}` is here: the recipe says it", f"{_PRECISION}, `enabled: auto` here"
        return None
    if key not in _KNOWN:
        known = f"there are {', '.join(_KNOWN)}"
        return f"`{key}` is no option of DeepSpeed that is known here", closest(
            key, _KNOWN
        ) or known
    return None
