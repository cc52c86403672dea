"""Puts an ActorCritic together out of what PPOTrainer is given: models, folders, adapters."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model
from torch import nn

from pipeline.data.chat import ChatEncoder
from pipeline.models.language import eos_token_ids
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.models.reward import load_reward_model
from pipeline.ppo.actor_critic import CRITIC, VALUE_HEAD, ActorCritic
from pipeline.ppo.rollout import LoopSampler, Sampling
from pipeline.ppo.separate import SeparateActorCritic, backbone_of
from pipeline.ppo.shared_lora import AdaptedRewardModel, SharedLoraActorCritic
from pipeline.ppo.shared_trunk import SharedTrunkActorCritic
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.terms import RewardTerm, function_term, model_term
from pipeline.stage import StageInput
from pipeline.training.precision import autocast_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.ppo.adapted import SharedReward
    from pipeline.ppo.config import PPOConfig
    from pipeline.ppo.rollout import Sampler

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def loaded_policy(model: str | nn.Module) -> nn.Module:
    """Return a causal language model: itself, or that of a folder or a hub id, in fp32."""
    if isinstance(model, str):
        return load_policy(StageInput(model, "policy", model))
    return model


def loaded_tokenizer(model: str | nn.Module) -> PreTrainedTokenizerBase:
    """Return the tokenizer that lies beside a model."""
    name = model if isinstance(model, str) else getattr(model, "name_or_path", "")
    if not name:
        raise ValueError("a model without a folder needs `processing_class`, its tokenizer")
    return load_tokenizer(StageInput(str(name), "policy", str(name)))


def loaded_rewards(given: Any) -> list[Any]:
    """Return reward functions and models as a list; folders and hub ids loaded."""
    each = given if isinstance(given, list | tuple) else [given]
    return [
        load_reward_model(StageInput(one, "reward_model", one)) if isinstance(one, str) else one
        for one in each
    ]


@dataclass(frozen=True)
class Start:
    """What an ActorCritic is made of.

    policy: a causal language model, or a PEFT model. critic: "policy", a sequence classifier with
    one output, a network, or a folder with a critic; None for the first reward model, if there is
    one. reference: what KL is measured to; None for the policy as it comes in. shared_critic: a
    reward model that the critic begins as, where they share a network.
    """

    policy: nn.Module
    rewards: Sequence[Any]
    critic: str | nn.Module | None
    reference: PreTrainedModel | None
    peft_config: Any = None
    shared_critic: SharedReward | None = None


def actor_critic(start: Start, args: PPOConfig) -> ActorCritic:
    """Return policy, reference and critic in the layout that was asked for.

    Raises ValueError for parts that do not go together.
    """
    policy = start.policy
    if start.peft_config is not None:
        from peft import get_peft_model

        policy = get_peft_model(policy, start.peft_config)  # pyright: ignore[reportArgumentType]
    if is_peft_model(policy):
        _check_adapter(policy)
    source = _critic_source(start)
    layout = args.layout
    if layout == "auto":
        is_shareable = is_peft_model(policy) and not isinstance(source, nn.Module)
        layout = "shared_lora" if is_shareable and start.reference is None else "separate"
    if layout == "shared_lora":
        return _shared_lora(policy, source, start)
    whole: Any = policy
    reference: Any = start.reference
    if reference is None and not is_peft_model(policy):
        reference = copy.deepcopy(policy)
    elif reference is None and _was_trained(policy):
        reference = copy.deepcopy(whole).merge_and_unload()
    if layout == "shared_trunk":
        if isinstance(start.critic, nn.Module):
            raise ValueError("in the layout `shared_trunk` the critic is a head on the policy")
        actor = SharedTrunkActorCritic(policy, reference, detach=args.detach_value_trunk)
        if isinstance(source, Path):
            actor.load_critic(source)
        return actor
    if isinstance(source, nn.Module):
        network: Any = source
        critic = copy.deepcopy(network.base_model)
    elif is_peft_model(policy):
        critic = _bare(whole.get_base_model())
    else:
        critic = backbone_of(whole)
    actor = SeparateActorCritic(policy, critic, reference)
    _start_head(actor, source)
    return actor


def _shared_lora(policy: Any, source: Any, start: Start) -> SharedLoraActorCritic:
    if not is_peft_model(policy):
        raise ValueError("the layout `shared_lora` trains adapters; give a `peft_config`")
    if start.reference is not None:
        raise ValueError("the layout `shared_lora` has the policy as it came in for its reference")
    begun = start.shared_critic
    actor = SharedLoraActorCritic(
        policy,
        critic=None if begun is None else (begun.config, begun.tensors),
        is_reference_adapted=_was_trained(policy),
    )
    if begun is not None:
        actor.value_head.start_from(begun.score)
    if isinstance(source, nn.Module):
        message = "in the layout `shared_lora` the critic starts from the policy, or from a folder"
        raise ValueError(message)  # noqa: TRY004
    _start_head(actor, source)
    return actor


def _check_adapter(policy: Any) -> None:
    """Raise ValueError for an adapter that is not the whole difference to the network below."""
    from pipeline.ppo.shared_lora import POLICY

    config = policy.peft_config[POLICY]
    if config.peft_type != "LORA":
        raise ValueError(f"PPO trains LoRA adapters, not {config.peft_type.value}")
    if config.bias != "none":
        raise ValueError(
            f"an adapter with bias `{config.bias}` changes the network below, by which reference "
            "and critic go; leave `bias` out"
        )


def _critic_source(start: Start) -> Any:
    """Return a module or a folder that the critic begins as; None for the policy."""
    if start.critic == "policy":
        return None
    if start.critic is not None:
        if isinstance(start.critic, nn.Module):
            return start.critic
        folder = Path(start.critic)
        below = folder / CRITIC
        folder = below if below.is_dir() else folder
        if not (folder / VALUE_HEAD).is_file():
            raise ValueError(f"`{start.critic}` holds no critic: it has no {VALUE_HEAD}")
        return folder
    models = [each for each in start.rewards if _is_reward_model(each)]
    return models[0] if models else None


def _is_reward_model(given: Any) -> bool:
    is_classifier = isinstance(given, nn.Module) and hasattr(given, "score")
    return is_classifier and not isinstance(given, AdaptedRewardModel)


def _start_head(actor: ActorCritic, source: Any) -> None:
    if isinstance(source, Path):
        actor.load_critic(source)
    elif isinstance(source, nn.Module) and hasattr(source, "score"):
        score: Any = source.score
        weight: Any = score.weight if isinstance(score, nn.Module) else score
        actor.value_head.start_from(weight)


def _was_trained(policy: Any) -> bool:
    """Whether a PEFT model's adapter changes its network already."""
    from pipeline.ppo.shared_lora import POLICY, adapter_tensors

    tensors = adapter_tensors(policy, POLICY)
    return any(
        bool(each.any())
        for name, each in tensors.items()
        if "lora_B" in name or "lora_embedding_B" in name
    )


