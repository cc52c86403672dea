"""A trainer's own copy of its arguments: the user's object stays what it is, for the next one.

What is in a RolloutConfig is checked there; here is what becomes of it on this machine.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

from accelerate.utils import DistributedType
from transformers.trainer_utils import IntervalStrategy

from pipeline.rl.log_lines import Cadence

if TYPE_CHECKING:
    from pipeline.rl.config.base import RolloutConfig

_LOG = logging.getLogger(__name__)


def own_arguments(args: RolloutConfig) -> tuple[RolloutConfig, Cadence]:
    """Return the arguments for a trainer to change, and when it logs.

    Upstream's loop logs nothing itself: a step's loss says little. Plain `python` sees every GPU of
    a machine; one of them is used, since upstream's DataParallel would wrap the model.
    """
    own = copy.copy(args)
    cadence = Cadence(own.logging_strategy == IntervalStrategy.STEPS, own.logging_first_step)
    own.logging_strategy = IntervalStrategy.NO
    own.logging_first_step = False
    if own.n_gpu > 1:
        _LOG.warning(
            "training on rollouts uses one of the %d GPUs (%s); start the program with `accelerate "
            "launch` to use them all, or hide the others by CUDA_VISIBLE_DEVICES",
            own.n_gpu,
            own.device,
        )
        own._n_gpu = 1
    return own, cadence


def settle_learning_rate(args: RolloutConfig, *, is_adapted: bool) -> None:
    """Say the policy's learning rate where it was not given."""
    if args.learning_rate is None:
        args.learning_rate = args.default_learning_rate(is_adapted=is_adapted)


def settle_steps(args: RolloutConfig, *, num_prompts: int) -> None:
    """Say in `max_steps` how many optimizer steps are made, whole rollouts unless it was given.

    Raises ValueError where there is nothing to train on.
    """
    if args.max_steps > 0:
        left = args.max_steps % args.steps_per_rollout
        if left:
            message = "`max_steps` %d ends within a rollout, which is trained on for %d steps"
            _LOG.warning(message, args.max_steps, args.steps_per_rollout)
        return
    episodes = args.total_episodes or int(args.num_train_epochs * num_prompts * args.group_size)
    if episodes < 1:
        raise ValueError(
            f"`num_train_epochs` {args.num_train_epochs} of {num_prompts} prompts is no response"
        )
    rollout_size = args.rollout_size
    rollouts = -(-episodes // rollout_size)
    if args.total_episodes is not None and episodes % rollout_size:
        message = "`total_episodes` %d becomes %d: rollouts of %d responses"
        _LOG.warning(message, episodes, rollouts * rollout_size, rollout_size)
    args.max_steps = rollouts * args.steps_per_rollout


def check_distributed(kind: DistributedType) -> None:
    """Raise ValueError for launchers that split a model over devices."""
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            "training on rollouts runs on one device, or with a process for each (DDP): not with "
            "FSDP or DeepSpeed; train an adapter where a model is too large"
        )
