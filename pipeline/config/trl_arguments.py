"""Arguments of TRL's GRPOConfig, RLOOConfig and DistillationConfig that are none of ours, and why.

A value that changes nothing (TRL's default) is let pass from Python, so that a script written for
TRL runs here; another one is refused with the reason. A recipe may write none of them. Imports no
torch: the configs use it, and so does `posttrain check`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANY = object()  # any value: there is nothing for it to change


@dataclass(frozen=True)
class Absent:
    """neutral: the values that change nothing. reason: why there is no such argument."""

    neutral: tuple[Any, ...]
    reason: str

    def is_neutral(self, value: Any) -> bool:
        """Whether the value asks for nothing."""
        return ANY in self.neutral or any(value == one for one in self.neutral)


_SAMPLED = "what is sampled must be what is scored: the whole distribution, at `temperature`"
_VLLM = "write `vllm_options`, in a recipe keys of `rollout: {engine: vllm}`"
_ENGINE = "write `rollout_engine` (own, generate or vllm), in a recipe `rollout: {engine: ...}`"
_REFERENCE = "the reference is the policy as it came in, exactly: it does not move"
_ENTROPY = "entropy is not steered; write a fixed `entropy_coef`"
_COMPLETIONS = "samples stand in samples.jsonl and the report, or take `on_rollout`"
_LOADED = "load the model as you want it and hand it over"

ABSENT: Mapping[str, Absent] = {
    "model_init_kwargs": Absent((None, {}), _LOADED),
    **dict.fromkeys(
        ("teacher_model_name_or_path", "teacher_model_revision", "teacher_model_init_kwargs"),
        Absent((None, {}), "load the teacher as you want it, and give `teacher_model`"),
    ),
    "trust_remote_code": Absent((False,), "code of a model's repository is never run"),
    "router_aux_loss_coef": Absent(
        (None, 0, 0.0, 0.001), "the router's loss depends on which rows share a pass; it is off"
    ),
    "num_generations_eval": Absent((None, 1), "an evaluation answers each prompt once"),
    "shuffle_dataset": Absent((True, None), "each pass over the prompts has an order of its own"),
    "pad_to_multiple_of": Absent((None,), "rows are padded to the longest beside them"),
    "top_p": Absent((1, 1.0), _SAMPLED),
    "top_k": Absent((0, None), _SAMPLED),
    "min_p": Absent((None, 0, 0.0), _SAMPLED),
    "repetition_penalty": Absent((1, 1.0), _SAMPLED),
    "generation_kwargs": Absent((None, {}), _SAMPLED),
    "cache_implementation": Absent((None,), _ENGINE),
    "use_vllm": Absent((False,), _ENGINE),
    "use_transformers_continuous_batching": Absent((False,), _ENGINE),
    "transformers_continuous_batching_config": Absent((None, {}), _ENGINE),
    "use_transformers_paged": Absent((False, None), _ENGINE),
    **dict.fromkeys(
        (
            *("vllm_model_impl", "vllm_enable_sleep_mode", "vllm_structured_outputs_regex"),
            *("vllm_mode", "vllm_server_base_url", "vllm_server_host", "vllm_server_port"),
            *("vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization"),
            *("vllm_max_model_length", "vllm_tensor_parallel_size"),
        ),
        Absent((ANY,), _VLLM),  # TRL reads them with `use_vllm` alone
    ),
    "vllm_importance_sampling_cap": Absent(
        (None,), "write `vllm_importance_sampling_clip_max`, its new name"
    ),
    "multi_objective_aggregation": Absent(
        ("sum_then_normalize",), "rewards are summed by their weights, then compared"
    ),
    "sync_ref_model": Absent((False,), _REFERENCE),
    **dict.fromkeys(("ref_model_mixup_alpha", "ref_model_sync_steps"), Absent((ANY,), _REFERENCE)),
    "top_entropy_quantile": Absent((1, 1.0), "every token of the policy is trained on"),
    "use_adaptive_entropy": Absent((False,), _ENTROPY),
    **dict.fromkeys(
        ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
        Absent((ANY,), _ENTROPY),
    ),
    "off_policy_mask_threshold": Absent(
        (None,), "sequences are not masked by their distance; see `epsilon` and `delta`"
    ),
    "log_completions": Absent((False,), _COMPLETIONS),
    "log_multimodal": Absent((ANY,), "responses are text"),
    **dict.fromkeys(
        ("num_completions_to_print", "log_unique_prompts"), Absent((ANY,), _COMPLETIONS)
    ),
    "log_completions_hub_repo": Absent((None,), _COMPLETIONS),
    "cast_lm_head_to_fp32": Absent((ANY,), "log-probabilities are made in fp32 in any case"),
    "ds3_gather_for_generation": Absent((ANY,), "DeepSpeed is not supported"),
}


def refusal_of(name: str, value: Any) -> str | None:
    """Return why an argument of TRL's with this value cannot be meant here, or None."""
    absent = ABSENT.get(name)
    return None if absent is None or absent.is_neutral(value) else absent.reason