def _bare(causal: Any) -> Any:
    """Return a copy of the network below the adapters' layers."""
    from transformers import AutoModel

    network = AutoModel.from_config(causal.config, dtype=causal.dtype)
    own = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): each
        for name, each in causal.base_model.state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }
    network.load_state_dict(own)
    return network.to(causal.device)


def sampling(causal: Any, tokenizer: PreTrainedTokenizerBase, args: PPOConfig) -> Sampling:
    """Return how completions are sampled.

    Padding that ends no response is never sampled: everything else takes it for filling.
    """
    stops = _stops(causal, tokenizer)
    pad = tokenizer.pad_token_id
    is_known = isinstance(pad, int)
    return Sampling(
        max_new_tokens=args.max_completion_length,
        temperature=args.temperature,
        eos_token_ids=stops,
        pad_token_id=pad if is_known else 0,  # pyright: ignore[reportArgumentType]
        forbidden_ids=(pad,) if is_known and pad not in stops else (),  # pyright: ignore
        batch_size=args.rollout_batch_size,
    )


def sampler(how: Sampling, args: PPOConfig) -> Sampler:
    """Return what samples completions."""
    if args.rollout_engine == "own":
        return LoopSampler(how)
    from pipeline.ppo.engines import GenerateSampler, VLLMSampler

    return GenerateSampler(how) if args.rollout_engine == "generate" else VLLMSampler(how)


def composition(
    rewards: Sequence[Any], args: PPOConfig, tokenizer: PreTrainedTokenizerBase
) -> RewardComposition:
    """Return what makes one score of several rewards; a RewardComposition stays what it is."""
    if len(rewards) == 1 and isinstance(rewards[0], RewardComposition):
        return rewards[0]
    weights = args.reward_weights or [1.0] * len(rewards)
    if len(weights) != len(rewards):
        raise ValueError(f"{len(weights)} `reward_weights` for {len(rewards)} rewards")
    terms: list[RewardTerm] = []
    for number, (each, weight) in enumerate(zip(rewards, weights, strict=True)):
        name = getattr(each, "__name__", "") or ("model" if isinstance(each, nn.Module) else "")
        name = name if name and name not in {term.name for term in terms} else f"{name}{number}"
        if isinstance(each, RewardTerm):
            terms.append(each)
        elif isinstance(each, nn.Module):
            path = getattr(each, "name_or_path", "")
            own = tokenizer if not path else _tokenizer_beside(path, tokenizer)
            module: Any = nn.Module.to(each, args.device)  # a quantised one stays where it is
            context = autocast_of(args)
            terms.append(
                model_term(module, own, name, weight, policy_tokenizer=tokenizer, autocast=context)
            )
        else:
            terms.append(function_term(each, name, weight))
    return RewardComposition(
        terms,
        normalise=args.reward_normalisation,  # pyright: ignore[reportArgumentType]
        clip=None if args.reward_clip is None else (args.reward_clip[0], args.reward_clip[1]),
        missing_eos_penalty=args.missing_eos_penalty,
        eos_penalty_mode=args.eos_penalty_mode,  # pyright: ignore[reportArgumentType]
    )


def _tokenizer_beside(path: str, otherwise: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    has_one = any((Path(path) / name).is_file() for name in _TOKENIZER_FILES)
    return loaded_tokenizer(path) if has_one else otherwise


def _stops(causal: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return every id that ends a response; ValueError if there is none."""
    encoder = ChatEncoder(tokenizer) if tokenizer.chat_template else None
    stops = eos_token_ids(causal, tokenizer, encoder)
    if not stops:
        raise ValueError("neither tokenizer nor generation config names a token that ends a text")
    return stops


def positions_of(causal: Any) -> int | None:
    """Return how many positions a model has; None if it does not say."""
    limit = getattr(causal.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None
