"""Which of transformers' arguments work in training on rollouts, have no effect, or are refused.

An argument works as upstream says, or its promise holds whatever its value, or it is refused with a
reason. Imports no torch: RolloutConfig uses it, and so does `posttrain check`.
"""

from collections.abc import Mapping
from typing import Any

WORKING = frozenset(
    {
        *("output_dir", "seed", "full_determinism", "use_cpu", "tf32", "bf16"),
        *("per_device_train_batch_size", "gradient_accumulation_steps"),
        *("num_train_epochs", "max_steps", "learning_rate", "weight_decay", "max_grad_norm"),
        *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        *("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"),
        *("activation_checkpointing", "activation_checkpointing_kwargs"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_empty_cache_steps"),
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
        *("log_level", "log_level_replica", "log_on_each_node", "disable_tqdm", "debug"),
        *("report_to", "run_name", "project", "skip_memory_metrics"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start"),
        *("per_device_eval_batch_size", "load_best_model_at_end", "metric_for_best_model"),
        *("greater_is_better", "save_strategy", "save_steps", "save_total_limit"),
        *("save_on_each_node", "save_only_model", "restore_callback_states_from_checkpoint"),
        *("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo"),
        *("hub_always_push", "hub_revision", "ddp_backend", "ddp_timeout"),
    }
)

# Any value is right: upstream's trainer does not read it, or there is nothing for it to change.
WITHOUT_EFFECT = frozenset(
    {
        *("do_train", "do_eval", "do_predict", "resume_from_checkpoint"),  # for scripts
        "local_rank",  # the launcher's environment has it
        "dataloader_pin_memory",  # no batch is loaded
    }
)

_LABELS = "is for labels, and there are none here: responses are sampled"
_ONE_DEVICE = (
    "is not supported: training on rollouts runs on one device, or with a process for each; "
    "`launch: {with: accelerate, processes: N, fsdp: {}}` splits Adam's moments, adapters have few"
)
_DEALT = "is for a data loader; prompts are dealt by the seed and the number of the rollout"
_LOADER = "is for a data loader's workers; prompts are in memory"
_HOOKS = "is for DDP's hooks; gradients are summed over processes without them"
_ROUNDS = "would round the weights that training goes on with"
_SHAPES = "is not supported: each pass has another shape, and would be compiled anew"
_PREDICTIONS = "is for predictions of labels; evaluation here is by rewards"
_LIGER = "replaces the loss of labels, and there are none here"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("label_smoothing_factor", "label_names"), _LABELS),
    "neftune_noise_alpha": "disturbs training passes alone, so that ratios would be noise",
    "fp16": "underflows in ratios; use bf16 or fp32",
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), _ROUNDS),
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), _SHAPES),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _LIGER),
    "use_cache": "is not a choice: rollouts keep keys and values, training passes do not",
    "average_tokens_across_devices": "is always on: a token weighs the same on every device",
    "include_num_input_tokens_seen": (
        "counts what a data loader gives; see `completions/length_mean` and "
        "`time/tokens_per_second`"
    ),
    **dict.fromkeys(("prediction_loss_only", "eval_do_concat_batches"), _PREDICTIONS),
    **dict.fromkeys(("eval_use_gather_object", "eval_accumulation_steps"), _PREDICTIONS),
    **dict.fromkeys(("include_for_metrics", "batch_eval_metrics"), _PREDICTIONS),
    "enable_jit_checkpoint": "saves in the middle of a step; set `save_steps`",
    "ignore_data_skip": "would start a resumed run with its first rollout",
    "data_seed": "is not apart: `seed` deals prompts and rows too",
    "auto_find_batch_size": "would change the algorithm; set the batch size",
    "accelerator_config": "is for data loaders and accumulation, which is done without them",
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _ONE_DEVICE),
    **dict.fromkeys(("dataloader_num_workers", "dataloader_prefetch_factor"), _LOADER),
    **dict.fromkeys(("dataloader_persistent_workers",), _LOADER),
    "dataloader_multiprocessing_context": _LOADER,
    **dict.fromkeys(("dataloader_drop_last", "dataloader_in_order"), _DEALT),
    **dict.fromkeys(("train_sampling_strategy", "length_column_name"), _DEALT),
    "remove_unused_columns": "would keep columns from the reward functions",
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_bucket_cap_mb"), _HOOKS),
    **dict.fromkeys(("ddp_broadcast_buffers", "ddp_static_graph"), _HOOKS),
    "optim_target_modules": "is for GaLore and APOLLO, which are not driven here",
}

_STRATEGIES = ("logging_strategy", "save_strategy", "eval_strategy")
_OPTIMIZERS = ("galore", "apollo", "lomo", "adalomo", "schedule_free")


def value_problem(key: str, value: Any) -> str | None:
    """Return what is wrong with this value of an argument that works with the rest, or None."""
    written = str(getattr(value, "value", value))  # of an enumeration
    if key in _STRATEGIES and written == "epoch":
        steps = key.replace("strategy", "steps")
        return f"`{key}` epoch: optimizer steps and rollouts are counted here; write `{steps}`"
    if key == "optim" and written.startswith(_OPTIMIZERS):
        return f"`optim` {written} drives the training loop itself, which cannot be let here"
    return None
