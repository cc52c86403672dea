"""The rewards of a trainer, from functions, models and terms to one RewardComposition.

Not the terms themselves (pipeline/rewards/): here modules, functions and terms get name and weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pipeline.config.stage import StageInput
from pipeline.files.names import TOKENIZER, TOKENIZER_CONFIG
from pipeline.models.reward import load_reward_model
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.no_rewards import NoRewards
from pipeline.rewards.terms import RewardTerm, function_term, model_term
from pipeline.rl.build import find_tokenizer
from pipeline.training.precision import autocast_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.rl.config.base import RolloutConfig

_TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG)


def load_rewards(rewards: Any) -> list[Any]:
    """Return reward functions and models as a list; folders and hub ids loaded."""
    several = rewards if isinstance(rewards, list | tuple) else [rewards]
    return [
        load_reward_model(StageInput(reward, "reward_model", reward))
        if isinstance(reward, str)
        else reward
        for reward in several
    ]


def compose_rewards(
    rewards: Sequence[Any],
    args: RolloutConfig,
    tokenizer: PreTrainedTokenizerBase,
    reward_tokenizers: Any = None,
) -> RewardComposition:
    """Return what makes one score of several rewards, or what stands in place of none.

    reward_tokenizers: of reward models, one for each reward, or one alone; None for the one beside
    the model. A reward model reads the policy's tokens, so it must be the policy's vocabulary.

    Raises ValueError for rewards, weights and tokenizers that do not go together.
    """
    if not rewards and args.may_lack_rewards:
        return NoRewards()
    weights = args.reward_weights or [1.0] * len(rewards)
    if len(weights) != len(rewards):
        raise ValueError(f"{len(weights)} `reward_weights` for {len(rewards)} rewards")
    several = isinstance(reward_tokenizers, list | tuple)
    tokenizers: list[Any] = list(reward_tokenizers) if several else [reward_tokenizers]
    if len(tokenizers) not in (1, len(rewards)):
        raise ValueError(
            f"{len(tokenizers)} `reward_processing_classes` for {len(rewards)} rewards"
        )
    terms: list[RewardTerm] = []
    for number, (reward, weight) in enumerate(zip(rewards, weights, strict=True)):
        name = getattr(reward, "__name__", "") or ("model" if isinstance(reward, nn.Module) else "")
        name = name if name and name not in {term.name for term in terms} else f"{name}{number}"
        if isinstance(reward, RewardTerm):
            if args.reward_weights and reward.weight != weight:
                raise ValueError(
                    f"`reward_weights` has {weight} for a RewardTerm of {reward.weight}"
                )
            terms.append(reward)
        elif isinstance(reward, nn.Module):
            path = getattr(reward, "name_or_path", "")
            own = tokenizers[number if len(tokenizers) > 1 else 0]
            if own is None:
                own = tokenizer if not path else _tokenizer_beside(path, tokenizer)
            module: Any = nn.Module.to(reward, args.device)  # a quantised one stays where it is
            context = autocast_of(args)
            terms.append(
                model_term(module, own, name, weight, policy_tokenizer=tokenizer, autocast=context)
            )
        else:
            terms.append(function_term(reward, name, weight))
    return RewardComposition(
        terms,
        normalise=args.reward_normalisation,  # pyright: ignore[reportArgumentType]
        clip=None if args.reward_clip is None else (args.reward_clip[0], args.reward_clip[1]),
        missing_eos_penalty=args.missing_eos_penalty,
        eos_penalty_mode=args.eos_penalty_mode,  # pyright: ignore[reportArgumentType]
    )


def _tokenizer_beside(path: str, otherwise: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a reward model's own tokenizer: of a hub id, or of a folder that has one."""
    folder = Path(path)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return otherwise
    return find_tokenizer(path)
