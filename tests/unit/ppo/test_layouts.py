"""Policy, reference and critic in each layout: what is shared, what is trained, what is kept."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from pipeline.models import as_reward_model
from pipeline.ppo.actor_critic import ActorCritic, ValueHead, predicting, without_dropout
from pipeline.ppo.build import Start, actor_critic
from pipeline.ppo.config import PPOConfig
from pipeline.ppo.logprobs import head_of, log_probabilities
from pipeline.ppo.progress import StepTotals
from pipeline.ppo.separate import SeparateActorCritic
from pipeline.ppo.sequences import Sequences
from pipeline.ppo.shared_lora import SharedLoraActorCritic
from tests.ppo_tasks import plain, summed_send_back, tiny_llama
from tests.unit.ppo.small_trainers import (
    CPU,
    MakeTrainer,
    are_same,
    count_of_sevens,
    lines_of,
    losses_of,
    shaken,
    some_batch,
    weights_of,
)

LAYOUTS = ("separate", "shared_lora", "shared_trunk")


@torch.no_grad()
def reference_logprobs(actor: ActorCritic) -> Tensor:
    sequences = some_batch().sequences
    with actor.reference() as reference:
        hidden = predicting(reference.base_model, sequences)
        return log_probabilities(head_of(reference), hidden, sequences.targets)[0]


@torch.no_grad()
def policy_logprobs(actor: ActorCritic) -> Tensor:
    sequences = some_batch().sequences
    hidden = actor.policy_hidden(sequences)
    return log_probabilities(head_of(actor.causal), hidden, sequences.targets)[0]


@torch.no_grad()
def values_of(actor: ActorCritic) -> Tensor:
    with actor.as_critic():
        return actor.values(some_batch().sequences)


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
    rows = sequences.to_rows(actor.values(sequences))
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
        for (name, each), parameter in zip(
            policy.items(), actor.policy_parameters(), strict=True
        )
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
        head_of(bare), predicting(bare.base_model, sequences), sequences.targets
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
    """B30, B31: policy, and critic with its head, in a trainer made anew, and by `from_pretrained`."""
    settings = {"layout": layout, "learning_rate": 1e-2, "peft_config": lora if is_adapted else None}
    start = copy.deepcopy(llama)
    trainer = make_trainer(llama, **settings)
    trainer.train()
    folder = tmp_path / "saved"
    trainer.save_model(str(folder))
    logprobs, values = policy_logprobs(trainer.model), values_of(trainer.model)
    assert values.abs().max() > 1e-3

    other = make_trainer(copy.deepcopy(start), **settings, critic=str(folder)).model
    if layout != "shared_trunk":  # there the network below the head is the policy's
        torch.testing.assert_close(values_of(other), values, atol=0, rtol=0)
    other.load_policy(folder)
    torch.testing.assert_close(policy_logprobs(other), logprobs, atol=0, rtol=0)
    torch.testing.assert_close(values_of(other), values, atol=0, rtol=0)

    if is_adapted:
        loaded: Any = PeftModel.from_pretrained(start, str(folder)).get_base_model()
    else:
        loaded = AutoModelForCausalLM.from_pretrained(folder)
    sequences = some_batch().sequences
    found, _ = log_probabilities(
        head_of(loaded), predicting(loaded.base_model, sequences), sequences.targets
    )
    torch.testing.assert_close(found, logprobs, atol=1e-6, rtol=0)


def _dropping(kind: str, lora: LoraConfig) -> Any:
    half = 0.5
    ids = {"vocab_size": 32, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    if kind == "gpt2":
        shape = {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64}
        rates = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), half)
        return GPT2LMHeadModel(GPT2Config(**shape, **rates, **ids))
    if kind == "opt":
        shape = {"hidden_size": 16, "ffn_dim": 32, "num_attention_heads": 2}
        rates = {"dropout": half, "attention_dropout": half, "layerdrop": half}
        more = {"num_hidden_layers": 4, "word_embed_proj_dim": 16, "max_position_embeddings": 64}
        return OPTForCausalLM(OPTConfig(**shape, **rates, **more, **ids))
    module: Any = tiny_llama(0, 32, hidden_size=16, attention_dropout=half)
    if kind == "lora":
        config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=half)
        module = get_peft_model(module, config)
    return module


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "lora"])
def test_no_dropout_is_left_between_two_passes(
    kind: str, attention: str, lora: LoraConfig, tmp_path: Path
) -> None:
    """B21: of layers, of attention (a number, not a layer), of adapters, of whole layers (OPT)."""
    module = _dropping(kind, lora)
    layout = "shared_lora" if kind == "lora" else "separate"
    actor = actor_critic(Start(module, [], "policy", None), PPOConfig(**plain(tmp_path), layout=layout))
    actor.causal.set_attn_implementation(attention)
    shaken(actor.policy_parameters(), scale=0.05)
    shaken(actor.critic_parameters(), scale=0.05)
    actor.train()
    assert not torch.equal(policy_logprobs(actor), policy_logprobs(actor))
    assert not torch.equal(values_of(actor), values_of(actor))
    without_dropout(actor)
    assert torch.equal(policy_logprobs(actor), policy_logprobs(actor))
    assert torch.equal(values_of(actor), values_of(actor))
    trained = policy_logprobs(actor)
    actor.eval()
    assert torch.equal(policy_logprobs(actor), trained)


def test_a_value_is_the_same_in_training_and_not() -> None:
    """B22, B47: a head without dropout, and without scales of its own."""
    head, hidden = ValueHead(16), torch.randn(5, 16)
    assert not head(hidden).any()
    shaken(head.parameters())
    assert torch.equal(head.train()(hidden), head(hidden))
    assert torch.equal(head.eval()(hidden), head.train()(hidden))
    assert not any(isinstance(each, nn.Dropout) for each in head.modules())


def test_a_head_begins_as_that_of_a_reward_model_whose_scores_are_normalised() -> None:
    """B47: the mean and the deviation go into the head, once, and nowhere else."""
    hidden, weight = torch.randn(5, 16), torch.randn(1, 16)
    head = ValueHead(16)
    head.start_from(weight, mean=2.0, std=4.0)
    expected = ((hidden @ weight.T).squeeze(-1) - 2) / 4
    torch.testing.assert_close(head(hidden), expected, atol=1e-5, rtol=0)


def test_values_are_in_fp32_of_a_network_in_bf16(llama: Any, tmp_path: Path) -> None:
    args = PPOConfig(**plain(tmp_path), layout="separate")
    actor = actor_critic(Start(llama.bfloat16(), [], None, None), args)
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
