"""Evaluation during PPO: held-out prompts by the rewards, and nothing of the training changed."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback

from tests.unit.rl.small_trainers import (
    MakeTrainer,
    are_same,
    count_of_sevens,
    lines_of,
    weights_of,
)

HELD_OUT = [{"input_ids": [9, 3]}, {"input_ids": [4, 4, 8]}, {"input_ids": [11]}]
EVERY_2: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": HELD_OUT}
LONG: dict[str, Any] = {
    **{"total_episodes": 24, "num_ppo_epochs": 2, "learning_rate": 1e-2},
    **{"reward_normalisation": "running", "kl_target": 1.0, "missing_eos_penalty": 0.5},
}


def noisy_sevens(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """A reward that draws from every global generator, as a user's may."""
    noise = random.random() + np.random.random() + float(torch.rand(()))  # noqa: NPY002
    return [ids.count(7) + noise for ids in completion_ids]


def evaluations(trainer: Any) -> dict[int, dict[str, float]]:
    log = trainer.state.log_history
    return {line["step"]: line for line in log if "eval_objective/scores" in line}


@pytest.mark.parametrize("engine", ["own", "generate"])
def test_a_run_that_evaluates_has_the_weights_of_one_that_does_not(
    engine: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    import copy

    ends: list[dict[str, torch.Tensor]] = []
    states: list[Any] = []
    for settings in ({}, {**EVERY_2, "eval_on_start": True}):
        given = {"rollout_engine": engine, **LONG, **settings}
        trainer = make_trainer(copy.deepcopy(llama), rewards=noisy_sevens, **given)
        trainer.train()
        ends.append(weights_of(trainer.model))
        lines = [
            {k: v for k, v in line.items() if not k.startswith("time/")}
            for line in lines_of(trainer)
        ]
        states.append((trainer.rewards.state_dict(), trainer.rl.kl.state_dict(), lines))
    assert are_same(*ends)
    assert states[0] == states[1]
    assert list(evaluations(trainer)) == [0, 2, 4, 6, 8, 10, 12]


def test_an_evaluation_measures_the_policy_on_the_held_out_prompts(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(llama, eval_dataset=HELD_OUT, **LONG)
    before = trainer.evaluate()
    assert before == pytest.approx(trainer.evaluate() | {"eval_runtime": before["eval_runtime"]})
    assert before["eval_objective/kl"] == pytest.approx(0, abs=1e-5)
    assert before["eval_rewards/count_of_sevens/n"] == 3
    trainer.train()
    after = trainer.evaluate()
    # By hand: the same answers, scored by a plain forward pass of policy and reference.
    rows, _ = trainer.collector.collect(
        trainer.eval_prompts[""],
        [0, 1, 2],
        keys=[3 * 2**40 + n for n in range(3)],
        prompt_numbers=[0, 1, 2],
    )
    answers = [row.completion_ids for row in rows]
    scores = count_of_sevens(completion_ids=answers)
    assert after["eval_objective/scores"] == pytest.approx(sum(scores) / 3)
    assert after["eval_completions/length_mean"] == pytest.approx(sum(map(len, answers)) / 3)
    kl = 0.0
    with torch.no_grad(), trainer.model.reference() as reference:
        for row in rows:
            ids = torch.tensor([row.prompt_ids + row.completion_ids])
            for module, sign in ((trainer.model.policy, 1), (reference, -1)):
                logits: Any = module(input_ids=ids).logits[0].clone()
                logits[:, 0] = -torch.inf  # padding is never sampled
                logprobs = logits.log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
                kl += sign * float(logprobs.gather(1, ids[0, len(row.prompt_ids) :, None]).sum())
    assert abs(kl) > 0.1
    assert after["eval_objective/kl"] == pytest.approx(kl / 3, rel=1e-4)


@pytest.mark.parametrize(("per_device", "parts"), [(1, [4, 4, 1]), (6, [6, 3])])
def test_prompts_are_answered_in_parts_that_change_nothing(
    per_device: int, parts: list[int], llama: Any, make_trainer: MakeTrainer
) -> None:
    """Held-out prompts may be thousands; what fits is a rollout, here of four responses."""
    trainer = make_trainer(llama, eval_dataset=HELD_OUT * 3, per_device_eval_batch_size=9)
    whole = trainer.evaluate()
    trainer.args.per_device_eval_batch_size = per_device
    sampler, sizes = trainer.collector.sampler, list[int]()

    def counted(module: Any, prompts: Any, **how: Any) -> Any:
        sizes.append(len(prompts))
        return sampler(module, prompts, **how)

    trainer.collector.sampler = counted
    found = trainer.evaluate()
    assert sizes == parts
    assert found == pytest.approx(whole | {"eval_runtime": found["eval_runtime"]}, abs=1e-5)


def test_several_data_sets_are_evaluated_by_name(llama: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(llama, eval_dataset={"one": HELD_OUT, "other": HELD_OUT[:1]})
    found = trainer.evaluate()
    assert found["eval_one_rewards/count_of_sevens/n"] == 3
    assert found["eval_other_rewards/count_of_sevens/n"] == 1
    other = trainer.evaluate(HELD_OUT[:1], metric_key_prefix="test")
    assert other["test_objective/scores"] == found["eval_other_objective/scores"]


def test_the_best_policy_and_critic_are_kept(
    llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """The worst here, so that it is not the last: KL to the reference only grows."""
    trainer = make_trainer(
        llama,
        **{**EVERY_2, **LONG, "load_best_model_at_end": True, "save_strategy": "steps"},
        **{"save_steps": 2, "metric_for_best_model": "objective/kl", "greater_is_better": False},
    )
    kept: dict[int, dict[str, torch.Tensor]] = {}
    log = trainer.log

    def remember(logs: Any, *rest: Any) -> None:
        if "eval_objective/kl" in logs:
            kept[trainer.state.global_step] = weights_of(trainer.model)
        log(logs, *rest)

    trainer.log = remember
    trainer.train()
    told = {step: line["eval_objective/kl"] for step, line in evaluations(trainer).items()}
    best = min(told, key=told.__getitem__)
    assert best != max(told)
    assert trainer.state.best_global_step == best
    assert are_same(weights_of(trainer.model), kept[best])


def test_early_stopping_goes_by_the_score_of_held_out_prompts(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(
        llama,
        rewards=lambda completion_ids, **_: [1.0] * len(completion_ids),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=1)],
        **{**EVERY_2, **LONG, "metric_for_best_model": "objective/scores"},
    )
    trainer.train()
    assert trainer.state.global_step == 4, "the score is the same at step 4 as at step 2"


def test_without_prompts_there_is_nothing_to_evaluate(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(ValueError, match="no prompts to evaluate on; give an `eval_dataset`"):
        make_trainer(llama).evaluate()
