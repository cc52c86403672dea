"""Puts an ActorCritic together out of what PPOTrainer is given: models, folders, adapters."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from torch import nn

from eval.asking.sampler import StopStrings
from pipeline.config.ppo_defaults import default_critic
from pipeline.config.stage import StageInput
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.files.names import TOKENIZER, TOKENIZER_CONFIG
from pipeline.models import adapters
from pipeline.models.frozen import is_kept
from pipeline.models.language import eos_token_ids
from pipeline.models.load import base_of, load_policy, load_tokenizer
from pipeline.models.reward import load_reward_model
from pipeline.models.vocabulary import check_vocabulary
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.terms import RewardTerm, function_term, model_term
from pipeline.rl import core
from pipeline.rl.critic_start import CriticStart, bare, of_folder, of_reward_model, saved_critic
from pipeline.rl.layouts.separate import SeparateActorCritic, backbone_of
from pipeline.rl.layouts.shared_lora import AdaptedRewardModel, SharedLoraActorCritic
from pipeline.rl.layouts.shared_trunk import SharedTrunkActorCritic
from pipeline.rl.policy_adapter import adapter_name, was_trained
from pipeline.rl.precision import with_masters
from pipeline.rl.sampler import LoopSampler, Sampling
from pipeline.training.precision import autocast_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.rl.actor_critic import ActorCritic
    from pipeline.rl.config import PPOConfig
    from pipeline.rl.sampler import Sampler

_TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG)


def loaded_policy(model: str | nn.Module) -> nn.Module:
    """Return a causal language model: itself, or that of a folder or a hub id, in fp32.

    An adapter's folder gives its base with the adapter on it, which is then what is trained.
    """
    if not isinstance(model, str):
        return model
    source = StageInput(model, "policy", model)
    base = base_of(source)
    if base is None:
        return load_policy(source)
    return adapters.attached(load_policy(base), Path(model))


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

    policy: a causal language model, or a PEFT model, whose active adapter is then trained.
    reference: what KL is measured to; None for the policy as it comes in.
    """

    policy: nn.Module
    critic: CriticStart = field(default_factory=CriticStart)
    reference: PreTrainedModel | None = None


def adapted(policy: nn.Module, peft_config: Any) -> nn.Module:
    """Return the policy with a new adapter; itself without a config."""
    if peft_config is None:
        return policy
    if is_peft_model(policy):
        message = "the model has an adapter already, which is trained; leave `peft_config` out"
        raise ValueError(f"{message}, or merge it first")
    from peft import get_peft_model

    return get_peft_model(policy, peft_config)  # pyright: ignore[reportArgumentType]


def check_complete(**given: Any) -> None:
    """Raise ValueError for what is given beside an ActorCritic, which has all of it."""
    for name, each in given.items():
        if each is not None:
            raise ValueError(
                f"the model is an ActorCritic, which has critic and reference: leave `{name}` out"
            )


def actor_critic(start: Start, args: PPOConfig) -> ActorCritic:
    """Return policy, reference and critic in the layout that was asked for.

    Raises ValueError for parts that do not go together.
    """
    policy: Any = start.policy
    adapter = adapter_name(policy) if is_peft_model(policy) else None
    with_masters(policy, "policy")
    layout = layout_of(
        args, start.critic, is_adapted=adapter is not None, reference=start.reference
    )
    if layout == "shared_lora":
        actor = _shared_lora(policy, adapter, start)
        start.critic.start(actor)
        return actor
    named = {} if adapter is None else {"adapter": adapter}
    reference: Any = start.reference
    if reference is None and adapter is None:
        reference = copy.deepcopy(policy)
    elif reference is None and adapter is not None and was_trained(policy, adapter):
        reference = copy.deepcopy(policy)
        # Merged into few bits it would be another one.
        is_exact = reference.dtype == torch.float32 and not is_kept(reference)
        reference = reference.merge_and_unload() if is_exact else reference.get_base_model()
    if layout == "shared_trunk":
        if start.critic.kind != "policy" or start.critic.score is not None:
            raise ValueError("in the layout `shared_trunk` the critic is a head on the policy")
        detach = args.detach_value_trunk
        actor = SharedTrunkActorCritic(policy, reference, detach=detach, **named)
    else:
        network = start.critic.network
        if network is not None:
            critic: Any = copy.deepcopy(network)
        else:
            critic = backbone_of(policy) if adapter is None else bare(policy).base_model
        with_masters(critic.requires_grad_(requires_grad=True), "critic")
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
    policy = adapted(loaded_policy(model), peft_config)
    begun = critic_start(critic, policy, rewards, args)
    return actor_critic(Start(policy, begun, ref_model), args)


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


def critic_start(
    given: str | nn.Module | None, policy: Any, rewards: Sequence[Any], args: PPOConfig
) -> CriticStart:
    """Return what a critic begins as; see PPOTrainer. policy: with its adapter, if it has one."""
    is_adapted = bool(is_peft_model(policy))
    if given is None:
        models = [each for each in rewards if _is_reward_model(each)]
        has_model = bool(models)
        default = default_critic(args.layout, is_adapted=is_adapted, has_reward_model=has_model)
        given = models[0] if default == "reward" else None
    if isinstance(given, nn.Module):
        terms = [place for place, each in enumerate(rewards) if each is given]
        return of_reward_model(given, terms[0] if terms else None)
    if given is None or given == "policy":
        return CriticStart()
    is_shared = is_adapted and args.layout in ("auto", "shared_lora")
    return of_folder(saved_critic(given), policy, is_shared=is_shared)


