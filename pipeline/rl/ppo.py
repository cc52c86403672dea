"""PPOTrainer: proximal policy optimisation of a language model, with a learned critic.

Schulman et al. 2017 as Ziegler et al. 2019 and Ouyang et al. 2022 apply it, in the loop of
trainer.py. Gradients of policy and critic are sent back one after the other, summed over processes
and clipped apart.

    trainer = PPOTrainer(
        model="my/sft-model",
        reward_funcs=[reward_model, lambda completions, **_: [-len(c) / 100 for c in completions]],
        args=PPOConfig(output_dir="ppo", num_mini_batches=4, total_episodes=10_000),
        train_dataset=Dataset.from_list([{"prompt": "Say something kind."}]),
    )
    trainer.train()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import set_seed

from pipeline.rl.actor_critic import ActorCritic
from pipeline.rl.build import find_tokenizer, make_actor_critic, refuse_beside_actor
from pipeline.rl.critic_start import check_scale, scale_to_scores
from pipeline.rl.trainer import RolloutTrainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.rollout import ScoredRow


class PPOTrainer(RolloutTrainer):
    """Trains a policy and its critic on rewards.

    model: a causal language model, a PEFT model, a folder or a hub id; or an ActorCritic, which has
        critic and reference already.
    critic: what the critic starts from: "policy", "reward" (the first reward model), a reward
        model, a network, or a folder with a critic. By default the first reward model, but the
        policy where an adapter is trained, with which it then shares a network.
    ref_model: what KL is measured to; the policy as it comes in by default.
    peft_config: trains a new adapter instead; the active adapter of a PEFT model, or of an
        adapter's folder, is trained on.
    The others: see RolloutTrainer.

    Raises ValueError for settings that cannot be trained with.
    """

    model: ActorCritic
    args: PPOConfig

    def __init__(
        self,
        model: str | nn.Module,
        reward_funcs: Any,
        args: PPOConfig,
        train_dataset: Dataset | Sequence[dict[str, Any]],
        processing_class: PreTrainedTokenizerBase | None = None,
        *,
        critic: str | nn.Module | None = None,
        ref_model: PreTrainedModel | None = None,
        peft_config: Any = None,
        **others: Any,
    ) -> None:
        parts = {"critic": critic, "ref_model": ref_model, "peft_config": peft_config}

        def make(rewards: Sequence[Any], own: Any) -> ActorCritic:
            if isinstance(model, ActorCritic):
                refuse_beside_actor(**parts)
                return model
            set_seed(own.seed)  # new adapters are drawn here, before Trainer does it
            return make_actor_critic(model, rewards, own, **parts)  # pyright: ignore[reportArgumentType]

        tokenizer = processing_class or find_tokenizer(model)
        super().__init__(make, reward_funcs, args, train_dataset, tokenizer, **others)
        check_scale(self.model, self.rewards)

    def settle_first_rollout(self, rows: list[ScoredRow]) -> list[ScoredRow]:
        """Bring a critic that began as a reward model to the scale of scores."""
        return scale_to_scores(self.model, rows, self.rewards)
