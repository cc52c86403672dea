"""PPOTrainer: proximal policy optimisation of a language model, with a learned critic.

Schulman et al. 2017 as Ziegler et al. 2019 and Ouyang et al. 2022 apply it, in transformers' own
training loop: checkpoints, schedules, callbacks and several processes (DDP) are its. The loop's
data are the numbers of the forward passes to make; everything else about a pass (which prompts were
sampled, which rows it trains on) is a pure function of its number and the seed, or is in the
checkpoint, so that a run that is killed anywhere goes on exactly as it would have. Gradients of
policy and critic are sent back one after the other, summed over processes and clipped apart.

    trainer = PPOTrainer(
        model="my/sft-model",
        reward_funcs=[reward_model, lambda completions, **_: [-len(c) / 100 for c in completions]],
        args=PPOConfig(output_dir="ppo", num_mini_batches=4, total_episodes=10_000),
        train_dataset=Dataset.from_list([{"prompt": "Say something kind."}]),
    )
    trainer.train()
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType, gather_object, is_peft_model
from accelerate.utils.memory import clear_device_cache
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, set_seed

from eval.model import positions_of
from pipeline.config.ppo_defaults import default_learning_rate
from pipeline.models.dropout import without_dropout
from pipeline.rewards.responses import source_in
from pipeline.rl import build, checkpoint, core
from pipeline.rl.actor_critic import ActorCritic, evaluating
from pipeline.rl.arguments import own_arguments, settle_steps
from pipeline.rl.collector import Collector
from pipeline.rl.critic_start import check_scale, on_the_scale_of_scores
from pipeline.rl.evaluation import EvaluatesPrompts
from pipeline.rl.experience import Experience, ScoredRow, experience_of
from pipeline.rl.gradients import clipped_norm, sum_over_processes
from pipeline.rl.log_lines import line_of
from pipeline.rl.logprobs import check_head
from pipeline.rl.losses import Batch, Losses
from pipeline.rl.optimizer import check_trains, parameter_groups
from pipeline.rl.precision import keep_as_multiplied
from pipeline.rl.prompts import prompts_of
from pipeline.rl.resume_settings import digest_of_reference, made_with
from pipeline.rl.sampling_order import dealt, of_like_length, prompts_of_rollout, rows_of_step
from pipeline.rl.step_totals import StepTotals
from pipeline.training.precision import autocast_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.rewards.composition import Combined
    from pipeline.rl.config import PPOConfig

    OnRollout = Callable[[list[ScoredRow], Combined, dict[str, float]], dict[str, float]]


class PPOTrainer(EvaluatesPrompts, Trainer):
    """Trains a policy and its critic on rewards.

    model: a causal language model, a PEFT model, a folder or a hub id; or an ActorCritic, which has
    critic and reference already. reward_funcs: functions in TRL's calling convention, sequence
    classifiers with one output, folders or hub ids of such; or a RewardComposition.
    train_dataset: rows with `prompt` (text, or messages) or `input_ids`; other columns are handed
    to the reward functions. critic: what the critic starts from: "policy", a reward model, a
    network, or a folder with a critic; by default the first reward model, but the policy where an
    adapter is trained, with which it then shares a network. ref_model: what KL is measured to; the
    policy as it comes in by default. peft_config: trains a new adapter instead; the active adapter
    of a PEFT model, or of an adapter's folder, is trained on. on_rollout: called
    with a rollout's rows, their scores and its metrics, to which what it returns is added.
    eval_dataset: prompts like those of train_dataset for `eval_strategy` and `evaluate`, or several
    sets of them by name. `notes`: JSON of the caller's that goes into checkpoints.

    What is trained is kept in fp32, also of a model in bf16. With `bf16` in `args` networks compute
    in it, and frozen projections are put into it: of a `ref_model`, and below an adapter.

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
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        on_rollout: OnRollout | None = None,
        eval_dataset: Any = None,
    ) -> None:
        args, self.cadence = own_arguments(args)
        tokenizer = processing_class or build.loaded_tokenizer(model)
        rewards = build.loaded_rewards(reward_funcs)
        if isinstance(model, ActorCritic):
            actor = model
            build.check_complete(critic=critic, ref_model=ref_model, peft_config=peft_config)
        else:
            set_seed(args.seed)  # new adapters are drawn here, before Trainer does it
            policy = build.adapted(build.loaded_policy(model), peft_config)
            begun = build.critic_start(critic, policy, rewards, args)
            actor = build.actor_critic(build.Start(policy, begun, ref_model), args)
        if args.learning_rate is None:
            args.learning_rate = default_learning_rate(is_adapted=bool(is_peft_model(actor.policy)))
        keep_as_multiplied(actor, args)
        self.prompts = prompts_of(train_dataset, tokenizer, args, positions_of(actor.causal.config))
        if args.disable_dropout:
            without_dropout(actor, saved=actor.networks())
        super().__init__(
            model=actor,
            args=args,
            train_dataset=train_dataset,  # pyright: ignore[reportArgumentType]
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            data_collator=_pass_number,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        _check_distributed(self.accelerator.distributed_type)
        if optimizers[0] is not None:
            check_trains(optimizers[0], actor)
        autocast = autocast_of(args)
        with evaluating(actor), autocast():
            check_head(actor.causal)
        self.rewards = build.composition(rewards, args, tokenizer)
        check_scale(actor, self.rewards)
        self.kl = build.kl_controller(args)
        sampling = build.sampling(actor.causal, tokenizer, args)
        self.collector = Collector(
            actor=actor,
            sampler=build.sampler(sampling, args),
            sampling=sampling,
            rewards=self.rewards,
            tokenizer=tokenizer,
            args=args,
            device=args.device,
            autocast=autocast,
        )
        self.losses = Losses(actor, args, sampling.forbidden_ids, autocast)
        self.notes: dict[str, Any] = {}
        self.totals = StepTotals()
        self.rollout = -1  # whose experience is trained on
        self.rollout_metrics: dict[str, float] = {}
        self.experience: Experience | None = None
        self.is_cut_short = False  # this rollout's epochs: the policy moved far enough
        self.step_norm: Tensor | None = None
        self.on_rollout = on_rollout
        self._dealt: list[list[list[int]]] = []
        self._weights = torch.zeros(0)
        self.training_s = 0.0
        self._reference = digest_of_reference(actor)
        settle_steps(args, num_prompts=len(self.prompts), rollout_size=self.rollout_size)
        self.add_callback(_AfterStep(self))
        self.eval_prompts = self.prompts_to_evaluate(eval_dataset)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as upstream's trainer does; a second time from the weights that there are."""
        self.experience, self.rollout, self.totals = None, -1, StepTotals()
        return super().train(*args, **kwargs)

    def made_with(self) -> dict[str, Any]:
        """Return what a checkpoint must have been made with to be resumed, as JSON."""
        return made_with(
            self.args,
            rollout_size=self.rollout_size,
            rewards=self.rewards,
            prompts=self.prompts,
            reference=self._reference,
        )

    @property
    def rollout_size(self) -> int:
        """Responses of one rollout, over all processes."""
        per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return per_step * self.args.world_size * self.args.num_mini_batches

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the numbers of the forward passes; the same ones on every process."""
        passes = self.args.max_steps * self.args.gradient_accumulation_steps
        return DataLoader(range(passes), batch_size=1, collate_fn=_pass_number)  # pyright: ignore[reportArgumentType]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Send the gradients of one forward pass back; sum them over processes after the last."""
        parts = self.args.gradient_accumulation_steps
        step, part = divmod(inputs["number"], parts)
        rollout, place = divmod(step, self.args.steps_per_rollout)
        epoch, mini_batch = divmod(place, self.args.num_mini_batches)
        if self.experience is None:
            self._begin(rollout)
        assert self.rollout == rollout
        began = time.perf_counter()
        if part == 0:
            self._deal(epoch, mini_batch)
        loss = torch.zeros((), device=self.args.device)
        if not self.is_cut_short:
            self.model.train()
            rows = self._dealt[part][self.args.process_index]
            for alike in of_like_length(rows, self.args.device.type):
                batch = Batch.of(
                    self.experience,  # pyright: ignore[reportArgumentType]
                    self._weights,
                    alike,
                    pad=self.collector.sampling.pad_token_id,
                    device=self.args.device,
                )
                loss = loss + self.losses.send_back(
                    batch,
                    self.totals,
                    trains_policy=rollout >= self.args.critic_warmup_rollouts,
                    is_first=place == 0,
                )
            if part == parts - 1 and self.args.world_size > 1:
                sum_over_processes(self._trained())
            empties = self.args.torch_empty_cache_steps
            if part == parts - 1 and empties and step % empties == 0:
                clear_device_cache()
        self.training_s += time.perf_counter() - began
        return loss

    def _begin(self, rollout: int) -> None:
        """Sample and score a rollout's responses, and make of them what to train on."""
        size, rank, ranks = self.rollout_size, self.args.process_index, self.args.world_size
        chosen = prompts_of_rollout(len(self.prompts), size, seed=self.args.seed, rollout=rollout)
        numbers = list(range(rank, size, ranks))
        own, logged = self.collector.collect(
            [self.prompts[chosen[number]] for number in numbers],
            numbers,
            first=rollout * size,
            prompt_numbers=[chosen[number] for number in numbers],
            state=self.state,
        )
        rows = sorted(gather_object(own), key=lambda row: row.number)
        combined = self.rewards.combine(
            torch.stack([row.rewards for row in rows]),
            torch.tensor([row.has_eos for row in rows]),
            gather_object([logged]),
            sources=[source_in(self.prompts[row.prompt].columns) for row in rows],
        )
        if rollout == 0:
            rows = on_the_scale_of_scores(self.model, rows, self.rewards)
        self.experience, metrics = experience_of(rows, combined.scores, self.kl.coef, self.args)
        metrics |= combined.metrics
        self.kl.update(metrics["objective/kl"], len(self.experience.prompts))
        if self.on_rollout is not None:
            metrics |= self.on_rollout(rows, combined, metrics)
        self.rollout, self.rollout_metrics, self.totals = rollout, metrics, StepTotals()
        self.is_cut_short = False

    def _deal(self, epoch: int, mini_batch: int) -> None:
        """Decide which rows each pass and process takes in this step, and how tokens weigh."""
        assert self.experience is not None
        rows = rows_of_step(
            len(self.experience.prompts),
            self.args.num_mini_batches,
            seed=self.args.seed,
            rollout=self.rollout,
            epoch=epoch,
            mini_batch=mini_batch,
        )
        self._dealt = dealt(
            rows,
            self.experience.lengths,
            parts=self.args.gradient_accumulation_steps,
            ranks=self.args.world_size,
        )
        weights = core.token_weights(
            self.experience.mask[rows],
            aggregation=self.args.loss_aggregation,  # pyright: ignore[reportArgumentType]
        )
        self._weights = torch.zeros(self.experience.mask.shape)
        self._weights[rows] = weights

    def _trained(self) -> list[nn.Parameter]:
        return [*self.model.policy_parameters(), *self.model.critic_parameters()]

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Clip the gradients of policy and critic apart; return the norm of both before it."""
        limit: float = self.args.max_grad_norm
        policy = clipped_norm(self.model.policy_parameters(), limit)
        critic = clipped_norm(self.model.critic_parameters(), limit)
        if not self.is_cut_short and any(any(part) for part in self._dealt):  # else it is empty
            self.totals.add_step(float(policy), float(critic))
        self.step_norm = torch.hypot(policy, critic)
        return self.step_norm

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm; where nothing is clipped it is found here."""
        return self._clip_grad_norm(model) if grad_norm is None else grad_norm

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the optimizer: policy and critic with learning rates of their own.

        Weights decay but for norms, biases and the value head.
        """
        if self.optimizer is None:
            given = self.optimizer_cls_and_kwargs
            cls, kwargs = given or self.get_optimizer_cls_and_kwargs(self.args, self.model.causal)
            decaying = self.get_decay_parameter_names(self.model)
            self.optimizer = cls(parameter_groups(self.model, self.args, decaying), **kwargs)
        return self.optimizer

    def after_step(self) -> None:
        """Log a line after a rollout's last step; before it, see whether its epochs go on."""
        moved = self.totals.close_step()
        step = self.state.global_step
        is_over = step % self.args.steps_per_rollout == 0
        if not is_over:
            target = self.args.target_approx_kl
            self.is_cut_short |= target is not None and moved > target
            if step < self.args.max_steps:
                return
        begin = self.rollout * self.args.steps_per_rollout
        if self.cadence.is_due(begin, step, self.state.logging_steps):
            self.log(line_of(self))
        if not is_over:  # training ends; a checkpoint of now goes on with these rows
            return
        self.experience = None
        self.training_s = 0.0
        seconds = self.collector.seconds
        seconds.update(dict.fromkeys(seconds, 0.0))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the policy, loadable by `from_pretrained`, the critic below it, and our state."""
        if not self.args.should_save:  # another process does
            return
        folder = Path(output_dir or str(self.args.output_dir))
        checkpoint.save(self, folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take policy, critic and our state from a checkpoint."""
        checkpoint.load(self, Path(resume_from_checkpoint))


class _AfterStep(TrainerCallback):
    """Tells the trainer that an optimizer step is over, before anything is saved."""

    def __init__(self, trainer: PPOTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.after_step()


def _check_distributed(kind: DistributedType) -> None:
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            "PPO runs on one device, or with a process for each (DDP): not with FSDP or "
            "DeepSpeed; train an adapter where a model is too large"
        )


def _pass_number(items: list[int]) -> dict[str, int]:
    return {"number": items[0]}
