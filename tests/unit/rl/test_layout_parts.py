"""What each layout is made of: what it begins as, what is off in it, what is saved and loaded."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
)

from pipeline.models.reward import as_reward_model
from pipeline.rl.actor import predicting_hidden
from pipeline.rl.actor_critic import ValueHead
from pipeline.rl.build import Start, build_actor_critic
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.logprobs import head_of, log_probabilities
from pipeline.rl.policy_adapter import adapter_tensors
from pipeline.rl.sequences import Sequences
from pipeline.rl.shared_rewards import SharedReward
from tests.ppo_tasks import plain
from tests.unit.rl.small_trainers import (
    CPU,
    LAYOUTS,
    MakeTrainer,
    are_same,
    count_of_sevens,
    policy_logprobs,
    shaken,
    some_batch,
    values_of,
    weights_of,
)


@pytest.mark.parametrize(
    ("layout", "is_adapted"),
    [
        *[("separate", False), ("separate", True), ("shared_lora", True)],
        *[("shared_trunk", False), ("shared_trunk", True)],
    ],
)
def test_what_is_saved_is_what_was_trained(
    layout: str,
    is_adapted: bool,
    llama: Any,
    lora: LoraConfig,
    make_trainer: MakeTrainer,
    tmp_path: Path,
) -> None:
    """B30, B31: policy, and critic with its head, in a trainer made anew and loaded."""
    settings = {
        "layout": layout,
        "learning_rate": 1e-2,
        "peft_config": lora if is_adapted else None,
    }
    start = copy.deepcopy(llama)
    trainer = make_trainer(llama, **settings)
    trainer.train()
    folder = tmp_path / "saved"
    trainer.save_model(str(folder))
    logprobs, values = policy_logprobs(trainer.model), values_of(trainer.model)
    assert values.abs().max() > 1e-3

    if layout != "shared_trunk":
        other = make_trainer(copy.deepcopy(start), **settings, critic=str(folder)).model
        torch.testing.assert_close(values_of(other), values, atol=0, rtol=0)
    else:  # there the network below the head is the policy's, which is another at first
        with pytest.raises(ValueError, match="was trained on another network"):
            make_trainer(copy.deepcopy(start), **settings, critic=str(folder))
        other = make_trainer(copy.deepcopy(start), **settings).model
        other.load_critic(folder / "critic")
    other.load_policy(folder)
    torch.testing.assert_close(policy_logprobs(other), logprobs, atol=0, rtol=0)
    torch.testing.assert_close(values_of(other), values, atol=0, rtol=0)

    if is_adapted:
        loaded: Any = PeftModel.from_pretrained(start, str(folder)).get_base_model()
    else:
        loaded = AutoModelForCausalLM.from_pretrained(folder)
    sequences = some_batch().sequences
    found, _ = log_probabilities(
        head_of(loaded), predicting_hidden(loaded.base_model, sequences), sequences.targets
    )
    torch.testing.assert_close(found, logprobs, atol=1e-6, rtol=0)


def test_a_value_is_the_same_in_training_and_not() -> None:
    """B22, B47: a head without dropout, and without scales of its own."""
    head, hidden = ValueHead(16), torch.randn(5, 16)
    assert not head(hidden).any()
    shaken(head.parameters())
    assert torch.equal(head.train()(hidden), head(hidden))
    assert torch.equal(head.eval()(hidden), head.train()(hidden))
    assert not any(isinstance(each, nn.Dropout) for each in head.modules())


def test_a_head_begins_as_that_of_a_reward_model_and_is_brought_to_another_scale() -> None:
    """B47: a mean and a deviation go into the head."""
    hidden, weight = torch.randn(5, 16), torch.randn(1, 16)
    head = ValueHead(16)
    head.start_from(weight)
    expected = (hidden @ weight.T).squeeze(-1)
    torch.testing.assert_close(head(hidden), expected, atol=1e-5, rtol=0)
    head.rescale(0.25, 0.0)
    head.rescale(1.0, -0.5)
    expected = (expected - 2) / 4
    torch.testing.assert_close(head(hidden), expected, atol=1e-5, rtol=0)


def test_values_are_in_fp32_of_a_network_in_bf16(llama: Any, tmp_path: Path) -> None:
    args = PPOConfig(**plain(tmp_path), layout="separate")
    actor = build_actor_critic(Start(llama.bfloat16()), args)
    shaken(actor.value_head.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert values_of(actor).dtype == torch.float32
    assert actor.value_head.weight.dtype == torch.float32


@pytest.mark.parametrize("layout", LAYOUTS)
def test_activations_are_computed_again_in_every_network_that_is_trained(
    layout: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """B51: in the critic too, and still after rollouts, which turn it off."""
    trainer = make_trainer(
        llama,
        layout=layout,
        activation_checkpointing=True,
        peft_config=lora if layout == "shared_lora" else None,
        total_episodes=4,
    )
    trainer.train()
    networks = trainer.model.networks()
    assert len(networks) == (2 if layout == "separate" else 1)
    for network in networks:
        layers = [
            each.gradient_checkpointing
            for each in network.modules()
            if type(each).__name__ == "LlamaDecoderLayer"
        ]
        assert layers == [True, True]
    assert trainer.model.is_activation_checkpointing


def test_reference_and_reward_model_are_neither_trained_nor_in_training_mode(
    llama: Any, make_trainer: MakeTrainer, tokenizer: Any
) -> None:
    """B55: no gradients, no dropout while they score, no weights in the optimizer."""
    torch.manual_seed(1)
    reward_model: Any = as_reward_model(copy.deepcopy(llama), tokenizer)
    before = weights_of(reward_model)
    modes: list[bool] = []
    trainer = make_trainer(llama, rewards=[reward_model, count_of_sevens], learning_rate=1e-2)
    actor: Any = trainer.model
    for module in (actor._reference, reward_model):
        module.register_forward_hook(lambda each, *_: modes.append(each.training))
        actor._reference.base_model.register_forward_hook(
            lambda each, *_: modes.append(each.training)
        )
    reference = weights_of(actor._reference)
    trainer.train()
    assert len(modes) >= 4
    assert not any(modes)
    for module, weights in ((actor._reference, reference), (reward_model, before)):
        assert are_same(weights_of(module), weights)
        assert all(
            each.grad is None and not each.requires_grad and not each.is_inference()
            for each in module.parameters()
        )
    optimizer: Any = trainer.optimizer
    trained = {id(each) for group in optimizer.param_groups for each in group["params"]}
    for module in (actor._reference, reward_model):
        assert not trained & {id(each) for each in module.parameters()}


def test_the_critic_begins_as_the_reward_model(
    llama: Any, make_trainer: MakeTrainer, tokenizer: Any
) -> None:
    """B30: network and head: its values are the scores of what is written so far."""
    torch.manual_seed(1)
    reward_model: Any = as_reward_model(copy.deepcopy(llama), tokenizer)
    shaken(reward_model.parameters())
    actor = make_trainer(llama, rewards=[reward_model]).model
    with torch.no_grad():
        score = reward_model(input_ids=torch.tensor([[3, 4, 5]])).logits.squeeze()
        sequences = Sequences.of([[3, 4, 5]], [[6]], pad=0, device=CPU)
        value = actor.values(sequences)
    torch.testing.assert_close(value, score[None], atol=1e-5, rtol=0)


def test_a_critic_of_its_own_begins_as_the_network_below_an_adapter(
    llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    plain_network = copy.deepcopy(llama.base_model)
    adapted: Any = get_peft_model(llama, lora)
    shaken(each for each in adapted.parameters() if each.requires_grad)
    actor: Any = make_trainer(adapted, layout="separate").model
    assert are_same(weights_of(actor.critic), weights_of(plain_network))
    assert not any("lora" in name for name, _ in actor.critic.named_parameters())


@pytest.mark.parametrize("is_trained", [False, True])
def test_a_reward_model_on_the_policys_network_gives_the_same_scores_beside_the_reference(
    is_trained: bool, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """Best-of-n scores what the reference wrote; the reference stays what it is, too."""
    adapted: Any = get_peft_model(llama, lora)
    if is_trained:  # the reference is an adapter then, else the network without one
        shaken(each for each in adapted.parameters() if each.requires_grad)
    actor: Any = make_trainer(adapted, layout="shared_lora").model
    shaken(actor.policy_parameters(), seed=6)
    tensors = {name: each.clone() for name, each in adapter_tensors(adapted, "default").items()}
    shaken(tensors.values(), seed=7)
    reward = SharedReward(lora, tensors, torch.ones(1, llama.config.hidden_size))
    reward_model = reward.put_on(actor, "reward0", 0)
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad(), actor.reference() as reference:
        before = reference(input_ids=ids).logits
        within = reward_model(ids, torch.ones_like(ids)).logits
        assert torch.equal(reference(input_ids=ids).logits, before)
    with torch.no_grad():
        assert torch.equal(reward_model(ids, torch.ones_like(ids)).logits, within)
        assert not torch.equal(actor.causal(input_ids=ids).logits, before)
