"""Tokens that a tool wrote are context and nothing else: no loss, advantage, KL, value or entropy.

Once for what is made of a rollout: it must be what it would be were they not there. Once for what
goes back through the networks: it must be the gradient of the formula over the policy's own tokens,
by a plain forward pass of the whole conversation.
"""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.rl import core
from pipeline.rl.batch import Batch
from pipeline.rl.config.base import RolloutConfig
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.experience import Experience, experience_of
from pipeline.rl.rollout import ScoredRow
from pipeline.rl.sampler import Completion
from pipeline.rl.step_rows import StepRows
from tests.ppo_tasks import plain
from tests.unit.rl.small_trainers import CPU, MakeTrainer, gradients_of, lines_of, shaken

TOOL = [  # True where the policy wrote: one call, two calls, none, and one that ends with an answer
    [True, True, False, False, False, True, True],
    [True, False, False, True, False, True],
    [True, True, True],
    [True, True, False, False],
]
PPO = {"kl_coef": 0.2, "gamma": 0.9, "lam": 0.8}
OTHER_ENGINE = {
    "rollout_engine": "vllm",
    "vllm_importance_sampling_mode": "sequence_truncate",
}
CONFIGS: dict[str, tuple[type[RolloutConfig], dict[str, Any]]] = {
    "ppo": (PPOConfig, {**PPO, "whiten_rewards": True}),
    "ppo with a value after": (PPOConfig, {**PPO, "truncation": "bootstrap", "kl_estimator": "k3"}),
    "grpo": (GRPOConfig, {}),
    "grpo, overlong": (GRPOConfig, {"overlong_cache": 5, "max_completion_length": 6}),
    "grpo, another engine": (GRPOConfig, OTHER_ENGINE),
    "reinforce": (GRPOConfig, {"advantage_estimator": "reinforce", "beta": 0.2}),
    "rloo": (RLOOConfig, {"beta": 0.2}),
}


def make_args(name: str, folder: Path) -> RolloutConfig:
    kind, settings = CONFIGS[name]
    groups = {} if kind is PPOConfig else {"num_generations": 2}
    whole = {**plain(folder), "per_device_train_batch_size": 4, **groups, **settings}
    return kind(**whole)


def some_rows() -> list[ScoredRow]:
    """Return two groups of two responses, three of which a tool has written in."""
    generator = torch.Generator().manual_seed(2)
    rows: list[ScoredRow] = []
    for number, own in enumerate(TOOL):
        mask = torch.tensor(own)
        drawn = torch.where(mask, torch.randn(4, len(own), generator=generator) * 0.5, 0)
        drawn[3, ~mask] = math.nan  # an engine says nothing of what it did not sample
        rows.append(
            ScoredRow(
                **{"number": number, "prompt": 0, "prompt_ids": [3]},
                **{"completion_ids": list(range(5, 5 + len(own))), "has_eos": number != 3},
                **{"logprobs": drawn[0], "reference": drawn[1], "values": drawn[2]},
                **{"value_after": 0.3, "entropy": 1.0, "sampled": drawn[3], "own": mask},
                rewards=torch.zeros(1),
            )
        )
    return rows


