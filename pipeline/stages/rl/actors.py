"""The models of a stage that learns from rewards: policy, reference, critic, reward models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.stage import StageInput
from pipeline.errors import PosttrainError
from pipeline.files.names import CONFIG
from pipeline.models import adapters
from pipeline.models.frozen import keep_frozen
from pipeline.models.load import base_of, load_policy, load_tokenizer, on_device
from pipeline.models.reward import load_reward_model, padding_for_rewards
from pipeline.models.training import load_for_training, peft_config
from pipeline.rewards.ensemble import scales_of
from pipeline.rl.build import Start, add_adapter, build_actor, build_actor_critic
from pipeline.rl.critic_start import (
    CriticStart,
    find_saved_critic,
    has_adapter,
    start_from_reward_model,
)
from pipeline.rl.layouts.lora import SharedLoraActor
from pipeline.rl.shared_rewards import SharedReward, read_shared_adapter, read_shared_reward
from pipeline.training.arguments import refusals
from pipeline.training.precision import dtype_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedTokenizerBase

    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import StageContext
    from pipeline.rl.actor import Actor
    from pipeline.stages.rl.config import RolloutStage
    from pipeline.stages.rl.ppo_config import PpoConfig


def load_actor_critic(
    config: PpoConfig, context: StageContext, source: StageInput, args: Any
) -> tuple[Actor, dict[str, Any]]:
    """Return policy, reference and critic, and the reward models by the recipe's name."""
    inputs = _reward_models(config, context)
    can_share = config.lora is not None and args.layout in ("auto", "shared_lora")
    shared = _shared_rewards(inputs, source) if can_share else {}
    whole = {name: load_reward_model(model) for name, model in inputs.items() if name not in shared}
    begun = _start_critic(config, context, whole, shared)
    with refusals(context):
        actor = build_actor_critic(Start(_policy(config, source), begun), args)
    return actor, _put_on_device(actor, inputs, whole, shared, args)


def load_actor(
    config: RolloutStage, context: StageContext, source: StageInput, args: Any
) -> tuple[Actor, dict[str, Any]]:
    """Return policy and reference, and the reward models by the recipe's name."""
    inputs = _reward_models(config, context)
    shared = _shared_rewards(inputs, source) if config.lora is not None else {}
    whole = {name: load_reward_model(model) for name, model in inputs.items() if name not in shared}
    with refusals(context):
        actor = build_actor(_policy(config, source))
    return actor, _put_on_device(actor, inputs, whole, shared, args)


def _policy(config: RolloutStage, source: StageInput) -> Any:
    return add_adapter(load_for_training(source, config), peft_config(config, "CAUSAL_LM"))


def _reward_models(config: RolloutStage, context: StageContext) -> dict[str, StageInput]:
    """Return the reward models by the recipe's name."""
    return {name: context.model(name) for name in config.reward_models}


def _shared_rewards(
    inputs: Mapping[str, StageInput], source: StageInput
) -> dict[str, SharedReward]:
    """Return the reward models that are adapters of the policy's own base."""
    shared = {name: read_shared_reward(model, source) for name, model in inputs.items()}
    return {name: reward for name, reward in shared.items() if reward is not None}


def _put_on_device(
    actor: Actor,
    inputs: Mapping[str, StageInput],
    whole: Mapping[str, Any],
    shared: Mapping[str, SharedReward],
    args: Any,
) -> dict[str, Any]:
    """Return the reward models, frozen: networks of their own, or adapters on the policy's."""
    dtype = dtype_of(args)
    if dtype is not None:  # only now: a critic begins as one of them
        for module in whole.values():
            keep_frozen(module.requires_grad_(requires_grad=False), dtype)
    modules: dict[str, Any] = dict(whole)
    for number, (name, reward) in enumerate(shared.items()):
        if not isinstance(actor, SharedLoraActor):  # the critic has a network of its own
            modules[name] = load_reward_model(inputs[name])
            continue
        pad = _padding_id(load_tokenizer(inputs[name]))
        modules[name] = reward.put_on(actor, f"reward{number}", pad)
    return {name: on_device(module) for name, module in modules.items()}


def _start_critic(
    config: PpoConfig,
    context: StageContext,
    whole: Mapping[str, Any],
    shared: Mapping[str, SharedReward],
) -> CriticStart:
    """Return what the critic begins as."""
    source = config.critic_source
    if source == "policy":
        return CriticStart()
    terms = [number for number, term in enumerate(config.reward) if source in term.models]
    term = terms[0] if terms else None
    scale = (0.0, 1.0) if term is None else _scale_among(config.reward[term], source, context)
    if source in shared:
        reward = shared[source]
        adapter = (reward.config, reward.tensors)
        return CriticStart(adapter=adapter, score=reward.score, term=term, scale=scale)
    model = context.model(source)
    if source in whole or model.kind == "reward_model" or _is_classifier(Path(model.path)):
        module = whole[source] if source in whole else load_reward_model(model)
        return replace(start_from_reward_model(module, term), scale=scale)
    return _earlier_critic(config, context, model)


def _scale_among(term: RewardBlock, model: str, context: StageContext) -> tuple[float, float]:
    """Return mean and deviation of a reward model in an ensemble; (0, 1) of one that is alone."""
    if not term.is_ensemble:
        return 0.0, 1.0
    scale = scales_of(term, context)[term.models.index(model)]
    return scale.mean, scale.deviation


def _earlier_critic(config: PpoConfig, context: StageContext, model: StageInput) -> CriticStart:
    """Return the critic of an earlier ppo stage, or of a folder.

    As an adapter where it was one of what the policy is one of too, else as a network of its own.
    """
    try:
        folder = find_saved_critic(model.path)
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    if not has_adapter(folder):
        return CriticStart(folder=folder)
    if folder == Path(model.path):  # the critic's own folder was named
        model = StageInput(model.name, "policy", str(folder))
    source = context.model(config.model)
    layout = config.training_args.get("layout", "auto")
    if config.lora is not None and layout in ("auto", "shared_lora"):
        adapter = read_shared_adapter(folder, model, source)
        if adapter is not None:
            return CriticStart(adapter=adapter, folder=folder)
    base = base_of(model)
    assert base is not None
    network = adapters.merge(load_policy(base), folder)
    return CriticStart(network=network.base_model, folder=folder)


def _padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    number = tokenizer.convert_tokens_to_ids(padding_for_rewards(tokenizer))
    assert isinstance(number, int)
    return number


def _is_classifier(folder: Path) -> bool:
    """Whether a folder holds a sequence classifier."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    names = json.loads(path.read_text(encoding="utf-8")).get("architectures") or [""]
    return str(names[0]).endswith("ForSequenceClassification")
