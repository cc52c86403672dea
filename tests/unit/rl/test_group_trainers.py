"""GRPOTrainer, RLOOTrainer and their kin learn, without a critic, on the engine of PPO."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.rloo import RLOOTrainer
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.small_trainers import VOCABULARY, count_of_sevens, lines_of, weights_of

PROMPTS = [{"input_ids": ids} for ids in ([3, 4], [5], [6, 7, 8])]
FAST = {"learning_rate": 2e-2, "max_completion_length": 5, "per_device_train_batch_size": 8}
_PARTS = ("peft_config", "eval_dataset", "callbacks")
METHODS = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"num_iterations": 2, "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0, "num_iterations": 2},
    "sapo": {"loss_type": "sapo", "num_iterations": 2},
    "vespo": {"loss_type": "vespo", "num_iterations": 2},
    "gspo": {"importance_sampling_level": "sequence", "epsilon": 0.05, "num_iterations": 2},
    "reinforce": {"advantage_estimator": "reinforce", "beta": 0.01},
    "leave_one_out": {"advantage_estimator": "rloo", "beta": 0.02},
    "mini_batches": {"generation_batch_size": 16, "gradient_accumulation_steps": 1},
}


def grpo(module: Any, folder: Path, **settings: Any) -> GRPOTrainer:
    """Return a trainer that is rewarded for t7."""
    parts = {name: settings.pop(name) for name in _PARTS if name in settings}
    rewards = settings.pop("rewards", count_of_sevens)
    args = GRPOConfig(**{**plain(folder), **FAST, "num_generations": 4, **settings})
    tokenizer = tiny_tokenizer(VOCABULARY)
    return GRPOTrainer(module, rewards, args, PROMPTS, processing_class=tokenizer, **parts)


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_grpo_learns(method: str, llama: Any, tmp_path: Path) -> None:
    trainer = grpo(llama, tmp_path, total_episodes=160, **METHODS[method])
    trainer.train()
    scores = [line["objective/scores"] for line in lines_of(trainer)]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.5
    line = lines_of(trainer)[0]
    assert not any(name.startswith(("value/", "loss/value", "critic")) for name in line)
    assert 0 <= line["groups/without_spread"] <= 1


def test_rloo_learns(llama: Any, tmp_path: Path) -> None:
    args = RLOOConfig(**plain(tmp_path), **FAST, total_episodes=160, num_iterations=2)
    trainer = RLOOTrainer(llama, count_of_sevens, args, PROMPTS, None, tiny_tokenizer(VOCABULARY))
    trainer.train()
    scores = [line["objective/scores"] for line in lines_of(trainer)]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.5


def test_an_adapter_is_trained_on_one_network(llama: Any, lora: Any, tmp_path: Path) -> None:
    trainer = grpo(llama, tmp_path, peft_config=lora, total_episodes=16)
    before = weights_of(trainer.model)
    trainer.train()
    after = weights_of(trainer.model)
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(".lora_" in name for name in moved)


def test_each_prompt_is_asked_as_often_as_a_group_has_responses(llama: Any, tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def watch(rollout: Any) -> dict[str, float]:
        asked.append([row.prompt for row in rollout.rows])
        return {}

    trainer = grpo(llama, tmp_path, total_episodes=16)
    trainer.on_rollout = watch
    trainer.train()
    for prompts in asked:
        assert prompts[:4] == prompts[:1] * 4
        assert prompts[4:] == prompts[4:5] * 4
        assert prompts[0] != prompts[4]


def test_groups_without_spread_are_replaced_by_fresh_prompts(llama: Any, tmp_path: Path) -> None:
    """DAPO's dynamic sampling, with a bound: a prompt that pays everyone alike teaches nothing."""

    def pays_all_alike_after_5(prompts: Any, completion_ids: Any, **_: Any) -> list[float]:
        return [
            1.0 if prompt == "t5" else float(len(set(ids)))
            for prompt, ids in zip(prompts, completion_ids, strict=True)
        ]

    settings = {"rewards": pays_all_alike_after_5, "total_episodes": 24}
    plainly = grpo(llama, tmp_path / "plain", **settings)
    plainly.train()
    trainer = grpo(llama, tmp_path / "dynamic", dynamic_sampling=8, **settings)
    trainer.train()
    flat, replaced = lines_of(plainly), lines_of(trainer)
    assert max(line["groups/without_spread"] for line in flat) >= 0.5
    assert sum(line["groups/replaced"] for line in replaced) >= 1
    assert all(line["groups/without_spread"] == 0 for line in replaced)
    assert trainer.rl.prompts_drawn > plainly.rl.prompts_drawn == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_generations": 1}, "`num_generations` is 1; GRPO compares"),
        ({"num_generations": 3}, "has no whole number of groups of `num_generations` 3"),
        ({"generation_batch_size": 12}, "is not a multiple of an optimizer step's"),
        ({"loss_type": "cispo"}, "cispo cuts weights at `epsilon_high`"),
        ({"delta": 1.1}, "`delta` 1.1 is below 1"),
        ({"loss_type": "gspo"}, "`loss_type` is `gspo`"),
        ({"sapo_temperature_neg": 0.0}, "`sapo_temperature_neg` is 0.0; it must be above 0"),
        ({"vespo_k_pos": -1.0}, "`vespo_k_pos` is -1.0; it must be 0 or above"),
        ({"vllm_importance_sampling_clip_min": 4.0}, "4.0 is above"),
        ({"loss_type": "vespo", "rollout_engine": "vllm"}, "vllm_importance_sampling_correction"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        GRPOConfig(**{**plain(tmp_path), **FAST, "num_generations": 4, **settings})