def without_tools(row: ScoredRow) -> ScoredRow:
    """Return a row as if the tool's tokens were not there."""
    own = row.own.tolist()
    assert row.sampled is not None
    return replace(
        row,
        completion_ids=[i for i, is_own in zip(row.completion_ids, own, strict=True) if is_own],
        own=row.own[row.own],
        logprobs=row.logprobs[row.own],
        reference=row.reference[row.own],
        values=row.values[row.own],
        sampled=row.sampled[row.own],
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_rollout_is_what_it_were_without_the_tools_tokens(name: str, tmp_path: Path) -> None:
    """GAE, KL, returns, whitening and groups go over a tool's answer as if it were not there."""
    args, rows = make_args(name, tmp_path), some_rows()
    scores = torch.tensor([1.0, -0.5, 0.25, 2.0])
    found, metrics = experience_of(rows, scores, 0.2, args)
    alone, expected = experience_of([without_tools(row) for row in rows], scores, 0.2, args)
    for place, row in enumerate(rows):
        own, length = row.own, int(row.own.sum())
        for field in ("mask", "logprobs", "reference", "values", "advantages", "returns"):
            here = getattr(found, field)[place]
            there = getattr(alone, field)[place, :length]
            torch.testing.assert_close(here[: len(own)][own], there, atol=1e-6, rtol=0)
            assert not here[: len(own)][~own].any(), field
            assert not here[len(own) :].any(), field
    assert found.advantages[found.mask].all()
    assert metrics == pytest.approx(expected, abs=1e-6)


def test_gae_hands_the_value_after_a_tools_answer_back_to_the_call() -> None:
    """Four own tokens around two of a tool's: each sum by hand, gamma 0.9, lambda 0.8."""
    mask = torch.tensor([[1, 1, 0, 0, 1, 1]]).bool()
    values = torch.tensor([[0.5, 0.4, math.nan, math.nan, 0.3, 0.2]])
    kl = torch.tensor([[0.1, 0.2, math.nan, math.nan, -0.1, 0.3]])
    rewards = core.token_rewards(kl, torch.tensor([1.0]), mask, kl_coef=0.5)
    expected_rewards = [-0.05, -0.1, 0, 0, 0.05, 0.85]
    torch.testing.assert_close(rewards, torch.tensor([expected_rewards]))
    found = core.gae(rewards, values, mask, discount=0.9, trace=0.8)
    errors = [-0.05 + 0.36 - 0.5, -0.1 + 0.27 - 0.4, 0.05 + 0.18 - 0.3, 0.85 - 0.2]
    carried, expected = 0.0, []
    for error in reversed(errors):
        carried = error + 0.72 * carried
        expected.insert(0, carried)
    expected[2:2] = [0.0, 0.0]
    torch.testing.assert_close(found, torch.tensor([expected]))


WRITTEN = [[5, 9, 8, 8, 6, 7, 1], [7, 6, 9, 9, 5, 4], [6, 7, 1], [8, 7, 9, 9]]


class WithTools:
    """A sampler that writes what it is told, some of it a tool's."""

    def __call__(self, module: Any, prompts: Any, *, keys: Any, **_: Any) -> list[Completion]:
        rows = [key % len(WRITTEN) for key in keys]
        return [Completion(WRITTEN[row], WRITTEN[row][-1] == 1, None, TOOL[row]) for row in rows]


LOSSES = {"kl_loss_coef": 0.3, "entropy_coef": 0.2, "vf_coef": 0.4, "temperature": 0.7}


def a_rollout(make_trainer: MakeTrainer, llama: Any, **settings: Any) -> tuple[Any, Experience]:
    """Return a trainer of PPO, and a rollout of its with a tool's tokens."""
    rows = [{"input_ids": ids} for ids in ([3, 4], [5], [6, 7, 8], [9, 3])]
    whole = {"total_episodes": 4, "max_completion_length": 8, "layout": "separate", **LOSSES}
    trainer: Any = make_trainer(llama, rows=rows, **whole, **settings)
    trainer.collector.sampler = WithTools()
    trainer._begin(0)
    return trainer, trainer.rl.experience


def own_logprobs(trainer: Any, experience: Experience, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p of each token of a completion, entropies and values before them, (L,) each.

    From the whole conversation, by plain forward passes.
    """
    prompt, completion = experience.prompts[row], experience.completions[row]
    ids = torch.tensor([prompt + completion])
    here = slice(len(prompt) - 1, len(prompt) + len(completion) - 1)
    logits = trainer.model.causal(ids).logits[0, here] / trainer.args.temperature
    for token in trainer.collector.sampling.forbidden_ids:
        logits[:, token] = -math.inf
    distribution = torch.distributions.Categorical(logits=logits)
    hidden = trainer.model.critic(ids).last_hidden_state[0, here]
    values = trainer.model.value_head(hidden)
    return distribution.log_prob(torch.tensor(completion)), distribution.entropy(), values


def test_log_probabilities_and_values_are_those_of_the_whole_conversation(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    trainer, experience = a_rollout(make_trainer, llama)
    assert not experience.mask.all(-1).all()
    with torch.no_grad():
        for row, completion in enumerate(experience.completions):
            logprobs, _, values = own_logprobs(trainer, experience, row)
            own = experience.mask[row, : len(completion)]
            assert own.tolist() == TOOL[WRITTEN.index(completion)]
            for name, expected in (("logprobs", logprobs), ("values", values)):
                found = getattr(experience, name)[row, : len(own)]
                torch.testing.assert_close(found[own], expected[own], atol=1e-5, rtol=1e-5)
                assert not found[~own].any()


@pytest.mark.parametrize("is_unmasked", [False, True])
def test_gradients_are_those_of_the_formula_over_the_policys_own_tokens(
    is_unmasked: bool, llama: Any, make_trainer: MakeTrainer
) -> None:
    """With a control: the formula over all tokens is another one."""
    trainer, experience = a_rollout(make_trainer, llama, num_ppo_epochs=2)
    shaken(trainer.model.policy_parameters(), scale=0.02)  # ratios are not 1
    args = trainer.args
    step = StepRows.choose(experience, args, rollout=0, epoch=0, mini_batch=0)
    batch = Batch.of(experience, step, range(len(experience.prompts)), pad=0, device=CPU)
    trainer.losses.send_back(batch, trainer.rl.totals, trains_policy=True, is_first=False)
    found = gradients_of(trainer.model)

    weights = torch.where(experience.mask, 1 / experience.mask.sum(), 0)
    loss = torch.zeros(())
    for row, completion in enumerate(experience.completions):
        new, entropy, values = own_logprobs(trainer, experience, row)
        own = experience.mask[row, : len(completion)]
        here = torch.ones_like(own) if is_unmasked else own
        known: dict[str, Tensor] = {
            field.name: getattr(experience, field.name)[row, : len(own)][here]
            for field in fields(experience)
            if field.name not in ("prompts", "completions")
        }
        surrogate = core.policy_loss(
            new[here], known["logprobs"], known["advantages"], clip_low=0.2, clip_high=0.2
        )
        errors = core.value_loss(values[here], known["values"], known["returns"], clip=0.2)
        per_token = surrogate.loss + args.vf_coef * errors.loss - args.entropy_coef * entropy[here]
        kl = core.kl_estimate(new[here] - known["reference"], "k2")
        per_token = per_token + args.kl_loss_coef * kl
        share = weights.max() if is_unmasked else weights[row, : len(own)][here]
        loss = loss + (per_token * share).sum()
    loss.backward()
    expected = gradients_of(trainer.model)
    assert found.keys() == expected.keys()
    apart = max(float((found[name] - expected[name]).abs().max()) for name in expected)
    assert apart > 1e-2 if is_unmasked else apart <= 1e-5


def test_a_tools_tokens_are_not_counted_as_sampled(llama: Any, make_trainer: MakeTrainer) -> None:
    trainer, _ = a_rollout(make_trainer, llama, num_ppo_epochs=1)
    trainer.train()
    (line,) = lines_of(trainer)
    own = sum(sum(row) for row in TOOL)
    assert line["rollout/tokens"] == own
    assert line["completions/length_mean"] == own / 4
