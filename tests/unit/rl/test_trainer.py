"""What PPOTrainer makes of a rollout: prompts, ratios, what comes after a cut, what is logged.

Not its optimizer steps (test_trainer_steps.py), not whether it learns (test_trainer_learns.py), not
resuming, not several processes.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.experience import experience_of
from pipeline.rl.rollout import Rollout, ScoredRow
from pipeline.rl.watch import Watch
from tests.ppo_tasks import first_token, tiny_llama
from tests.unit.rl.small_trainers import (
    SMALL,
    MakeTrainer,
    Written,
    count_of_sevens,
    lines_of,
    shaken,
    weights_of,
)


def test_every_prompt_is_asked_once_in_each_pass_over_them(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """B53: 7 prompts, rollouts of 4: 28 responses are 4 passes."""
    seen: list[int] = []

    def keep(rollout: Rollout) -> dict[str, float]:
        seen.extend(row.prompt for row in rollout.rows)
        asked = [prompts[row.prompt]["input_ids"] for row in rollout.rows]
        assert asked == [row.prompt_ids for row in rollout.rows]
        assert asked == [prompt.ids for prompt in rollout.prompts]
        return {}

    prompts = [{"input_ids": list(range(3, 4 + number))} for number in range(7)]
    asked = {"rows": prompts, "num_train_epochs": 4, "total_episodes": None}
    trainer = make_trainer(llama, on_rollout=keep, **asked, **SMALL)
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


@pytest.mark.parametrize(
    ("named", "ends"), [(None, {1}), (9, {1, 9}), ([5, 9], {1, 5, 9})], ids=str
)
def test_a_response_ends_with_what_model_or_tokenizer_say(
    named: Any, ends: set[int], llama: Any, make_trainer: MakeTrainer
) -> None:
    """B41, B42: also where the model names no end, or several of which the tokenizer knows none."""
    kept: list[ScoredRow] = []

    def keep(rollout: Rollout) -> dict[str, float]:
        kept.extend(rollout.rows)
        return {}

    llama.generation_config.eos_token_id = llama.config.eos_token_id = named
    trainer = make_trainer(
        llama, on_rollout=keep, total_episodes=64, per_device_train_batch_size=64, **SMALL
    )
    assert trainer.collector.sampling.eos_token_ids == ends
    trainer.train()
    assert {row.completion_ids[-1] for row in kept if row.has_eos} == ends
    assert not any(ends & set(row.completion_ids[:-1]) for row in kept)
    assert all(row.has_eos == (row.completion_ids[-1] in ends) for row in kept)


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
        own=torch.ones(2, dtype=torch.bool),
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
    """B36: by the KL of whole responses, after it served for the rollout it was measured on."""
    trainer = make_trainer(
        llama, kl_coef=0.2, kl_target=1.0, kl_horizon=40.0, num_mini_batches=2, num_ppo_epochs=3,
        total_episodes=24, learning_rate=1e-2,
    )  # fmt: skip
    trainer.train()
    lines = lines_of(trainer)
    coefs = [line["objective/kl_coef"] for line in lines] + [trainer.rl.kl.coef]
    assert len(coefs) == 4
    assert coefs[0] == 0.2
    for line, before, after in zip(lines, coefs[:-1], coefs[1:], strict=True):
        error = min(max(line["objective/kl"] - 1, -0.2), 0.2)
        assert after == pytest.approx(before * (1 + error * 8 / 40))


@pytest.mark.slow
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


def test_what_a_function_logs_of_a_response_comes_with_its_row(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    def reward(completion_ids: list[list[int]], log_extra: Any, **_: Any) -> list[float]:
        log_extra("tokens", [list(ids) for ids in completion_ids])
        return [0.0 for _ in completion_ids]

    kept: list[Any] = []

    def keep(rollout: Rollout) -> dict[str, float]:
        kept.extend((row.logged, row.completion_ids) for row in rollout.rows)
        return {}

    make_trainer(llama, rewards=[reward], on_rollout=keep, total_episodes=4).train()
    assert len(kept) == 4
    assert all(logged == {"reward/tokens": ids} for logged, ids in kept)


def test_what_a_function_logs_stands_in_the_samples(
    llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """As JSON has it: tensors as numbers, other objects as they print."""

    def reward(completions: list[str], log_extra: Any, **_: Any) -> list[float]:
        log_extra("judge", [{"mean": torch.tensor(0.5), "file": Path("a.py")}] * len(completions))
        return [0.0 for _ in completions]

    watch = Watch("ppo", tmp_path, {}, gated=None, is_main=True, say=print)
    trainer = make_trainer(llama, rewards=[reward], on_rollout=watch, total_episodes=4)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    logged = {"reward/judge": {"mean": 0.5, "file": "a.py"}}
    assert all(line["logged"] == logged for line in lines)
