"""In which precision PPO's networks compute in each pass, and what rounding then explains."""

import copy
from collections import defaultdict
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from pipeline.rl.ppo import PPOTrainer
from tests.unit.rl.small_trainers import MakeTrainer, lines_of, weights_of

PASSES = {"sampling", "scoring", "training"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "full": {},
    "trunk": {"layout": "shared_trunk"},
    "lora": {"peft_config": True},
    "lora, critic of its own": {"peft_config": True, "layout": "separate"},
    "full, activations again": {"gradient_checkpointing": True},
    "lora, activations again": {"peft_config": True, "gradient_checkpointing": True},
}


def projections_of(trainer: PPOTrainer) -> dict[str, set[torch.dtype]]:
    """Train, and return the precisions that projections gave numbers in, by the kind of pass."""
    found: dict[str, set[torch.dtype]] = defaultdict(set)

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if torch.is_inference_mode_enabled():
            found["sampling"].add(output.dtype)
        else:
            found["training" if torch.is_grad_enabled() else "scoring"].add(output.dtype)

    for module in trainer.model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(note)
    trainer.train()
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_pass_projects_in_the_precision_asked_for(
    precision: str, layout: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    settings = dict(LAYOUTS[layout])
    if "peft_config" in settings:
        settings["peft_config"] = lora
    trainer = make_trainer(llama, bf16=precision == "bf16", **settings)
    found = projections_of(trainer)
    expected = torch.bfloat16 if precision == "bf16" else torch.float32
    assert found == {each: {expected} for each in PASSES}
    trained = [*trainer.model.policy_parameters(), *trainer.model.critic_parameters()]
    assert {each.dtype for each in trained} == {torch.float32}


@pytest.mark.parametrize("is_bf16", [True, False])
def test_a_reward_model_computes_in_the_precision_asked_for(
    is_bf16: bool, llama: Any, tokenizer: PreTrainedTokenizerFast, make_trainer: MakeTrainer
) -> None:
    """Reward functions of the user's are left alone."""
    config = copy.deepcopy(llama.config)
    config.num_labels = 1
    reward = LlamaForSequenceClassification(config)
    seen: set[torch.dtype] = set()
    reward.score.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    own: set[torch.dtype] = set()

    def user_function(completion_ids: list[list[int]], **_: Any) -> list[float]:
        own.add((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return [0.0] * len(completion_ids)

    trainer = make_trainer(llama, rewards=[reward, user_function], bf16=is_bf16, critic="policy")
    trainer.train()
    assert seen == {torch.bfloat16 if is_bf16 else torch.float32}
    assert own == {torch.float32}


def test_bf16_and_fp32_train_to_other_weights(llama: Any, make_trainer: MakeTrainer) -> None:
    """A precision that is only recorded would give the same ones."""
    found: list[dict[str, torch.Tensor]] = []
    for is_bf16 in (False, True):
        trainer = make_trainer(copy.deepcopy(llama), bf16=is_bf16, learning_rate=1e-3)
        trainer.train()
        found.append(weights_of(trainer.model))
    assert any(not torch.equal(each, found[1][name]) for name, each in found[0].items())


@pytest.mark.parametrize("layout", ["full", "trunk", "lora"])
def test_the_first_ratio_is_1_within_the_rounding_of_bf16(
    layout: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """Old and new log-probabilities come from the same computation, over batches of other shapes.

    Of which sums are in another order, so that a number between is rounded the other way now and
    then: by 2^-8 of itself, and log p is no better than the logits, of which the largest is left to
    say how large they are. Both differ from exact ones by some of these steps. The sampler, which
    has a key-value cache, differs from both by as much.
    """
    settings = dict(LAYOUTS[layout])
    if "peft_config" in settings:
        settings["peft_config"] = lora
    trainer = make_trainer(
        llama, bf16=True, per_device_train_batch_size=8, gradient_accumulation_steps=2,
        total_episodes=48, scoring_batch_size=5, learning_rate=1e-3, **settings,
    )  # fmt: skip
    logits = llama(torch.arange(3, 32)[None]).logits
    step = 2**-8 * float(logits.detach().abs().max())
    trainer.train()
    lines = lines_of(trainer)
    assert len(lines) == 3
    assert all(line["policy/ratio_first"] - 1 <= 4 * step for line in lines)
    assert all(line["rollout/logp_gap"] <= 8 * step for line in lines)


def test_the_reference_of_an_untrained_policy_is_at_no_distance_in_bf16(
    llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """Whatever is kept in bf16: KL begins at exactly 0, in full and with adapters."""
    for settings in ({}, {"peft_config": lora}, {"peft_config": lora, "layout": "separate"}):
        trainer = make_trainer(copy.deepcopy(llama), bf16=True, **settings)
        trainer.train()
        assert lines_of(trainer)[0]["objective/kl"] == 0.0
