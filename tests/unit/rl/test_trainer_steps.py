"""The optimizer steps of a rollout: how many, of which gradients, at which rates."""

import copy
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import TrainerCallback

from pipeline.rl.ppo import PPOTrainer
from tests.ppo_tasks import tiny_llama
from tests.unit.rl.small_trainers import (
    SMALL,
    MakeTrainer,
    Written,
    are_same,
    lines_of,
    weights_of,
)

ONE_LAYER = {
    **{"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2},
    **{"num_hidden_layers": 1},
}


class Steps(TrainerCallback):
    """Looks at the gradients of every optimizer step, just before it is made."""

    def __init__(self) -> None:
        self.norms: list[tuple[float, float]] = []
        self.rates: list[float] = []
        self.trainer: Any = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        actor = self.trainer.model
        both = (actor.policy_parameters(), actor.critic_parameters())
        self.norms.append((norm_of(both[0]), norm_of(both[1])))
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])


def norm_of(parameters: Sequence[Any]) -> float:
    squares = [
        float(each.grad.double().pow(2).sum()) for each in parameters if each.grad is not None
    ]
    return sum(squares) ** 0.5


def watched(make_trainer: MakeTrainer, module: Any, **settings: Any) -> tuple[PPOTrainer, Steps]:
    steps = Steps()
    trainer = make_trainer(module, callbacks=[steps], **settings)
    steps.trainer = trainer
    return trainer, steps


@pytest.mark.parametrize("mini_batches", [1, 2, 4])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_every_mini_batch_of_every_epoch_is_an_optimizer_step(
    accumulation: int, mini_batches: int, make_trainer: MakeTrainer
) -> None:
    """B17, B52: also with accumulation; the schedule counts these steps, and ends at 0."""
    trainer, steps = watched(
        make_trainer,
        tiny_llama(0, 32, **ONE_LAYER),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulation,
        num_mini_batches=mini_batches,
        total_episodes=2 * accumulation * mini_batches,
        rewards=lambda completion_ids, **_: [1.0 + sum(ids) for ids in completion_ids],
        whiten_advantages=False,
        learning_rate=1e-3,
        **{**SMALL, "num_ppo_epochs": 2},
    )
    before = weights_of(trainer.model)
    trainer.train()
    number = 2 * 2 * mini_batches
    assert len(steps.norms) == trainer.state.global_step == number
    assert all(norm > 0 for both in steps.norms for norm in both)
    assert not are_same(weights_of(trainer.model), before)
    schedule: Any = trainer.lr_scheduler
    assert set(schedule.get_last_lr()) == {0.0}
    expected = [1e-3 * (1 - step / number) for step in range(number)]
    assert steps.rates == pytest.approx(expected)
    lines = lines_of(trainer)
    assert [line["episode"] for line in lines] == [
        accumulation * mini_batches * rollout for rollout in (1, 2)
    ]
    assert all(line["policy/ratio_first"] <= 1 + 1e-5 for line in lines)


@pytest.mark.parametrize("aggregation", ["token", "seq", "seq_sum"])
def test_a_step_does_not_depend_on_how_its_rows_are_split(
    aggregation: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    """B19, B20: weights after one step and after eight are those of one pass over all 8 rows."""
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    lengths: list[int] = []
    # On gradients near 0, Adam would make much of their rounding.
    settings = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "adam_epsilon": 1e-3}
    for accumulation in (1, 2, 4, 8) if aggregation == "token" else (1, 4):
        for num_steps in (1, 8) if aggregation == "token" else (8,):
            trainer = make_trainer(
                copy.deepcopy(llama),
                per_device_train_batch_size=8 // accumulation,
                gradient_accumulation_steps=accumulation,
                num_mini_batches=2,
                num_ppo_epochs=2,
                max_steps=num_steps,
                loss_aggregation=aggregation,
                missing_eos_penalty=1.0,
                **settings,
            )
            start = weights_of(trainer.model)
            trainer.train()
            if num_steps == 8:
                lengths += [int(line["completions/length_min"]) for line in lines_of(trainer)]
            found[accumulation, num_steps] = weights_of(trainer.model)
            assert not are_same(found[accumulation, num_steps], start)
    assert min(lengths) < 5
    for (accumulation, num_steps), weights in found.items():
        for name, each in found[1, num_steps].items():
            apart = float((weights[name] - each).abs().max())
            assert apart <= 1e-6, (accumulation, num_steps, name)


