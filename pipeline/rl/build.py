"""Puts an Actor together: policy, reference and perhaps critic, of models, folders, adapters."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from torch import nn

from pipeline.config.ppo_defaults import critic_source
from pipeline.config.stage import StageInput
from pipeline.models import adapters
from pipeline.models.frozen import is_kept
from pipeline.models.load import base_of, load_policy, load_tokenizer
from pipeline.rl.critic_start import (
    CriticStart,
    copy_without_adapters,
    find_saved_critic,
    start_from_folder,
    start_from_reward_model,
)
from pipeline.rl.layouts.lora import AdaptedRewardModel, SharedLoraActor
from pipeline.rl.layouts.own_reference import OwnReferenceActor
from pipeline.rl.layouts.separate import SeparateActorCritic, copy_backbone
from pipeline.rl.layouts.shared_lora import SharedLoraActorCritic
from pipeline.rl.layouts.shared_trunk import SharedTrunkActorCritic
from pipeline.rl.policy_adapter import adapter_name, was_trained
from pipeline.rl.precision import keep_masters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.rl.actor import Actor
    from pipeline.rl.actor_critic import ActorCritic
    from pipeline.rl.config.ppo import PPOConfig


def find_policy(model: str | nn.Module) -> nn.Module:
    """Return a causal language model: itself, or that of a folder or a hub id, in fp32.

    An adapter's folder gives its base with the adapter on it, which is then what is trained.
    """
    if not isinstance(model, str):
        return model
    source = StageInput(model, "policy", model)
    base = base_of(source)
    if base is None:
        return load_policy(source)
    return adapters.attach(load_policy(base), Path(model))


def find_tokenizer(model: str | nn.Module) -> PreTrainedTokenizerBase:
    """Return the tokenizer that lies beside a model."""
    name = model if isinstance(model, str) else getattr(model, "name_or_path", "")
    if not name:
        raise ValueError("a model without a folder needs `processing_class`, its tokenizer")
    return load_tokenizer(StageInput(str(name), "policy", str(name)))


@dataclass(frozen=True)
class Start:
    """What an ActorCritic is made of.

    policy: a causal language model, or a PEFT model, whose active adapter is then trained.
    reference: what KL is measured to; None for the policy as it comes in.
    """

    policy: nn.Module
    critic: CriticStart = field(default_factory=CriticStart)
    reference: PreTrainedModel | None = None


def add_adapter(policy: nn.Module, peft_config: Any) -> nn.Module:
    """Return the policy with a new adapter; itself without a config."""
    if peft_config is None:
        return policy
    if is_peft_model(policy):
        message = "the model has an adapter already, which is trained; leave `peft_config` out"
        raise ValueError(f"{message}, or merge it first")
    from peft import get_peft_model

    return get_peft_model(policy, peft_config)  # pyright: ignore[reportArgumentType]


def refuse_beside_actor(**parts: Any) -> None:
    """Raise ValueError for what is given beside an ActorCritic, which has all of it."""
    for name, part in parts.items():
        if part is not None:
            raise ValueError(
                f"the model is an ActorCritic, which has critic and reference: leave `{name}` out"
            )


def build_actor_critic(start: Start, args: PPOConfig) -> ActorCritic:
    """Return policy, reference and critic in the layout that was asked for.

    Raises ValueError for parts that do not go together.
    """
    policy: Any = start.policy
    adapter = adapter_name(policy) if is_peft_model(policy) else None
    keep_masters(policy, "policy")
    layout = layout_of(
        args, start.critic, is_adapted=adapter is not None, reference=start.reference
    )
    if layout == "shared_lora":
        actor = _shared_lora(policy, adapter, start)
        start.critic.start(actor)
        return actor
    named = {} if adapter is None else {"adapter": adapter}
    reference = _reference_of(policy, adapter, start.reference)
    if layout == "shared_trunk":
        if start.critic.kind != "policy" or start.critic.score is not None:
            raise ValueError("in the layout `shared_trunk` the critic is a head on the policy")
        detach = args.detach_value_trunk
        actor = SharedTrunkActorCritic(policy, reference, detach=detach, **named)
    else:
        network = start.critic.network
        if network is not None:
            critic: Any = copy.deepcopy(network)
        elif adapter is None:
            critic = copy_backbone(policy)
        else:
            critic = copy_without_adapters(policy).base_model
        keep_masters(critic.requires_grad_(requires_grad=True), "critic")
        actor = SeparateActorCritic(policy, critic, reference, **named)
    start.critic.start(actor)
    return actor


def make_actor_critic(
    model: str | nn.Module,
    rewards: Sequence[Any],
    args: PPOConfig,
    *,
    critic: str | nn.Module | None,
    ref_model: PreTrainedModel | None,
    peft_config: Any,
) -> ActorCritic:
    """Return the ActorCritic of what PPOTrainer is given; see there."""
    policy = add_adapter(find_policy(model), peft_config)
    begun = choose_critic(critic, policy, rewards, args)
    return build_actor_critic(Start(policy, begun, ref_model), args)


def make_actor(
    model: str | nn.Module, *, ref_model: PreTrainedModel | None = None, peft_config: Any = None
) -> Actor:
    """Return the Actor of what a trainer without a critic is given; see GroupTrainer."""
    return build_actor(add_adapter(find_policy(model), peft_config), ref_model)


def build_actor(policy: Any, reference: PreTrainedModel | None = None) -> Actor:
    """Return policy and reference; an adapter shares its network with the reference.

    Raises ValueError for an adapter that cannot be trained.
    """
    adapter = adapter_name(policy) if is_peft_model(policy) else None
    keep_masters(policy, "policy")
    if adapter is not None and reference is None:
        is_adapted = was_trained(policy, adapter)
        return SharedLoraActor(policy, name=adapter, is_reference_adapted=is_adapted)
    named = {} if adapter is None else {"adapter": adapter}
    return OwnReferenceActor(policy, _reference_of(policy, adapter, reference), **named)


def _reference_of(policy: Any, adapter: str | None, reference: Any) -> Any:
    """Return a network of the reference's own: as given, or the policy as it comes in.

    None where that is the policy without its adapter.
    """
    if reference is not None:
        return reference
    if adapter is None:
        return copy.deepcopy(policy)
    if not was_trained(policy, adapter):
        return None
    copied = copy.deepcopy(policy)
    # Merged into few bits it would be another one.
    is_exact = copied.dtype == torch.float32 and not is_kept(copied)
    return copied.merge_and_unload() if is_exact else copied.get_base_model()


def layout_of(
    args: PPOConfig, critic: CriticStart, *, is_adapted: bool, reference: Any = None
) -> str:
    """Return the layout: adapters share a network where nothing needs one of its own."""
    if args.layout != "auto":
        return args.layout
    if critic.kind == "adapter" and reference is not None:
        raise ValueError(
            "a critic that is an adapter shares the policy's network, and then the reference is "
            "the policy as it came in: leave `ref_model` out, or give another critic"
        )
    is_shareable = is_adapted and critic.kind != "network" and reference is None
    return "shared_lora" if is_shareable else "separate"


def _shared_lora(policy: Any, adapter: str | None, start: Start) -> SharedLoraActorCritic:
    if adapter is None:
        raise ValueError("the layout `shared_lora` trains adapters; give a `peft_config`")
    if start.reference is not None:
        raise ValueError("the layout `shared_lora` has the policy as it came in for its reference")
    if start.critic.kind == "network":
        message = "in the layout `shared_lora` the critic starts from the policy, or is an adapter"
        raise ValueError(message)
    return SharedLoraActorCritic(
        policy,
        name=adapter,
        critic=start.critic.adapter,
        is_reference_adapted=was_trained(policy, adapter),
    )


def choose_critic(
    start: str | nn.Module | None, policy: Any, rewards: Sequence[Any], args: PPOConfig
) -> CriticStart:
    """Return what a critic begins as; see PPOTrainer. policy: with its adapter, if it has one."""
    is_adapted = bool(is_peft_model(policy))
    reward_models: list[nn.Module] = [reward for reward in rewards if _is_reward_model(reward)]
    source = critic_source(
        start, layout=args.layout, is_adapted=is_adapted, reward_models=reward_models
    )
    if isinstance(source, nn.Module):
        terms = [number for number, reward in enumerate(rewards) if reward is source]
        return start_from_reward_model(source, terms[0] if terms else None)
    if source == "policy":
        return CriticStart()
    is_shared = is_adapted and args.layout in ("auto", "shared_lora")
    return start_from_folder(find_saved_critic(source), policy, is_shared=is_shared)


def _is_reward_model(reward: Any) -> bool:
    is_classifier = isinstance(reward, nn.Module) and hasattr(reward, "score")
    return is_classifier and not isinstance(reward, AdaptedRewardModel)
