"""What a value of `training_args` may be: its type, one of its choices, within its range.

Types and choices are upstream's, read from its source; ranges follow from the arithmetic behind a
field. training_args.py decides which fields a recipe may set at all.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

from pipeline.config import annotations
from pipeline.config.trainer_fields import enumeration, fields, find_compared_values
from pipeline.errors import closest
from pipeline.text.values import quote

LARGEST_INT = 2**63 - 1  # torch, numpy and Arrow count in 64 bits
LARGEST_FLOAT = 3.4028234663852886e38  # of fp32, in which training computes
_WHOLE_FLOATS = 2**53  # beyond, a float does not tell a whole number from the next one

_ABOVE_ZERO = frozenset(
    {
        *("max_steps", "num_train_epochs", "save_steps", "logging_steps", "eval_steps"),
        *("per_device_train_batch_size", "per_device_eval_batch_size", "eval_accumulation_steps"),
        *("max_length", "pad_to_multiple_of", "torch_empty_cache_steps", "ddp_bucket_cap_mb"),
        *("dataloader_prefetch_factor", "precompute_ref_batch_size", "ref_model_sync_steps"),
        *("total_episodes", "num_ppo_epochs", "num_mini_batches", "temperature", "adam_epsilon"),
        *("max_completion_length", "max_prompt_length", "rollout_batch_size", "ddp_timeout"),
        *("scoring_batch_size", "target_approx_kl", "cliprange", "dataset_num_proc", "beta"),
        *("num_generations", "generation_batch_size", "num_iterations", "epsilon", "epsilon_high"),
        *("overlong_cache", "sapo_temperature_pos", "sapo_temperature_neg"),
    }
)
_NOT_NEGATIVE = frozenset(
    {
        *("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "eval_delay"),
        *("critic_learning_rate", "critic_warmup_rollouts", "vf_coef", "entropy_coef"),
        *("kl_loss_coef", "gamma", "lam", "adam_beta1", "adam_beta2", "label_smoothing"),
        *("label_smoothing_factor", "neftune_noise_alpha", "dataloader_num_workers"),
        *("router_aux_loss_coef", "save_total_limit", "ref_model_mixup_alpha"),
        *("dynamic_sampling", "vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg"),
        *("dynamic_sampling", "loss_top_k", "teacher_coef", "lmbda"),
    }
)
_AT_MOST: Mapping[str, float] = {
    **dict.fromkeys(("gamma", "lam", "lmbda", "cliprange", "ref_model_mixup_alpha"), 1),
    "num_train_epochs": _WHOLE_FLOATS,
    "ddp_timeout": timedelta.max // timedelta(seconds=1),
}
# Shares s that are divided by 1 - s.
_BELOW_ONE = frozenset({"adam_beta1", "adam_beta2", "label_smoothing_factor"})
_MAY_BE_ZERO = frozenset(  # no KL, not no loss; of DistillConfig the forward KL
    {("GRPOConfig", "beta"), ("RLOOConfig", "beta"), ("DistillConfig", "beta")}
)
_AT_MOST_OF: Mapping[tuple[str, str], float] = {("DistillConfig", "beta"): 1}
_MOST_SAID = 8  # how many choices fit a line
_COMPARED = ("loss_type", "f_divergence_type")  # fields whose choices only TRL's trainers know
_WITH_WORKERS = ("dataloader_prefetch_factor", "dataloader_persistent_workers")


def value_problem(key: str, value: Any, class_name: str) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with the value of a field of a config class, or None."""
    annotation = fields(class_name)[key].annotation
    known = _choices(key, annotation, class_name)
    if known and not (value is None and annotations.takes_nothing(annotation)):
        problem = choice_problem(key, value, known, takes_list="list" in annotation)
        if problem:
            return problem
    expected = annotations.explain_mismatch(value, annotation)
    if value is None and (expected or key in _ABOVE_ZERO | _NOT_NEGATIVE):
        return f"`{key}` is empty", f"write {expected or 'a number'}, or leave it out"
    if expected:
        return f"`{key}` is {quote(value)}, not {expected}", repair(value, expected)
    if value == 0 and (class_name, key) in _MAY_BE_ZERO:
        return None
    return _out_of_range(key, value, _AT_MOST_OF.get((class_name, key), _AT_MOST.get(key)))


