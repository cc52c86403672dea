"""Policy, reference and critic in each layout: whose gradients, and what stays as it is."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
)

from pipeline.rl.actor import predicting_hidden
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.layouts.separate import SeparateActorCritic
from pipeline.rl.layouts.shared_lora import SharedLoraActorCritic
from pipeline.rl.logprobs import head_of, log_probabilities
from pipeline.rl.sequences import Sequences
from pipeline.rl.step_totals import StepTotals
from tests.ppo_tasks import plain, summed_send_back
from tests.token_rows import to_rows
from tests.unit.rl.small_trainers import (
    CPU,
    LAYOUTS,
    MakeTrainer,
    are_same,
    lines_of,
    losses_of,
    policy_logprobs,
    reference_logprobs,
    shaken,
    some_batch,
    weights_of,
)


def shared(module: Any, config: LoraConfig) -> SharedLoraActorCritic:
    """Return policy and critic as adapters with noise in them, on one network."""
    actor = SharedLoraActorCritic(get_peft_model(module, config))  # pyright: ignore
    shaken(actor.policy_parameters(), seed=1)
    shaken(actor.critic_parameters(), seed=2)
    return actor


def apart(actor: SharedLoraActorCritic, module: Any, config: LoraConfig) -> SeparateActorCritic:
    """Return the same policy and critic as networks of their own."""
    adapted: list[Any] = []
    for name in ("default", "critic"):
        one: Any = get_peft_model(copy.deepcopy(module), config)
        theirs = {
            key.replace(f".{name}.", ".default."): each
            for key, each in actor.policy.state_dict().items()
            if f".{name}." in key
        }
        assert len(theirs) > 10
        one.load_state_dict(theirs, strict=False)
        adapted.append(one)
    policy, critic = adapted
    twin = SeparateActorCritic(policy, critic.get_base_model().base_model, None)
    twin.value_head.load_state_dict(actor.value_head.state_dict())
    return twin


def adapter_gradients(module: nn.Module, name: str) -> dict[str, Tensor]:
    found = {
        key.split("layers.")[1].replace(f".{name}.", "."): each.grad.clone()
        for key, each in module.named_parameters()
        if f".{name}." in key and each.grad is not None
    }
    assert len(found) == 28  # two matrices on each of seven in two layers
    return found


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest distance of two sets of gradients, relative to the largest entry."""
    assert one.keys() == other.keys()
    scale = max(float(each.abs().max()) for each in other.values())
    return max(float((each - other[name]).abs().max()) for name, each in one.items()) / scale


def test_the_value_before_the_first_token_is_that_of_the_last_token_of_the_prompt() -> None:
    """B02: a critic that says its own position, and nothing else."""
    positions = 16
    shape = {"n_embd": positions, "n_head": 2, "n_layer": 0, "n_positions": positions}
    ids = {"vocab_size": 9, "bos_token_id": None, "eos_token_id": 1}
    critic: Any = GPT2LMHeadModel(GPT2Config(**ids, **shape)).transformer.eval()
    with torch.no_grad():
        critic.wte.weight.zero_()
        critic.wpe.weight.copy_(torch.eye(positions))
    actor = SeparateActorCritic(nn.Linear(1, 1), critic, None)
    with torch.no_grad():  # the last layer centres a one-hot vector, and makes its variance 1
        rows = critic(input_ids=torch.zeros(1, positions).long()).last_hidden_state[0]
        actor.value_head.weight.copy_(torch.linalg.lstsq(rows, torch.arange(16.0)).solution)
        actor.value_head.bias.copy_(15 - actor.value_head(rows)[15])
    prompts, lengths = [[3], [3, 4, 5, 6], [5, 6]], [3, 1, 5]
    completions = [[7] * length for length in lengths]
    sequences = Sequences.of(prompts, completions, pad=0, device=CPU)
    rows = to_rows(sequences, actor.values(sequences))
    for row, prompt, length in zip(rows.tolist(), prompts, lengths, strict=True):
        expected = [len(prompt) - 1 + t for t in range(length)]
        assert row[:length] == pytest.approx(expected, abs=1e-3)
    after = actor.values_after(sequences).tolist()
    last = [len(p) + length - 1 for p, length in zip(prompts, lengths, strict=True)]
    assert after == pytest.approx(last, abs=1e-3)


