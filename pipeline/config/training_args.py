"""Which `training_args` a recipe may set, and which of them decide the result.

`training_args` is passed on to TRL's and transformers' config classes, whose fields are never
declared again here. A field is one of three: EXECUTION (speed, memory, logging: not part of a
fingerprint), OURS (decided by the recipe or the store; setting it is refused with what to write
instead), or identity, like everything else.
"""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.config import rollout_arguments, trl_arguments
from pipeline.config.argument_values import together_problem, value_problem
from pipeline.config.trainer_fields import fields
from pipeline.errors import closest

__all__ = [
    "EXECUTION_KEYS",
    "OURS",
    "RENAMED",
    "identity",
    "ours",
    "problem",
    "together_problem",
    "with_new_names",
]

EXECUTION_KEYS = frozenset(
    {
        # memory and speed; the same arithmetic up to the order of a sum
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "eval_accumulation_steps",
        "precompute_ref_log_probs",
        "precompute_ref_batch_size",
        "rollout_batch_size",
        "scoring_batch_size",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "activation_offloading",
        "torch_empty_cache_steps",
        "torch_compile",
        "torch_compile_backend",
        "torch_compile_mode",
        "use_cpu",
        "dataset_num_proc",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        # the engine below
        "ddp_find_unused_parameters",
        "ddp_bucket_cap_mb",
        "ddp_broadcast_buffers",
        "ddp_static_graph",
        "ddp_backend",
        "ddp_timeout",
        # logging, and what is saved
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "disable_tqdm",
        "include_num_input_tokens_seen",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "skip_memory_metrics",
        "debug",
    }
)

# Changing one of these between a kill and its resume changes no number: the checkpoint stays good.
HARMLESS_ON_RESUME = frozenset(
    key for key in EXECUTION_KEYS if key.startswith(("log", "save_", "trackio_"))
) | {"disable_tqdm", "report_to", "run_name", "project", "skip_memory_metrics", "debug"}

# Our defaults for training an existing model; a stage adds its own.
FINE_TUNING_DEFAULTS: Mapping[str, Any] = {
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "num_train_epochs": 1,
    "max_length": None,  # as many as the model has positions
    "logging_steps": 10,
    "activation_checkpointing": False,
}
# Names that upstream still takes, with a warning, and their new names.
RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
# The router's loss of a mixture of experts. Upstream adds it by default, but it depends on which
# rows share a forward pass: 8 rows at once and 4 x 2 would train differently, and padding would
# count.
WITHOUT_ROUTER_LOSS: Mapping[str, Any] = {"router_aux_loss_coef": 0.0}

_WHOLE_FLOATS = 2**53  # below, a float tells whole numbers apart
_STORE = "the store decides where a stage writes"
_DATA = "the recipe's `data:` decides how rows become tokens"
_PRECISION = "write `precision: fp32 | bf16 | fp16` on the stage"
_EXPORT = "stages never push; publish a finished model by hand"
_RESUME = "exact resume depends on it"
_EVALUATE = "evaluation during training measures the loss; a stage `evaluate` does the rest"
_PACKING = "write `packing: true` on a stage `sft`; pretrain always packs"
_SPLIT = "write `launch: {with: accelerate, processes: N, fsdp: {}}`, which splits weights"
_ON_STAGE = "write it on the stage"
_OF_PAIRS = "the loss is one of pairs; give them a column `probability`, from 0.5 to 1"
_PARTNERS = "each epoch has a new order; the KL term pairs each prompt with a response of its step"
_WHOLE_GROUPS = "each epoch has a new order, of as many rows as fill whole steps"
_SYNCHRONISED = dict.fromkeys(
    ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
    f"{_RESUME}, and a reference that moves is in no checkpoint",
)
_UNBIASED = "responses are sampled from the whole distribution that they are scored by"

