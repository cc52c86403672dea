"""DistillTrainer: a student learns from a teacher, at the tokens that it samples itself.

Agarwal et al. 2024, "On-policy distillation of language models"; Gu et al. 2024, "MiniLLM". The
arguments of TRL's DistillationTrainer, and rewards beside the teacher if there are any:

    trainer = DistillTrainer(
        model="my/small-sft-model",
        teacher_model="my/large-sft-model",
        args=DistillConfig(output_dir="distilled"),
        train_dataset=Dataset.from_list([{"prompt": "Say something kind."}]),
    )
    trainer.train()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config.stage import StageInput
from pipeline.models.load import load_policy
from pipeline.rewards.vocabulary import check_teacher
from pipeline.rl.build import find_tokenizer
from pipeline.rl.config.distill import DistillConfig
from pipeline.rl.config.upstream import convert_config
from pipeline.rl.group_trainer import GroupTrainer
from pipeline.rl.rewards import load_rewards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DistillTrainer(GroupTrainer):
    """Trains a policy to write as its teacher would.

    teacher_model: a causal language model with the student's tokens, a folder or a hub id. It is
        frozen, and asked in the precision of training.
    train_dataset: rows with `prompt` or `input_ids`; with `lmbda` below 1 of `args`, also with
        `completion_ids`, the tokens of an answer to learn on, and perhaps a `completion_mask`.
    reward_funcs: what is earned beside; as GroupTrainer's, or none.
    The others: see GroupTrainer.

    Raises ValueError for settings that cannot be trained with, and for a teacher to which an id of
    the student's is another token.
    """

    args: DistillConfig
    config_class = DistillConfig

    def __init__(
        self,
        model: str | nn.Module,
        teacher_model: str | PreTrainedModel,
        args: Any,
        train_dataset: Dataset | Sequence[dict[str, Any]],
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        *,
        reward_funcs: Any = (),
        **others: Any,
    ) -> None:
        rewards = load_rewards(reward_funcs)
        args = convert_config(args, DistillConfig)
        _check_rewards(rewards, args)
        tokenizer = processing_class or find_tokenizer(model)
        teacher: Any = teacher_model
        if isinstance(teacher_model, str):
            check_teacher(teacher_model, find_tokenizer(teacher_model), tokenizer)
            teacher = load_policy(StageInput(teacher_model, "policy", teacher_model))
        super().__init__(
            model,
            rewards,
            args,
            train_dataset,
            eval_dataset,
            processing_class=tokenizer,
            teacher_model=teacher,
            **others,
        )


def _check_rewards(rewards: Sequence[Any], args: DistillConfig) -> None:
    """Raise ValueError for rewards that compare nothing, and for what is only of rewards."""
    if rewards and args.num_generations < 2:
        raise ValueError(
            "rewards compare the responses to one prompt with each other: write "
            f"`num_generations` 2 or more, not {args.num_generations}"
        )
    if rewards:
        return
    if args.num_generations > 1:
        message = f"`num_generations` {args.num_generations} is for rewards, and there are none"
        raise ValueError(f"{message}; leave it out")
    of_rewards = ("reward_weights", "reward_clip", "missing_eos_penalty")
    for name in of_rewards:
        if getattr(args, name) is not None:
            raise ValueError(f"`{name}` is of rewards, and there are none; leave it out")
    if args.reward_normalisation != "none":
        raise ValueError("`reward_normalisation` is of rewards, and there are none; leave it out")