@pytest.mark.parametrize("is_checkpointing", [False, True], ids=["kept", "computed again"])
def test_adapters_on_one_network_get_the_gradients_of_two_networks(
    is_checkpointing: bool, llama: Any, lora: LoraConfig, tmp_path: Path
) -> None:
    """B24, B25: also where activations are computed again in the backward pass.

    And one summed backward pass, after the switch to the critic's adapter, does not.
    """
    args = PPOConfig(**plain(tmp_path))
    actor = shared(copy.deepcopy(llama), lora)
    twin = apart(actor, llama, lora)
    batch = some_batch()
    for each in (actor, twin):
        each.train()
        if is_checkpointing:
            each.activation_checkpointing_enable()
        losses_of(each, args).send_back(batch, StepTotals(), trains_policy=True, is_first=False)
    policy, critic = (adapter_gradients(actor.policy, name) for name in ("default", "critic"))
    assert farthest(policy, adapter_gradients(twin.policy, "default")) <= 1e-5
    assert farthest(critic, adapter_gradients(twin.critic, "default")) <= 1e-5
    head = actor.value_head.weight.grad
    assert head is not None
    torch.testing.assert_close(head, twin.value_head.weight.grad, atol=1e-6, rtol=0)

    actor.zero_grad(set_to_none=True)
    summed_send_back(
        losses_of(actor, args), batch, StepTotals(), trains_policy=True, is_first=False
    )
    wrong = {
        name: torch.zeros_like(each) if parameter.grad is None else parameter.grad
        for (name, each), parameter in zip(policy.items(), actor.policy_parameters(), strict=True)
    }
    assert farthest(wrong, policy) > 0.5


def test_after_any_pass_both_adapters_are_trainable_and_nothing_else(
    llama: Any, lora: LoraConfig
) -> None:
    """B24: an optimizer made then has them both."""
    actor = SharedLoraActorCritic(get_peft_model(llama, lora))  # pyright: ignore

    def trainable() -> set[str]:
        return {name for name, each in actor.named_parameters() if each.requires_grad}

    expected = trainable()
    assert {name.split(".")[-2] for name in expected} == {"default", "critic", "value_head"}
    contexts = (actor.reference, actor.as_critic)
    for context in contexts:
        with context():
            pass
        assert trainable() == expected
        with pytest.raises(KeyError), context():
            raise KeyError
        assert trainable() == expected
        assert actor.policy.active_adapter == "default"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reference_of_a_trained_adapter_is_the_adapter_and_not_the_network_below(
    layout: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """B26: at first the KL is 0."""
    bare = copy.deepcopy(llama)
    adapted: Any = get_peft_model(llama, lora)
    shaken(each for each in adapted.parameters() if each.requires_grad)
    trainer = make_trainer(adapted, layout=layout, learning_rate=1e-2, total_episodes=8)
    actor = trainer.model
    start = reference_logprobs(actor)
    sequences = some_batch().sequences
    below, _ = log_probabilities(
        head_of(bare), predicting_hidden(bare.base_model, sequences), sequences.targets
    )
    assert (start - below).abs().mean() > 0.1
    trainer.train()
    first, second = lines_of(trainer)
    assert abs(first["objective/kl"]) <= 1e-4
    assert first["objective/kl_k3"] <= 1e-6 < second["objective/kl_k3"]
    assert torch.equal(reference_logprobs(actor), start)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_that_changes_the_network_below_is_refused(
    layout: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    """B27: the reference would move with it."""
    config = LoraConfig(r=4, target_modules="all-linear", bias="all")
    with pytest.raises(ValueError, match="bias `all` changes the network"):
        make_trainer(llama, layout=layout, peft_config=config)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reference_stays_as_it_is_with_trained_embeddings_and_head(
    layout: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    """B27, B28: an adapter that brings whole modules of its own is off with all of them."""
    whole = ["embed_tokens", "lm_head"]
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=whole)
    trainer = make_trainer(llama, layout=layout, peft_config=config, learning_rate=1e-2)
    before = reference_logprobs(trainer.model)
    torch.testing.assert_close(policy_logprobs(trainer.model), before, atol=0, rtol=0)
    trainer.train()
    assert torch.equal(reference_logprobs(trainer.model), before)
    causal: Any = trainer.model.causal
    for each in (causal.get_input_embeddings(), causal.get_output_embeddings()):
        trained = each.modules_to_save["default"].weight
        assert not torch.equal(trained, each.original_module.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ten_rollouts_leave_the_shared_network_as_it_was(
    dtype: torch.dtype, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """B29: to the last bit; nothing is merged into it and taken out again."""
    network = llama.to(dtype)
    before = weights_of(network)
    trainer = make_trainer(
        network,
        layout="shared_lora",
        peft_config=lora,
        **{"total_episodes": 40, "num_ppo_epochs": 1, "learning_rate": 1e-2},
    )
    adapters = weights_of(trainer.model)
    trainer.train()
    assert len(lines_of(trainer)) == 10
    assert not are_same(weights_of(trainer.model), adapters)
    after = {
        name.removeprefix("policy.base_model.model.").replace(".base_layer.", "."): each
        for name, each in weights_of(trainer.model).items()
        if ".lora_" not in name and "value_head" not in name
    }
    assert are_same(after, before)
