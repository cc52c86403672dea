"""PPOTrainer's own work: how many steps, of which gradients, at which rates, and what is logged.

Not whether it learns (test_trainer_learns.py), not resuming, not several processes.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import TrainerCallback

from pipeline.ppo.config import PPOConfig
from pipeline.ppo.experience import ScoredRow, experience_of
from pipeline.ppo.rollout import Completion
from pipeline.ppo.trainer import PPOTrainer
from tests.ppo_tasks import first_token, tiny_llama
from tests.unit.ppo.small_trainers import (
    MakeTrainer,
    are_same,
    count_of_sevens,
    lines_of,
    shaken,
    weights_of,
)

SMALL = {"max_completion_length": 2, "num_ppo_epochs": 1}
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
    squares = [float(each.grad.double().pow(2).sum()) for each in parameters if each.grad is not None]
    return sum(squares) ** 0.5


def watched(make_trainer: MakeTrainer, module: Any, **settings: Any) -> tuple[PPOTrainer, Steps]:
    steps = Steps()
    trainer = make_trainer(module, callbacks=[steps], **settings)
    steps.trainer = trainer
    return trainer, steps


class Written:
    """A sampler that writes what it is told, one completion after the other."""

    def __init__(self, completions: Sequence[list[int]], ends: int = 1) -> None:
        self._completions = list(completions)
        self._ends = ends

    def __call__(self, module: Any, prompts: Any, *, keys: Any, **_: Any) -> list[Completion]:
        rows = [self._completions[key % len(self._completions)] for key in keys]
        return [Completion(row, row[-1:] == [self._ends], None) for row in rows]


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


def test_loss_aggregations_are_means_of_what_they_say(llama: Any, make_trainer: MakeTrainer) -> None:
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

    def keep(rows: Any, combined: Any, metrics: Any) -> dict[str, float]:
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
        for one, other in zip(weights, weights[1:], strict=False)
    ]
    assert moves == [(False, True), (False, True), (True, True)]
    lines = lines_of(trainer)
    assert [line["policy/grad_norm"] > 0 for line in lines] == [False, False, True, True]
    assert lines[0]["objective/kl"] == lines[1]["objective/kl"] == lines[2]["objective/kl"] == 0
    assert lines[3]["objective/kl_k3"] > 0


def test_every_prompt_is_asked_once_in_each_pass_over_them(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """B53: 7 prompts, rollouts of 4: 28 responses are 4 passes."""
    seen: list[int] = []

    def keep(rows: list[ScoredRow], combined: Any, metrics: Any) -> dict[str, float]:
        seen.extend(row.prompt for row in rows)
        assert all(row.prompt_ids == prompts[row.prompt]["input_ids"] for row in rows)
        return {}

    prompts = [{"input_ids": list(range(3, 4 + number))} for number in range(7)]
    trainer = make_trainer(llama, rows=prompts, num_train_epochs=4, total_episodes=None, on_rollout=keep, **SMALL)  # fmt: skip
    trainer.train()
    assert len(seen) == 28
    passes = [seen[begin : begin + 7] for begin in range(0, 28, 7)]
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert len({tuple(each) for each in passes}) > 1


@pytest.mark.parametrize("layout", ["separate", "shared_trunk"])
@pytest.mark.parametrize(
    "written", [[[], [5], [1], [7, 7, 1]], [[], []], [[1]]], ids=["some", "only empty", "only ends"]
)
def test_responses_without_tokens_or_with_one_are_trained_on(
    written: list[list[int]], layout: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    """B53, B12: neither an index out of range nor NaN, also where a step has no token at all."""
    trainer = make_trainer(
        llama,
        layout=layout,
        num_mini_batches=2,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        entropy_coef=0.1,
        truncation="bootstrap",
        rewards=lambda completion_ids, **_: [float(len(ids)) for ids in completion_ids],
    )
    trainer.collector.sampler = Written(written)
    trainer.train()
    lines = lines_of(trainer)
    assert len(lines) == 2
    for line in lines:
        assert all(torch.tensor(value).isfinite() for value in line.values())
    assert lines[0]["completions/length_min"] == min(map(len, written))
    assert all(each.isfinite().all() for each in weights_of(trainer.model).values())


def test_nothing_is_cut_off_from_what_is_sampled(llama: Any, make_trainer: MakeTrainer) -> None:
    """B45: there is no top-k to set, a model's own is left alone, and the KL is that of the whole.

    The mean of log-ratios over 512 tokens, against the KL of the two distributions by summation.
    """
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        with pytest.raises(TypeError, match=name):
            PPOConfig(output_dir="unused", **{name: 1})
    llama.generation_config.top_k = 2
    reference = copy.deepcopy(llama)
    shaken(reference.parameters(), scale=0.1)
    trainer = make_trainer(
        llama,
        ref_model=reference,
        rows=[{"input_ids": [3, 4]}],
        per_device_train_batch_size=512,
        total_episodes=512,
        scoring_batch_size=512,
        learning_rate=0.0,
        **{**SMALL, "max_completion_length": 1},
    )
    trainer.train()
    policy, other = first_token(llama, [3, 4])[1:], first_token(reference, [3, 4])[1:]
    ratios = (policy / other).log()
    kl = float((policy * ratios).sum())
    deviation = float((policy * (ratios - kl) ** 2).sum() / 512) ** 0.5
    assert kl > 0.05
    found = lines_of(trainer)[0]["objective/kl"]
    assert abs(found - kl) < 4 * deviation
    assert found > -3 * deviation


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_the_first_ratio_is_1_at_any_temperature(
    temperature: float, llama: Any, make_trainer: MakeTrainer
) -> None:
    """B23: sampler, scoring and training divide by it alike."""
    trainer = make_trainer(llama, temperature=temperature, learning_rate=1e-2)
    trainer.train()
    for line in lines_of(trainer):
        assert line["policy/ratio_first"] <= 1 + 1e-5
        assert line["rollout/logp_gap"] <= 1e-5


def test_the_first_ratio_is_1_with_rates_of_dropout(make_trainer: MakeTrainer) -> None:
    """B21: unless dropout is asked to stay on."""
    module: Any = tiny_llama(0, 32, hidden_size=16, attention_dropout=0.5)
    shaken(module.parameters(), scale=0.1)
    ratios = []
    for is_off in (True, False):
        trainer = make_trainer(copy.deepcopy(module), disable_dropout=is_off, total_episodes=4)
        trainer.train()
        ratios.append(lines_of(trainer)[0]["policy/ratio_first"])
    assert ratios[0] <= 1 + 1e-5
    assert ratios[1] > 1.001


def test_in_bf16_the_first_ratio_is_close_to_1(llama: Any, make_trainer: MakeTrainer) -> None:
    """B56: passes of other batches, by the same code in the same precision."""
    trainer = make_trainer(
        llama, bf16=True, per_device_train_batch_size=8, gradient_accumulation_steps=2,
        total_episodes=48, scoring_batch_size=5, learning_rate=1e-3,
    )  # fmt: skip
    trainer.train()
    lines = lines_of(trainer)
    assert len(lines) == 3
    assert all(line["policy/ratio_first"] <= 1 + 1e-2 for line in lines)
    assert all(each.dtype == torch.float32 for each in weights_of(trainer.model).values())


def test_the_old_logprobs_can_be_the_samplers(llama: Any, make_trainer: MakeTrainer) -> None:
    """One forward pass less; in fp32 the ratio still is 1, and training is the same."""
    found = []
    for is_reused in (False, True):
        trainer = make_trainer(
            copy.deepcopy(llama), reuse_rollout_logprobs=is_reused, learning_rate=1e-2
        )
        trainer.train()
        assert all(line["policy/ratio_first"] <= 1 + 1e-5 for line in lines_of(trainer))
        found.append(weights_of(trainer.model))
    for name, each in found[0].items():
        torch.testing.assert_close(found[1][name], each, atol=1e-4, rtol=0)


def row(has_eos: bool, after: float) -> ScoredRow:
    """Return a response of two tokens, on which policy and reference agree."""
    logprobs = torch.tensor([-1.0, -2.0])
    return ScoredRow(
        **{"number": 0, "prompt": 0, "prompt_ids": [3], "completion_ids": [4, 5]},
        **{"has_eos": has_eos, "logprobs": logprobs, "reference": logprobs, "sampled": None},
        **{"values": torch.tensor([0.5, 0.4]), "value_after": after, "entropy": 1.0},
        rewards=torch.zeros(1),
    )


@pytest.mark.parametrize(
    ("truncation", "advantages"),
    [("terminal", [[-0.48, -0.4], [-0.48, -0.4]]), ("bootstrap", [[-0.48, -0.4], [0.185, 0.3]])],
)
def test_what_comes_after_a_response_that_was_cut(
    truncation: str, advantages: list[list[float]], tmp_path: Any
) -> None:
    """B57: the critic's value there, if asked; nothing comes after one that ended."""
    args = PPOConfig(output_dir=str(tmp_path), truncation=truncation, whiten_advantages=False)
    rows = [row(has_eos=True, after=0.7), row(has_eos=False, after=0.7)]
    found, _ = experience_of(rows, torch.zeros(2), 0.05, args)
    torch.testing.assert_close(found.advantages, torch.tensor(advantages), atol=1e-6, rtol=0)
    expected = found.advantages + torch.tensor([0.5, 0.4])
    torch.testing.assert_close(found.returns, expected, atol=1e-6, rtol=0)


