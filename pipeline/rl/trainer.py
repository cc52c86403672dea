"""RolloutTrainer: the loop of every method that learns from rewards on what the policy samples.

In transformers' own training loop: checkpoints, schedules, callbacks and several processes (DDP)
are its. Its data are the numbers of forward passes; all else about a pass is a pure function of its
number and the seed, or is in the checkpoint, so that a run that is killed anywhere resumes exactly.
What a method is, its config's Objective says (objective.py); trainers: ppo.py, grpo.py, rloo.py.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from accelerate.utils.memory import clear_device_cache
from torch.utils.data import DataLoader
from transformers import Trainer

from pipeline.models.dropout import turn_off_dropout
from pipeline.models.end_to_end import rows_of_passes
from pipeline.rewards.responses import source_in
from pipeline.rl import checkpoint
from pipeline.rl.actor_critic import ActorCritic
from pipeline.rl.arguments import (
    check_distributed,
    own_arguments,
    settle_learning_rate,
    settle_steps,
)
from pipeline.rl.batch import Batch
from pipeline.rl.collector import Collector
from pipeline.rl.core import kl_controller
from pipeline.rl.evaluation import evaluate_sets
from pipeline.rl.experience import experience_of
from pipeline.rl.gradients import clip_norm, sum_over_processes
from pipeline.rl.guarding import Guarding, Stopped
from pipeline.rl.log_lines import AfterStep, line_of
from pipeline.rl.losses import Losses
from pipeline.rl.optimizer import check_trains, parameter_groups
from pipeline.rl.policy_tools import give_policy_tools, tool_metrics
from pipeline.rl.precision import keep_as_multiplied
from pipeline.rl.prompts import prompt_sets, prompts_of
from pipeline.rl.resume_settings import digest_of_reference, made_with
from pipeline.rl.rewards import compose_rewards, load_rewards
from pipeline.rl.rollout import Rollout
from pipeline.rl.rollout_sampling import sample_rollout
from pipeline.rl.sampling import make_sampler, sampling_of
from pipeline.rl.split_moments import SplitsMoments
from pipeline.rl.state import RlState
from pipeline.rl.step_rows import StepRows
from pipeline.rl.teacher import least_positions, take_teacher
from pipeline.training.precision import autocast_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from eval.tools.tool import Tool
    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.guarding import OnSign
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import OnEvaluation, OnRollout, ScoredRow
    from pipeline.rl.teacher import Teacher


class RolloutTrainer(SplitsMoments, Trainer):
    """Trains a policy on rewards; a method of its own is a subclass that makes its actor.

    make_actor: called with the rewards, for what is trained. reward_funcs: functions in TRL's
        calling convention, sequence classifiers with one output, folders or hub ids of such, or
        RewardTerms.
    train_dataset: rows with `prompt` (text, or messages) or `input_ids`; other columns are handed
        to the reward functions.
    on_rollout: called on every process with each Rollout; what it returns is added to its metrics.
    on_sign: called with each sign of reward hacking that shows, once; by default it is logged.
    eval_dataset: prompts like those of train_dataset for `eval_strategy` and `evaluate`, or several
        sets of them by name. on_evaluation: called with their ScoredResponses, as on_rollout is.
    tools: functions that the policy may call while it answers, as TRL's `tools`; prompts that are
        messages tell it of them. How often: `max_tool_calling_iterations` of `args`.
    teacher_model: whose distributions are learnt, where the method has a teacher.

    What is trained is kept in fp32, also of a model in bf16. With `bf16` in `args` networks compute
    in it, and frozen projections are put into it: of a `ref_model`, and below an adapter.

    Raises ValueError for settings that cannot be trained with.
    """

    model: Actor
    args: RolloutConfig

    def __init__(
        self,
        make_actor: Callable[[Sequence[Any], RolloutConfig], Actor],
        reward_funcs: Any,
        args: RolloutConfig,
        train_dataset: Dataset | Sequence[dict[str, Any]],
        processing_class: PreTrainedTokenizerBase,
        *,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        on_rollout: OnRollout | None = None,
        eval_dataset: Any = None,
        on_evaluation: OnEvaluation | None = None,
        reward_processing_classes: Any = None,
        tools: Sequence[Callable[..., Any] | Tool] | None = None,
        teacher_model: PreTrainedModel | None = None,
        on_sign: OnSign | None = None,
    ) -> None:
        args, self.cadence = own_arguments(args)
        actor = make_actor(rewards := load_rewards(reward_funcs), args)
        settle_learning_rate(args, is_adapted=bool(is_peft_model(actor.policy)))
        keep_as_multiplied(actor, args)
        self._tools = give_policy_tools(tools, processing_class, args)
        self.positions = least_positions(actor.causal, teacher_model)
        self.prompts = prompts_of(
            train_dataset,
            processing_class,
            args,
            self.positions,
            tools=self._tools.told if self._tools else "",
            takes_completions=args.sampled_share < 1,
        )
        if args.disable_dropout:
            turn_off_dropout(actor, saved=actor.networks())
        super().__init__(
            model=actor,
            args=args,
            train_dataset=train_dataset,  # pyright: ignore[reportArgumentType]
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            data_collator=_pass_number,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        check_distributed(self.accelerator.distributed_type)
        check_trains(optimizers[0], actor)
        actor.try_out(autocast := autocast_of(args))
        self.rewards = compose_rewards(rewards, args, processing_class, reward_processing_classes)
        self.rl = RlState(kl_controller(*args.kl_control), self.rewards)
        self._guarding = Guarding(args, self.rewards, on_sign)
        self.stopped: Stopped | None = None  # by a sign of reward hacking
        sampling = sampling_of(actor.causal, processing_class, args)
        self.teacher: Teacher | None = None
        if teacher_model is not None:
            sampling, self.teacher = take_teacher(teacher_model, sampling, actor, args, autocast)
        use = self._tools.use if self._tools else None
        self.collector = Collector(
            actor=actor,
            sampler=make_sampler(sampling, args, processing_class, use),
            sampling=sampling,
            rewards=self.rewards,
            tokenizer=processing_class,
            args=args,
            device=args.device,
            autocast=autocast,
            tools=use,
            teacher=self.teacher,
            asks_teacher=bool(how := args.objective.distilled) and how.is_sampled,
        )
        self.losses = Losses(actor, args, sampling.forbidden_ids, autocast, self.teacher)
        self.on_rollout, self.on_evaluation = on_rollout, on_evaluation
        self._step: StepRows | None = None  # the one under way
        self.step_norm: Tensor | None = None  # for training/supervisor.py
        self.training_s = 0.0
        self.made_with = self._note_what_it_is_made_with(actor)
        settle_steps(args, num_prompts=len(self.prompts))
        self.add_callback(AfterStep(self.after_step))
        self.eval_prompts = self._encode_sets(eval_dataset)

    def _note_what_it_is_made_with(self, actor: Actor) -> Callable[[], Any]:
        """Return what a checkpoint must be made with to be resumed; weights as training began."""
        return partial(
            made_with,
            self.args,
            rewards=self.rewards,
            prompts=self.prompts,
            reference=digest_of_reference(actor),
            tools=self._tools.use if self._tools else None,
            teacher=None if self.teacher is None else self.teacher.digest(),
        )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as upstream's trainer does; a second time from the weights that there are."""
        self.rl.restart()
        self.stopped = None
        output = super().train(*args, **kwargs)
        self.go_back()
        return output

    def go_back(self) -> Stopped | None:
        """Return which sign stopped training, if one did, with a policy from before it in place."""
        self.stopped = self.stopped or self._guarding.go_back(self.rl, self.model)
        return self.stopped

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the numbers of the forward passes; the same ones on every process."""
        passes = self.args.max_steps * self.args.gradient_accumulation_steps
        return DataLoader(range(passes), batch_size=1, collate_fn=_pass_number)  # pyright: ignore[reportArgumentType]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Send the gradients of one forward pass back; sum them over processes after the last."""
        parts = self.args.gradient_accumulation_steps
        # Where the pass is, by its number alone: nothing has to be replayed in a resumed run.
        step, part = divmod(inputs["number"], parts)
        rollout, place = divmod(step, self.args.steps_per_rollout)
        epoch, mini_batch = divmod(place, self.args.parts_per_rollout)
        if self.rl.experience is None:
            self._begin(rollout)
        assert self.rl.rollout == rollout
        began = time.perf_counter()
        experience: Any = self.rl.experience
        if part == 0:
            where = {"rollout": rollout, "epoch": epoch, "mini_batch": mini_batch}
            self._step = StepRows.choose(experience, self.args, **where)
        assert self._step is not None
        loss = torch.zeros((), device=self.args.device)
        if not self.rl.is_cut_short:  # else gradients stay None, and the optimizer moves nothing
            self.model.train()
            rows = self._step.rows[part][self.args.process_index]
            for alike in rows_of_passes(rows, self.model.networks()):
                pad = self.collector.sampling.pad_token_id
                batch = Batch.of(experience, self._step, alike, pad=pad, device=self.args.device)
                loss = loss + self.losses.send_back(
                    batch,
                    self.rl.totals,
                    trains_policy=rollout >= self.args.warmup_rollouts,
                    is_first=place == 0,  # ratios are 1 here, up to rounding
                )
            if part == parts - 1 and self.args.world_size > 1:
                sum_over_processes(self._trained_parameters())
            empties = self.args.torch_empty_cache_steps
            if part == parts - 1 and empties and step % empties == 0:
                clear_device_cache()
        self.training_s += time.perf_counter() - began
        return loss

    def _begin(self, number: int) -> None:
        """Sample and score a rollout's responses, and make of them what to train on."""
        self._guarding.keep(number, self.model)
        sampled = sample_rollout(self.collector, self.prompts, self.rl, self.state)
        rows = sampled.rows
        prompts = [self.prompts[row.prompt] for row in rows]
        combined = self.rewards.combine(
            torch.stack([row.rewards for row in rows]),  # (B, K)
            torch.tensor([row.has_eos for row in rows]),
            sampled.logged,
            sources=[source_in(prompt.columns) for prompt in prompts],
        )
        if number == 0:
            rows = self.settle_first_rollout(rows)
        # The coefficient that these rewards have is the one before it is steered by their KL.
        experience, metrics = experience_of(rows, combined.scores, self.rl.kl.coef, self.args)
        metrics |= combined.metrics | sampled.metrics | tool_metrics(rows, prompts)
        self.rl.kl.update(metrics.get("objective/kl", 0.0), len(experience.prompts))
        if self.on_rollout is not None:
            of_run = {"number": number, "num_rollouts": self.args.num_rollouts}
            scored = (prompts, rows, combined.scores, self.rewards.names)
            seen = Rollout(*scored, **of_run, metrics=metrics, notes=self.rl.notes)
            metrics |= self.on_rollout(seen)
        metrics |= self._guarding.look(self.rl, rows, prompts, metrics)
        self.rl.begin(number, experience, metrics)

    def settle_first_rollout(self, rows: list[ScoredRow]) -> list[ScoredRow]:
        """Return the first rollout's rows; a critic may settle on their scale."""
        return rows

    def _trained_parameters(self) -> list[nn.Parameter]:
        return [*self.model.policy_parameters(), *self.model.critic_parameters()]

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Clip the gradients of policy and critic apart; return the norm of both before it."""
        # Apart, or the one with the larger gradients would decide how far the other moves.
        limit: float = self.args.max_grad_norm
        policy = clip_norm(self.model.policy_parameters(), limit)
        critic = clip_norm(self.model.critic_parameters(), limit)
        if self._step is not None and not (self.rl.is_cut_short or self._step.is_empty):
            self.rl.totals.add_step(float(policy), float(critic))
        self.step_norm = torch.hypot(policy, critic)
        return self.step_norm

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm; where nothing is clipped it is found here."""
        return self._clip_grad_norm(model) if grad_norm is None else grad_norm

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the optimizer: policy and critic with learning rates of their own.

        Weights decay, except norms, biases and the value head.
        """
        if self.optimizer is None:
            own = self.optimizer_cls_and_kwargs
            cls, kwargs = own or self.get_optimizer_cls_and_kwargs(self.args, self.model.causal)
            decaying = self.get_decay_parameter_names(self.model)
            self.optimizer = cls(parameter_groups(self.model, self.args, decaying), **kwargs)
            self.split_optimizer()
        return self.optimizer

    def after_step(self) -> bool:
        """Log a line after a rollout's last step; before it, see whether its epochs go on.

        Returns whether training ends here, since a sign of reward hacking stops it.
        """
        state = self.rl
        moved = state.totals.close_step()  # over all processes, so that all stop alike
        step = self.state.global_step
        is_over = step % self.args.steps_per_rollout == 0 or state.is_stopped
        if not is_over:
            target = self.args.target_approx_kl
            state.is_cut_short |= target is not None and moved > target
            if step < self.args.max_steps:
                return False
        begin = state.rollout * self.args.steps_per_rollout
        every = 1 if state.has_new_sign else self.state.logging_steps
        if self.cadence.is_due(begin, step, every):
            self.log(self._line())
        if not is_over:  # training ends; a checkpoint of now resumes with these rows
            return False
        state.experience = None
        self.training_s = 0.0
        seconds = self.collector.seconds
        seconds.update(dict.fromkeys(seconds, 0.0))
        return state.is_stopped

    def _line(self) -> dict[str, float]:
        schedule: Any = self.lr_scheduler
        return line_of(
            self.rl,
            rollout_size=self.args.rollout_size,
            rates=schedule.get_last_lr(),
            seconds={**self.collector.seconds, "train": self.training_s},
            has_critic=isinstance(self.model, ActorCritic),
        )

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Answer held-out prompts and return how good and how far away the policy is; log it.

        Raises ValueError where there are no prompts to evaluate on.
        """
        own = self.eval_prompts
        sets = own if eval_dataset is None else self._encode_sets(eval_dataset)
        if not sets:
            raise ValueError("there are no prompts to evaluate on; give an `eval_dataset`")
        metrics = evaluate_sets(
            self.collector,
            sets,
            prefix=metric_key_prefix,
            at_once=self.args.evaluated_at_once,
            state=self.state,
            on_evaluation=self.on_evaluation,
        )
        self.log(metrics)
        on_evaluate = self.callback_handler.on_evaluate
        self.control = on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _encode_sets(self, data: Any) -> dict[str, Sequence[Prompt]]:
        tokenizer: Any = self.processing_class
        told = self._tools.told if self._tools else ""
        return prompt_sets(data, tokenizer, self.args, self.positions, tools=told)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the policy, loadable by `from_pretrained`, the critic below it, and our state."""
        if not self.args.should_save:  # another process does
            return
        folder = Path(output_dir or str(self.args.output_dir))
        checkpoint.save(folder, self.model, self.rl, self.made_with())
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take policy, critic and our state from a checkpoint."""
        checkpoint.load(Path(resume_from_checkpoint), self.model, self.rl, self.made_with())

    def _load_best_model(self) -> None:
        """Take policy and critic from the best checkpoint."""
        checkpoint.load_weights(Path(str(self.state.best_model_checkpoint)), self.model)


def _pass_number(items: list[int]) -> dict[str, int]:
    return {"number": items[0]}