OURS: Mapping[str, str] = {
    "output_dir": _STORE,
    "gradient_accumulation_steps": "it is derived; write the global `batch_size` on the stage",
    "seed": "write `seed:` on the stage or the recipe",
    "data_seed": "write `seed:` on the stage or the recipe",
    "bf16": _PRECISION,
    "fp16": _PRECISION,
    "bf16_full_eval": _PRECISION,
    "fp16_full_eval": _PRECISION,
    "auto_find_batch_size": "set `per_device_train_batch_size`",
    "resume_from_checkpoint": "a stage resumes by itself",
    "do_train": "the stage's kind says what is done",
    "do_eval": "the stage's kind says what is done",
    "do_predict": "the stage's kind says what is done",
    "local_rank": "write `launch:` on the stage",
    "save_only_model": _RESUME,
    "save_on_each_node": _RESUME,
    "enable_jit_checkpoint": _RESUME,
    "ignore_data_skip": _RESUME,
    "logging_nan_inf_filter": "a non-finite loss must stop the stage",
    "push_to_hub": _EXPORT,
    "hub_token": _EXPORT,
    "hub_private_repo": _EXPORT,
    "hub_model_id": _EXPORT,
    "hub_strategy": _EXPORT,
    "hub_always_push": _EXPORT,
    "hub_revision": _EXPORT,
    "trust_remote_code": "code from a model repository is never run",
    "model_init_kwargs": "write `model:` and `precision:` on the stage",
    "remove_unused_columns": _DATA,
    "label_names": _DATA,
    "dataset_text_field": _DATA,
    "dataset_kwargs": _DATA,
    "chat_template_path": "write `chat_template:` on the stage",
    "assistant_only_loss": _DATA,
    "completion_only_loss": _DATA,
    "truncation_mode": "write `too_long` and `truncation_side` on the stage",
    "eos_token": _DATA,
    "pad_token": _DATA,
    "shuffle_dataset": _DATA,
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _SPLIT),
    "padding_free": "a batch's rows are laid end to end where that saves padding",
    "restore_callback_states_from_checkpoint": _RESUME,
    "eval_packing": _EVALUATE,
    "eval_do_concat_batches": _EVALUATE,
    "eval_use_gather_object": _EVALUATE,
    "batch_eval_metrics": _EVALUATE,
    "include_for_metrics": _EVALUATE,
    "prediction_loss_only": _EVALUATE,
    "packing": _PACKING,
    "packing_strategy": _PACKING,
}

_ON_ROLLOUTS = frozenset({"PPOConfig", "GRPOConfig", "RLOOConfig", "DistillConfig"})
_OF_ROLLOUTS: Mapping[str, str] = {
    "reward_weights": "write `weight:` in each block of `reward:`",
    **dict.fromkeys(("reward_normalisation", "reward_clip"), _ON_STAGE),
    **dict.fromkeys(("missing_eos_penalty", "eos_penalty_mode", "stop_when"), _ON_STAGE),
    "chat_template_kwargs": "write `chat_template_kwargs:` on the stage",
    "max_tool_calling_iterations": "write `max_turns:` on the stage",
    **dict.fromkeys(("rollout_engine", "vllm_options"), "write `rollout: {engine: ...}`"),
    **{key: f"it {why}" for key, why in rollout_arguments.REFUSED.items() if key not in OURS},
}

# What else a recipe may not set in `training_args` of one class.
_OURS_OF: Mapping[str, Mapping[str, str]] = {
    **{
        key: {
            **_OF_ROLLOUTS,
            "steps_per_generation": "write `generation_batch_size`: the responses of a rollout",
            "reward_clip_range": "write `reward_clip` on the stage",
        }
        for key in ("GRPOConfig", "RLOOConfig", "DistillConfig")
    },
    "PPOConfig": {
        **_OF_ROLLOUTS,
        "kl_coef": "write `kl: {coef: ...}` on the stage",
        "kl_target": "write `kl: {target: ...}` on the stage",
        "kl_horizon": "write `kl: {horizon: ...}` on the stage",
        "kl_estimator": "write `kl: {estimator: ...}` on the stage",
    },
    "DPOConfig": {
        "label_smoothing_factor": _OF_PAIRS,
        "train_sampling_strategy": _WHOLE_GROUPS,
        **_SYNCHRONISED,
    },
    "KTOConfig": {
        "label_smoothing_factor": "the loss is one of judged answers, and has no smoothing",
        "train_sampling_strategy": _PARTNERS,
        **_SYNCHRONISED,
    },
    "RewardConfig": {
        "label_smoothing_factor": _OF_PAIRS,
        "train_sampling_strategy": _WHOLE_GROUPS,
    },
}
_ABSENT_OF_GROUPS = {name: absent.reason for name, absent in trl_arguments.ABSENT.items()}
# Fields of a different trainer that one class does not have, and why.
_ABSENT_OF: Mapping[str, Mapping[str, str]] = {
    "GRPOConfig": _ABSENT_OF_GROUPS,
    "RLOOConfig": _ABSENT_OF_GROUPS,
    "PPOConfig": {
        **dict.fromkeys(("top_k", "top_p", "min_p", "repetition_penalty"), _UNBIASED),
        "max_length": "write `max_prompt_length` and `max_completion_length`",
        "beta": "write `kl: {coef: ...}` on the stage",
        **dict.fromkeys(("init_kl_coef", "adap_kl_ctrl"), "write `kl:` on the stage"),
        **dict.fromkeys(("reward_model_path", "reward_funcs"), "write `reward:` on the stage"),
        "stop_token": "a response ends with the policy's own end of a turn",
        "generation_kwargs": _UNBIASED,
    },
}