def json_schema(key: str, class_name: str) -> dict[str, Any]:
    """Return the JSON Schema of what `value_problem` lets pass, as far as a schema can say it."""
    annotation = fields(class_name)[key].annotation
    known = _choices(key, annotation, class_name)
    if known:
        one = {"enum": [*known, *([None] if annotations.names_nothing(annotation) else [])]}
        is_list = "list" in annotation
        return {"anyOf": [one, {"type": "array", "items": one}]} if is_list else one
    bounds: dict[str, Any] = {}
    if key in _ABOVE_ZERO and key != "max_steps":
        bounds["minimum" if (class_name, key) in _MAY_BE_ZERO else "exclusiveMinimum"] = 0
    if key in _NOT_NEGATIVE:
        bounds["minimum"] = 0
    most = _AT_MOST_OF.get((class_name, key), _AT_MOST.get(key))
    if most is not None:
        bounds["maximum"] = most
    if key in _BELOW_ONE:
        bounds["exclusiveMaximum"] = 1
    return {**annotations.json_type(annotation), **bounds}


def together_problem(arguments: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return (key, what is wrong, what to do) where one argument needs another, or None."""
    for key in _WITH_WORKERS:
        if arguments.get(key) and not arguments.get("dataloader_num_workers"):
            message = f"`{key}` is of worker processes, and there are none"
            return key, message, "write `dataloader_num_workers`, or leave it out"
    weights, losses = arguments.get("loss_weights"), arguments.get("loss_type", ())
    count = 1 if isinstance(losses, str) else len(losses)
    if isinstance(weights, list) and len(weights) != count:  # pyright: ignore[reportUnknownArgumentType]
        message = f"`loss_weights` has {len(weights)} of them, and `loss_type` {count}"  # pyright: ignore[reportUnknownArgumentType]
        return "loss_weights", message, "write one for each"
    return None


def number_problem(key: str, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with a number that 64 bits or fp32 cannot hold, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        return (
            f"`{key}` is {quote(value)}",
            f"it must be at most {LARGEST_INT}: 64 bits hold no more",
        )
    if isinstance(value, float) and not math.isfinite(value):
        return f"`{key}` is {quote(value)}", "write a finite number"
    if isinstance(value, float) and not abs(value) <= LARGEST_FLOAT:
        hint = f"it must be at most {LARGEST_FLOAT:.3g}: 32-bit floats hold no more"
        return f"`{key}` is {quote(value)}", hint
    return None


def choice_problem(
    key: str, value: Any, known: Iterable[Any], *, takes_list: bool = False
) -> tuple[str, str] | None:
    """Return what is wrong with a value that is not a known choice, and the nearest; or None."""
    known = tuple(known)
    values = _as_list(value) if takes_list else [value]
    wrong = [choice for choice in values if not any(choice == one for one in known)]
    if not wrong and values:
        return None
    choice: Any = wrong[0] if wrong else value
    hint = closest(choice, known) if isinstance(choice, str) else ""
    if len(known) > _MOST_SAID:
        some = ", ".join(f"`{choice}`" for choice in known[:: max(1, len(known) // 4)])
        message = f"`{key}` is {quote(choice)}, none of its {len(known)} choices"
        return message, hint or f"for example {some}"
    *first, last = (f"`{choice}`" for choice in known)
    choices = f"{', '.join(first)} or {last}" if first else last
    return f"`{key}` is {quote(choice)}, not {choices}", hint or "write one of these"


def _as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def repair(value: Any, expected: str) -> str:
    """Return what to do about a value of a wrong type."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            is_quoted = value in ("true", "false")
        else:
            is_quoted = "number" in expected
        if is_quoted:
            return "write it without quotes"
    return f"write {expected}"


def _choices(key: str, annotation: str, class_name: str) -> tuple[Any, ...]:
    """Return the values that upstream knows for a field; () where any will do."""
    literal = annotations.choices(annotation)
    if literal:
        return literal
    for name in annotations.class_names(annotation):
        members = enumeration(name)
        if members and annotation.startswith((name, f"{name} |")):
            return tuple(sorted(members))
    return tuple(sorted(find_compared_values(class_name, key))) if key in _COMPARED else ()


def _out_of_range(key: str, value: Any, most: float | None) -> tuple[str, str] | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if key in _ABOVE_ZERO and value <= 0 and not (key == "max_steps" and value == -1):
        return f"`{key}` is {quote(value)}", "it must be above 0"
    if key in _NOT_NEGATIVE and value < 0:
        return f"`{key}` is {quote(value)}", "it must not be negative"
    if most is not None and value > most:
        return f"`{key}` is {quote(value)}", f"it must be at most {most}"
    if key in _BELOW_ONE and value >= 1:
        return f"`{key}` is {quote(value)}", "it must be below 1"
    return number_problem(key, value)