def _is_reward_model(given: Any) -> bool:
    is_classifier = isinstance(given, nn.Module) and hasattr(given, "score")
    return is_classifier and not isinstance(given, AdaptedRewardModel)


def sampling(causal: Any, tokenizer: PreTrainedTokenizerBase, args: PPOConfig) -> Sampling:
    """Return how completions are sampled.

    Padding that ends no response is never sampled: everything else takes it for filling. Raises
    PosttrainError for a tokenizer with tokens that the policy's embedding lacks.
    """
    rows: int = causal.get_input_embeddings().weight.shape[0]
    check_vocabulary(tokenizer, rows, "the policy")
    stops = _stops(causal, tokenizer) | _further_stops(rows, args)
    pad = tokenizer.pad_token_id
    is_known = isinstance(pad, int) and pad < rows  # without a row it is never sampled anyway
    return Sampling(
        max_new_tokens=args.max_completion_length,
        temperature=args.temperature,
        eos_token_ids=stops,
        pad_token_id=pad if is_known else 0,  # pyright: ignore[reportArgumentType]
        forbidden_ids=(pad,) if is_known and pad not in stops else (),  # pyright: ignore
        batch_size=args.rollout_batch_size,
        stop=_stop_strings(tokenizer, args),
    )


def sampler(how: Sampling, args: PPOConfig) -> Sampler:
    """Return what samples completions."""
    if args.rollout_engine == "own":
        return LoopSampler(how)
    from pipeline.rl.engines import GenerateSampler, VLLMSampler

    if args.rollout_engine == "generate":
        return GenerateSampler(how)
    return VLLMSampler(how, mode=args.vllm_mode, options=args.vllm_options)  # pyright: ignore[reportArgumentType]


def kl_controller(args: PPOConfig) -> core.FixedKL | core.AdaptiveKL:
    """Return what decides the coefficient of the KL penalty."""
    if args.kl_target is None:
        return core.FixedKL(args.kl_coef)
    return core.AdaptiveKL(args.kl_coef, args.kl_target, args.kl_horizon)


def composition(
    rewards: Sequence[Any], args: PPOConfig, tokenizer: PreTrainedTokenizerBase
) -> RewardComposition:
    """Return what makes one score of several rewards; a RewardComposition stays what it is."""
    if len(rewards) == 1 and isinstance(rewards[0], RewardComposition):
        _check_left(args, rewards[0])
        return rewards[0]
    weights = args.reward_weights or [1.0] * len(rewards)
    if len(weights) != len(rewards):
        raise ValueError(f"{len(weights)} `reward_weights` for {len(rewards)} rewards")
    terms: list[RewardTerm] = []
    for number, (each, weight) in enumerate(zip(rewards, weights, strict=True)):
        name = getattr(each, "__name__", "") or ("model" if isinstance(each, nn.Module) else "")
        name = name if name and name not in {term.name for term in terms} else f"{name}{number}"
        if isinstance(each, RewardTerm):
            if args.reward_weights and each.weight != weight:
                raise ValueError(f"`reward_weights` has {weight} for a RewardTerm of {each.weight}")
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


def _check_left(args: PPOConfig, rewards: RewardComposition) -> None:
    """Raise ValueError for a setting of the rewards that a RewardComposition has otherwise."""
    clip = None if args.reward_clip is None else tuple(args.reward_clip)
    for name, asked, default, own in (
        ("reward_weights", args.reward_weights, None, [each.weight for each in rewards.terms]),
        ("reward_normalisation", args.reward_normalisation, "none", rewards.normalise),
        ("reward_clip", clip, None, rewards.clip),
        ("missing_eos_penalty", args.missing_eos_penalty, None, rewards.missing_eos_penalty),
        ("eos_penalty_mode", args.eos_penalty_mode, "subtract", rewards.eos_penalty_mode),
    ):
        if asked not in (default, own):
            raise ValueError(
                f"`{name}` is {asked}, and the RewardComposition has {own}; say it there"
            )


def _tokenizer_beside(path: str, otherwise: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a reward model's own tokenizer: of a hub id, or of a folder that has one."""
    folder = Path(path)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return otherwise
    return loaded_tokenizer(path)


def _stops(causal: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return every id that ends a response; ValueError if there is none."""
    encoder = ChatEncoder(tokenizer) if tokenizer.chat_template else None
    stops = eos_token_ids(causal, tokenizer, encoder)
    if not stops:
        raise ValueError("neither tokenizer nor generation config names a token that ends a text")
    return stops


def _further_stops(rows: int, args: PPOConfig) -> frozenset[int]:
    """Return the ids that the config lets end a response; ValueError for one that is none."""
    for token in args.stop_token_ids or ():
        if not 0 <= token < rows:
            raise ValueError(f"`stop_token_ids` has {token}, and the model writes {rows} tokens")
    return frozenset(args.stop_token_ids or ())


def _stop_strings(tokenizer: PreTrainedTokenizerBase, args: PPOConfig) -> StopStrings | None:
    """Return the texts that end a response; ValueError for a control token, which is no text."""
    for text in args.stop_strings or ():
        if text in tokenizer.all_special_tokens:
            number = tokenizer.convert_tokens_to_ids(text)
            raise ValueError(
                f"`stop_strings` has the control token `{text}`; write `stop_token_ids: [{number}]`"
            )
    return StopStrings(tokenizer, args.stop_strings) if args.stop_strings else None