# What these are called elsewhere.
_OTHER_NAMES: Mapping[str, str] = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "steps": "max_steps",
    "warmup_ratio": "warmup_steps",
    "ppo_epochs": "num_ppo_epochs",
    "response_length": "max_completion_length",
    "max_new_tokens": "max_completion_length",
    "local_rollout_forward_batch_size": "rollout_batch_size",
}
_ON_THE_STAGE = frozenset(
    {
        *("batch_size", "precision", "data", "model", "sequence_length", "tokens"),
        *("prompts", "reward", "critic", "kl", "lora", "teacher"),
    }
)


def ours(class_name: str) -> Mapping[str, str]:
    """Return what a recipe may not set in `training_args`, with what to do instead."""
    return {**OURS, **_OURS_OF.get(class_name, {})}


def place_of(key: str, class_name: str | None) -> str:
    """Return where to write a key that a stage does not know; "" where that is unknown too."""
    if class_name is None or key not in fields(class_name):
        return ""
    below = f"write it below `training_args:`, it is a field of {class_name}"
    return ours(class_name).get(key, below)


def with_new_names(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments under upstream's current names; a current name overrides an older one."""
    renamed = {RENAMED[key]: value for key, value in arguments.items() if key in RENAMED}
    return renamed | {key: value for key, value in arguments.items() if key not in RENAMED}


def problem(key: str, value: Any, class_name: str) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with one training argument, or None."""
    known = fields(class_name)
    if key not in known:
        absent = _ABSENT_OF.get(class_name, {})
        if key in absent:
            return f"{class_name} has no field `{key}`", absent[key]
        if key in _ON_THE_STAGE:
            return f"`{key}` is no field of {class_name}", "write it on the stage"
        official = _OTHER_NAMES.get(key)
        hint = f"did you mean `{official}`?" if official in known else closest(key, known)
        return f"{class_name} has no field `{key}`", hint or "`posttrain schema` names all of them"
    not_here = ours(class_name)
    if key in not_here:
        return f"`{key}` cannot be set in `training_args`", not_here[key]
    if isinstance(value, float) and not math.isfinite(value):  # before its range is checked
        return f"`{key}` is {value}", "write a finite number"
    refusal = rollout_arguments.value_problem(key, value) if class_name in _ON_ROLLOUTS else None
    if refusal:
        what, _, hint = refusal.partition("; ")
        return what, hint
    return value_problem(key, value, class_name)


def identity(training_args: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that decide the result: the user's over `defaults`, not execution's.

    A number is one value however it is written: 0 and 0.0 are, as are a default and the same.
    """
    merged = {**defaults, **{key: _number(value) for key, value in training_args.items()}}
    # Equal numbers, so that a result which was made with the default's own form stays that.
    same = {key: defaults[key] for key in training_args if _is_same(merged[key], defaults.get(key))}
    return {k: value for k, value in (merged | same).items() if k not in EXECUTION_KEYS}


def _number(value: Any) -> Any:
    """Return a whole float as an int, which only fields of floats may have been given."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_FLOATS
    return int(value) if is_whole else value


def _is_same(value: Any, default: Any) -> bool:
    are_numbers = all(type(each) in (int, float) for each in (value, default))
    return are_numbers and value == default


def settings_in_use(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments without the epochs, where steps or episodes say how long training is."""
    is_counted = arguments.get("max_steps", -1) > 0 or bool(arguments.get("total_episodes"))
    return {
        key: value
        for key, value in arguments.items()
        if not (is_counted and key == "num_train_epochs")
    }
