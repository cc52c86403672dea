"""What a checkpoint was made with, so that a run continues as it began or is refused.

In the middle of a rollout a changed setting would train on rows that were sampled under another
one; learning rates, coefficients and the state of schedules come from the checkpoint, so that a new
value would be taken and never used. What may change: how long training lasts, how rows are split
over devices and passes, and what is logged and saved.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments

from pipeline.rl.prompts import given_ids_of, ids_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from eval.tools.turns import ToolUse
    from pipeline.rewards.composition import RewardComposition
    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.prompts import Prompt

_UPSTREAM = (
    *("seed", "bf16", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"),
    "max_grad_norm",
)
# The prompts and the rewards are compared themselves, and how large rollouts are.
_MAY_CHANGE = frozenset(
    {
        *("total_episodes", "rollout_batch_size", "scoring_batch_size", "max_prompt_length"),
        *("chat_template_kwargs", "reward_weights", "reward_normalisation", "reward_clip"),
        *("missing_eos_penalty", "eos_penalty_mode", "vllm_options"),
        *("num_mini_batches", "generation_batch_size", "steps_per_generation", "stop_when"),
    }
)
_SAMPLE = 256  # numbers of each tensor: other weights differ in the first already


def made_with(
    args: RolloutConfig,
    *,
    rewards: RewardComposition,
    prompts: Sequence[Prompt],
    reference: str,
    teacher: str | None = None,
    tools: ToolUse | None = None,
) -> dict[str, Any]:
    """Return what decides the mathematics of a run, as JSON.

    reference: `digest_of_reference`. teacher: a digest of its weights, where there is one.
    tools: what the policy may call, by their names.
    """
    upstream = {field.name for field in fields(TrainingArguments)}
    own = [field.name for field in fields(args) if field.name not in upstream | _MAY_CHANGE]
    if args.rollout_engine != "vllm":
        own = [name for name in own if not name.startswith("vllm_")]
    settings = {name: getattr(args, name) for name in (*_UPSTREAM, *own)}
    record = {
        **settings,
        "responses of a rollout": args.rollout_size,
        "optimizer steps of a pass over them": args.parts_per_rollout,
        "rewards": [
            [term.name, term.weight, sorted(term.on) if term.on else None] for term in rewards.terms
        ],
        "reward_normalisation": rewards.normalise,
        "reward_clip": rewards.clip,
        "missing_eos_penalty": rewards.missing_eos_penalty,
        "eos_penalty_mode": rewards.eos_penalty_mode,
        "number of prompts": len(prompts),
        "digest of the prompts": _digest(ids_of(prompts)),
        "digest of the reference": reference,
        "tools": sorted(tools.toolbox.tool_by_name) if tools is not None else [],
    }
    if teacher is not None:
        record["digest of the teacher"] = teacher
        record["digest of the completions"] = _digest(given_ids_of(prompts))
    return json.loads(json.dumps(record, default=lambda enum: getattr(enum, "value", str(enum))))


def digest_of_reference(actor: Actor) -> str:
    """Return a digest of the network that KL is measured to.

    The policy's own adapters are in the checkpoint; those of another network are its weights.
    """
    digest = hashlib.sha256()
    with actor.reference() as reference:
        is_own = reference is actor.causal
        for name, weight in reference.named_parameters():
            is_in_checkpoint = is_own and (".lora_" in name or ".modules_to_save." in name)
            if not is_in_checkpoint:
                digest_weights(digest, [weight])
    return digest.hexdigest()[:16]


def digest_weights(digest: Any, weights: Iterable[Tensor]) -> None:
    """Add a network's weights to a digest, as far as they tell it from others."""
    for weight in weights:
        some = weight.detach().flatten()[:_SAMPLE].float().cpu()
        digest.update(some.numpy().tobytes())


def check_made_with(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError, in one line, for a checkpoint that was made with something else."""
    changed = [
        f"`{name}` {before.get(name)}, not {now[name]}"
        for name in now
        if before.get(name) != now[name]
    ]
    if changed:
        raise ValueError(
            f"the checkpoint was made with {'; '.join(changed)}; resume with the same, or begin "
            "anew with its folder as the model"
        )


def _digest(lists: Iterable[list[int] | None]) -> str:
    """Return a digest of lists, without all of them in memory: of what JSON has of them."""
    digest, before = hashlib.sha256(b"["), ""
    for each in lists:
        digest.update(f"{before}{json.dumps(each)}".encode())
        before = ", "
    digest.update(b"]")
    return digest.hexdigest()[:16]
