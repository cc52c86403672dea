"""What the trainers of methods without a critic share: a policy, its reference, TRL's arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import set_seed

from pipeline.rl.actor import Actor
from pipeline.rl.build import find_tokenizer, make_actor, refuse_beside_actor
from pipeline.rl.config.upstream import convert_config
from pipeline.rl.trainer import RolloutTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from eval.tools.tool import Tool
    from pipeline.rl.config.groups import GroupConfig
    from pipeline.rl.guarding import OnSign
    from pipeline.rl.rollout import OnEvaluation, OnRollout


class GroupTrainer(RolloutTrainer):
    """Trains a policy on how the responses to one prompt compare.

    Arguments come in the order of TRL's trainers, whose configs serve as well. model: a causal
    language model, a PEFT model, a folder or a hub id; or an Actor, which has its
    reference already. ref_model: what KL is measured to; the policy as it comes in by default.
    peft_config: trains a new adapter instead; the active adapter of a PEFT model, or of an
    adapter's folder, is trained on. The others: see RolloutTrainer.

    Raises ValueError for settings that cannot be trained with.
    """

    args: GroupConfig
    config_class: ClassVar[type[GroupConfig]]

    def __init__(
        self,
        model: str | nn.Module,
        reward_funcs: Any,
        args: Any = None,
        train_dataset: Dataset | Sequence[dict[str, Any]] | None = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_processing_classes: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        *,
        ref_model: PreTrainedModel | None = None,
        peft_config: Any = None,
        tools: Sequence[Callable[..., Any] | Tool] | None = None,
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        on_rollout: OnRollout | None = None,
        on_evaluation: OnEvaluation | None = None,
        teacher_model: PreTrainedModel | None = None,
        on_sign: OnSign | None = None,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else getattr(model, "name_or_path", "")
            args = self.config_class(f"{Path(name).name}-{self.config_class.method}")
        if train_dataset is None:
            raise ValueError("there are no prompts to train on; give a `train_dataset`")

        def make(_: Sequence[Any], own: Any) -> Actor:
            if isinstance(model, Actor):
                refuse_beside_actor(ref_model=ref_model, peft_config=peft_config)
                return model
            set_seed(own.seed)  # new adapters are drawn here, before Trainer does it
            return make_actor(model, ref_model=ref_model, peft_config=peft_config)

        super().__init__(
            make,
            reward_funcs,
            convert_config(args, self.config_class),
            train_dataset,
            processing_class or find_tokenizer(model),
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            on_rollout=on_rollout,
            eval_dataset=eval_dataset,
            on_evaluation=on_evaluation,
            reward_processing_classes=reward_processing_classes,
            tools=tools,
            teacher_model=teacher_model,
            on_sign=on_sign,
        )