def test_the_value_after_a_response_reaches_its_returns(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """B57: a critic that says 3 everywhere keeps saying it, where nothing is earned."""
    trainer = make_trainer(
        llama,
        rewards=lambda completion_ids, **_: [0.0] * len(completion_ids),
        truncation="bootstrap",
        total_episodes=4,
    )
    with torch.no_grad():
        trainer.model.value_head.bias.fill_(3.0)
    trainer.collector.sampler = Written([[5, 6, 7], [5, 1]])
    trainer.train()
    line = lines_of(trainer)[0]
    # Three tokens of a cut response return 3. One that ends returns 0, with traces of 0.95.
    returns = [3.0] * 3 + [3.0 - 0.95 * 3.0, 0.0]
    assert line["returns/mean"] == pytest.approx(sum(returns) / 5, rel=1e-5)


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


def test_means_and_counts_of_a_rollout_are_logged(llama: Any, make_trainer: MakeTrainer) -> None:
    """B15, B16: of its tokens alone; here rows of 5, 1 and 3 tokens."""
    trainer = make_trainer(
        llama, learning_rate=0.0, total_episodes=3, per_device_train_batch_size=3
    )
    trainer.collector.sampler = Written([[7, 5, 7, 6, 5], [1], [7, 6, 1]])
    with torch.no_grad():
        trainer.model.causal.get_output_embeddings().weight.zero_()
        trainer.model.value_head.bias.fill_(0.5)
    trainer.train()
    (line,) = lines_of(trainer)
    uniform = torch.tensor(31.0).log().item()  # padding is never sampled
    assert line["objective/entropy"] == pytest.approx(uniform, rel=1e-5)
    assert line["objective/logp_entropy"] == pytest.approx(3 * uniform, rel=1e-5)
    assert line["completions/length_mean"] == 3
    assert line["completions/pad_fraction"] == pytest.approx(6 / 15)
    assert line["eos_rate"] == pytest.approx(2 / 3)
    assert line["value/mean"] == pytest.approx(0.5)
    assert line["objective/scores"] == 1
    assert line["policy/ratio_mean"] == pytest.approx(1)
    assert line["policy/approxkl"] == pytest.approx(0, abs=1e-6)


def test_the_coefficient_of_the_kl_is_steered_once_a_rollout(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """B36: by the KL of whole responses, after it served for the rollout that it was measured on."""
    trainer = make_trainer(
        llama, kl_coef=0.2, kl_target=1.0, kl_horizon=40.0, num_mini_batches=2, num_ppo_epochs=3,
        total_episodes=24, learning_rate=1e-2,
    )  # fmt: skip
    trainer.train()
    lines = lines_of(trainer)
    coefs = [line["objective/kl_coef"] for line in lines] + [trainer.kl.coef]
    assert len(coefs) == 4
    assert coefs[0] == 0.2
    for line, before, after in zip(lines, coefs[:-1], coefs[1:], strict=True):
        error = min(max(line["objective/kl"] - 1, -0.2), 0.2)
        assert after == pytest.approx(before * (1 + error * 8 / 40))


def test_a_kl_in_the_reward_pulls_the_policy_back(llama: Any, make_trainer: MakeTrainer) -> None:
    """B09: nothing else is rewarded; with the wrong sign it would push it further away."""
    reference = copy.deepcopy(llama)
    shaken(llama.parameters(), scale=0.05)
    trainer = make_trainer(
        llama,
        ref_model=reference,
        rewards=lambda completion_ids, **_: [0.0] * len(completion_ids),
        rows=[{"input_ids": [3, 4]}],
        per_device_train_batch_size=64,
        scoring_batch_size=64,
        total_episodes=64 * 12,
        kl_coef=1.0,
        learning_rate=3e-3,
        max_completion_length=1,
    )
    trainer.train()
    kl = [line["objective/kl_k3"] for line in lines_of(trainer)]
    assert kl[0] > 0.1
    assert kl[-1] < kl[0] / 3


def test_rewards_are_handed_the_columns_and_their_weights_count(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    seen: list[dict[str, Any]] = []

    def by_column(completion_ids: list[list[int]], bonus: list[float], **rest: Any) -> list[float]:
        seen.append(rest)
        return bonus

    trainer = make_trainer(
        llama,
        rewards=[by_column, count_of_sevens],
        reward_weights=[2.0, 0.0],
        rows=[{"input_ids": [3, 4], "bonus": 1.5}, {"input_ids": [5], "bonus": 0.5}],
        total_episodes=4,
        **SMALL,
    )
    trainer.train()
    line = lines_of(trainer)[0]
    assert line["objective/scores"] == pytest.approx(2.0)
    assert line["rewards/by_column/mean"] == pytest.approx(1.0)
    assert sorted(seen[0]["prompts"]) == ["t3 t4", "t3 t4", "t5", "t5"]
    assert seen[0]["trainer_state"] is trainer.state