def test_loss_aggregations_are_means_of_what_they_say(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """B19: the value loss of the first step, whose values are 0, by hand; rows of 5, 1 and 3."""
    written = [[7, 5, 7, 6, 5], [1], [7, 6, 1], [5]]
    found: dict[str, float] = {}
    for aggregation in ("token", "seq", "seq_sum"):
        trainer = make_trainer(
            copy.deepcopy(llama),
            loss_aggregation=aggregation,
            total_episodes=4,
            cliprange_value=None,
            **{**SMALL, "max_completion_length": 5, "kl_coef": 0.0, "lam": 1.0},
        )
        trainer.collector.sampler = Written(written)
        trainer.train()
        found[aggregation] = lines_of(trainer)[0]["loss/value"]
    # The return of every token is the number of sevens of its row.
    halves = [[2.0] * 5, [0.0], [0.5] * 3, [0.0]]
    assert found["token"] == pytest.approx(sum(map(sum, halves)) / 10, rel=1e-5)
    means = [sum(row) / len(row) for row in halves]
    assert found["seq"] == pytest.approx(sum(means) / 4, rel=1e-5)
    assert found["seq_sum"] == pytest.approx(sum(map(sum, halves)) / 4, rel=1e-5)


def test_gradients_are_clipped_for_policy_and_critic_apart(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """B18: the norms that are logged are those before, what is applied is 1 at most."""
    trainer, steps = watched(
        make_trainer,
        llama,
        rewards=lambda completion_ids, **_: [1e3 * ids.count(7) for ids in completion_ids],
        whiten_advantages=False,
        cliprange_value=None,
        total_episodes=4,
        **{**SMALL, "max_completion_length": 5},
    )
    trainer.train()
    (line,) = lines_of(trainer)
    ((policy, critic),) = steps.norms
    assert line["policy/grad_norm"] > 10
    assert line["value/grad_norm"] > 10
    assert (policy, critic) == pytest.approx((1, 1), abs=1e-4)


def test_gradients_are_left_as_they_are_without_a_limit(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    trainer, steps = watched(
        make_trainer, llama, max_grad_norm=0.0, whiten_advantages=False, total_episodes=4,
        rewards=lambda completion_ids, **_: [1e3 * ids.count(7) for ids in completion_ids], **SMALL,
    )  # fmt: skip
    trainer.train()
    (line,) = lines_of(trainer)
    ((policy, critic),) = steps.norms
    assert line["policy/grad_norm"] == pytest.approx(policy, rel=1e-5)
    assert line["value/grad_norm"] == pytest.approx(critic, rel=1e-5)
    assert policy > 10


def test_weights_decay_but_for_norms_biases_and_the_value_head(
    gpt2: Any, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(
        gpt2, weight_decay=0.1, learning_rate=1e-3, critic_learning_rate=2e-3, adam_epsilon=1e-4
    )
    groups = trainer.create_optimizer().param_groups
    names = {id(each): name for name, each in trainer.model.named_parameters()}
    members = Counter(names[id(each)] for group in groups for each in group["params"])
    trained = {
        names[id(each)]
        for each in (*trainer.model.policy_parameters(), *trainer.model.critic_parameters())
    }
    assert members == Counter(trained)
    for group in groups:
        for name in (names[id(each)] for each in group["params"]):
            is_spared = ".ln_" in name or name.endswith(".bias") or name.startswith("value_head")
            assert group["weight_decay"] == (0.0 if is_spared else 0.1), name
            assert group["lr"] == (1e-3 if name.startswith("policy") else 2e-3), name
            assert group["eps"] == 1e-4


@pytest.mark.parametrize("layout", ["separate", "shared_lora", "shared_trunk"])
def test_the_policy_stays_as_it_is_while_the_critic_warms_up(
    layout: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """B54: to the last bit, weight decay or not; then both are trained."""
    weights: list[tuple[list[Tensor], list[Tensor]]] = []

    def keep(_: Any) -> dict[str, float]:
        actor = trainer.model
        both = (actor.policy_parameters(), actor.critic_parameters())
        weights.append(tuple([each.detach().clone() for each in part] for part in both))  # pyright: ignore
        return {}

    trainer = make_trainer(
        llama,
        layout=layout,
        peft_config=lora if layout == "shared_lora" else None,
        critic_warmup_rollouts=2,
        weight_decay=0.1,
        learning_rate=1e-2,
        total_episodes=16,
        on_rollout=keep,
    )
    trainer.train()
    assert len(weights) == 4
    moves = [
        tuple(
            any(not torch.equal(a, b) for a, b in zip(one[part], other[part], strict=True))
            for part in (0, 1)
        )
        for one, other in pairwise(weights)
    ]
    assert moves == [(False, True), (False, True), (True, True)]
    lines = lines_of(trainer)
    assert [line["policy/grad_norm"] > 0 for line in lines] == [False, False, True, True]
    assert lines[0]["objective/kl"] == lines[1]["objective/kl"] == lines[2]["objective/kl"] == 0
    assert lines[3]["objective/kl_k3"] > 0


@pytest.mark.parametrize("limit", [None, 1e-4])
def test_a_policy_that_moved_far_enough_is_not_moved_on(
    limit: float | None, llama: Any, make_trainer: MakeTrainer
) -> None:
    """The rest of the rollout's steps are empty ones; the next rollout begins as always."""
    trainer, steps = watched(
        make_trainer,
        llama,
        target_approx_kl=limit,
        learning_rate=3e-2,
        num_ppo_epochs=4,
        max_grad_norm=0.0,  # norms before and after clipping are one
    )
    trainer.train()
    moved = [policy > 0 for policy, _ in steps.norms]
    lines = lines_of(trainer)
    assert len(steps.norms) == trainer.state.global_step == 8
    if limit is None:
        assert all(moved)
        assert [line["policy/cut_short"] for line in lines] == [0, 0]
        return
    # A step's own movement is seen in the next one's ratios: that one is the last.
    assert moved == [True, True, False, False] * 2
    assert all((critic > 0) == (policy > 0) for policy, critic in steps.norms)
    assert [line["policy/cut_short"] for line in lines] == [1, 1]
    assert lines[0]["policy/approxkl"] > limit / 2
    # Empty steps do not make the others look smaller.
    for line, made in zip(lines, (steps.norms[:2], steps.norms[4:6]), strict=True):
        for name, norms in zip(("policy", "value"), zip(*made, strict=True), strict=True):
            assert line[f"{name}/grad_norm"] == pytest.approx(sum(norms) / 2, rel=1e-4)
