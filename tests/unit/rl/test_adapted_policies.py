"""PEFT models as they come: other names, loaded to be asked, from a folder; critics beside them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from pipeline.rl.actor import last_hidden
from pipeline.rl.sequences import Sequences
from tests.unit.rl.small_trainers import (
    CPU,
    MakeTrainer,
    confident,
    count_of_sevens,
    shaken,
    some_batch,
    values_of,
    weights_of,
)

BOTH = ("separate", "shared_lora")


def trained_adapter(module: Any, config: LoraConfig, name: str = "default") -> Any:
    """Return a PEFT model whose adapter does something already."""
    torch.manual_seed(1)
    model: Any = get_peft_model(copy.deepcopy(module), config, adapter_name=name)
    shaken(each for each in model.parameters() if each.requires_grad)
    return model


def policy_weights(trainer: Any, name: str) -> dict[str, torch.Tensor]:
    found = weights_of(trainer.model.policy).items()
    return {key.replace(f".{name}.", "."): each for key, each in found if f".{name}." in key}


def reward_model(llama: Any) -> Any:
    config = copy.deepcopy(llama.config)
    config.num_labels = 1
    torch.manual_seed(2)
    return confident(LlamaForSequenceClassification(config))


@pytest.mark.parametrize("layout", BOTH)
def test_an_adapter_is_trained_alike_whatever_its_name_and_however_it_was_loaded(
    layout: str,
    llama: Any,
    lora: LoraConfig,
    tokenizer: PreTrainedTokenizerFast,
    make_trainer: MakeTrainer,
    tmp_path: Path,
) -> None:
    """The plain case, one of another name, one in inference mode, one given by its folder."""
    llama.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    plain = trained_adapter(llama, lora)
    plain.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    plain.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    asked = PeftModel.from_pretrained(copy.deepcopy(llama), str(tmp_path / "adapter"))
    cases = [
        (plain, "default"),
        (trained_adapter(llama, lora, "mine"), "mine"),
        (asked, "default"),
        (str(tmp_path / "adapter"), "default"),
    ]
    before = {key: each.clone() for key, each in plain.state_dict().items() if "lora_" in key}
    found: list[dict[str, torch.Tensor]] = []
    for model, name in cases:
        trainer = make_trainer(model, layout=layout, learning_rate=1e-2)
        trainer.train()
        found.append(policy_weights(trainer, name))
        trainer.save_model(str(tmp_path / "saved"))
        loaded: Any = PeftModel.from_pretrained(copy.deepcopy(llama), str(tmp_path / "saved"))
        ids = torch.tensor([[3, 4, 5, 6]])
        mine: Any = trainer.model.eval().policy
        torch.testing.assert_close(loaded(ids).logits, mine(ids).logits, atol=1e-6, rtol=0)
    moved = [
        each - before[key.replace("weight", "default.weight")] for key, each in found[0].items()
    ]
    assert max(float(each.abs().max()) for each in moved) > 1e-3
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(torch.equal(each, found[0][key]) for key, each in other.items())


@pytest.mark.parametrize("layout", BOTH)
def test_rows_of_the_embedding_are_trained_and_the_reference_is_without_them(
    layout: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5, 6])
    bare = copy.deepcopy(llama)
    trainer = make_trainer(llama, layout=layout, peft_config=config, learning_rate=1e-2)
    trainer.train()
    ids = torch.tensor([[5, 6, 7]])
    with trainer.model.reference() as reference, torch.no_grad():
        found: Any = reference
        torch.testing.assert_close(found(ids).logits, bare(ids).logits, atol=1e-6, rtol=0)
    policy: Any = trainer.model.policy
    rows = policy.get_base_model().get_input_embeddings().token_adapter.trainable_tokens_delta
    assert not torch.equal(rows["default"], bare.get_input_embeddings().weight[[5, 6]])


def test_a_critic_begins_as_a_reward_model_that_is_a_peft_model(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """Its values are the plain reward model's scores at every place."""
    config = LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    peft: Any = trained_adapter(reward_model(llama), config)
    actor = make_trainer(llama, rewards=[peft]).model
    sequences = some_batch().sequences
    with torch.no_grad():
        network = copy.deepcopy(peft).merge_and_unload()
        hidden = last_hidden(network.model, sequences)[sequences.predicts]
        expected = network.score(hidden).squeeze(-1)
    torch.testing.assert_close(values_of(actor), expected, atol=1e-5, rtol=0)
    assert all(each.requires_grad for each in actor.critic_parameters())


@pytest.mark.parametrize("layout", BOTH)
def test_a_saved_critic_may_have_another_rank_than_the_policy(
    layout: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    first = make_trainer(copy.deepcopy(llama), peft_config=lora, learning_rate=1e-2)
    first.train()
    first.save_model(str(tmp_path / "saved"))
    values = values_of(first.model)
    assert values.abs().max() > 1e-3
    other = LoraConfig(r=3, target_modules=["v_proj"], task_type="CAUSAL_LM")
    second = make_trainer(
        copy.deepcopy(llama), peft_config=other, layout=layout, critic=str(tmp_path / "saved")
    )
    torch.testing.assert_close(values_of(second.model), values, atol=1e-5, rtol=0)


def test_a_critic_that_is_an_adapter_needs_the_policy_as_the_reference(
    llama: Any, lora: LoraConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    first = make_trainer(copy.deepcopy(llama), peft_config=lora)
    first.save_model(str(tmp_path / "saved"))
    given = {"peft_config": lora, "critic": str(tmp_path / "saved")}
    with pytest.raises(ValueError, match="leave `ref_model` out, or give another critic"):
        make_trainer(copy.deepcopy(llama), ref_model=copy.deepcopy(llama), **given)


def test_a_critic_of_another_network_is_refused(
    llama: Any, lora: LoraConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """One trained beside an adapter that is now merged into the network below."""
    first = make_trainer(
        copy.deepcopy(llama), peft_config=lora, learning_rate=3e-2, total_episodes=24
    )
    first.train()
    first.save_model(str(tmp_path / "saved"))
    adapted: Any = PeftModel.from_pretrained(copy.deepcopy(llama), str(tmp_path / "saved"))
    merged = adapted.merge_and_unload()
    with pytest.raises(ValueError, match="was trained on another network"):
        make_trainer(merged, peft_config=lora, critic=str(tmp_path / "saved"))


def test_an_adapter_and_its_critic_share_a_network_and_a_reward_model_has_its_own(
    llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """As in a recipe: the critic begins as the policy there, and as the reward model if asked."""
    rewards = [reward_model(llama), count_of_sevens]
    actor = make_trainer(copy.deepcopy(llama), rewards=rewards, peft_config=lora).model
    assert type(actor).__name__ == "SharedLoraActorCritic"
    assert not values_of(actor).any()
    asked = make_trainer(llama, rewards=rewards, peft_config=lora, critic=rewards[0]).model
    assert type(asked).__name__ == "SeparateActorCritic"
    assert values_of(asked).any()


@pytest.mark.parametrize("normalisation", ["none", "running", "fixed"])
@pytest.mark.parametrize("truncation", ["terminal", "bootstrap"])
def test_the_first_values_of_a_critic_that_was_a_reward_model_are_on_the_scale_of_scores(
    normalisation: str, truncation: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    """(weight * score + mean of the others - mean) / std, from the reward model alone."""
    model = reward_model(llama)
    seen: list[Any] = []

    def keep(rollout: Any) -> dict[str, float]:
        seen.append((rollout.rows, rollout.scores))
        return {}

    trainer = make_trainer(
        llama,
        rewards=[count_of_sevens, model],
        reward_weights=[0.5, 3.0],
        reward_normalisation=normalisation,
        truncation=truncation,
        on_rollout=keep,
    )
    trainer.train()
    rows, scores = seen[0]
    raw = torch.stack([row.rewards for row in rows]).double()
    total = 0.5 * raw[:, 0] + 3 * raw[:, 1]
    mean, std = (0, 1) if normalisation == "none" else (total.mean(), total.std(correction=0))
    torch.testing.assert_close(scores, (total - mean) / std)
    for row in rows:
        sequences = Sequences.of([row.prompt_ids], [row.completion_ids], pad=0, device=CPU)
        with torch.no_grad():
            places = model.score(last_hidden(model.model, sequences))[0, :, 0].double()
        wanted = (3 * places + 0.5 * raw[:, 0].mean() - mean) / std
        first = len(row.prompt_ids) - 1
        length = len(row.completion_ids)
        assert row.values.tolist() == pytest.approx(
            wanted[first : first + length].tolist(), abs=1e-4
        )
        if truncation == "bootstrap":
            assert row.value_after == pytest.approx(float(wanted[first + length]), abs=1e-4)


def test_a_critic_is_brought_to_the_scale_of_scores_once(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    """Trained a second time, or by a second trainer, it begins as what it has become."""
    settings = {"rewards": [reward_model(llama)], "reward_weights": [3.0], "learning_rate": 1e-9}
    first = make_trainer(llama, **settings)
    values = values_of(first.model)
    for trainer in (first, first, make_trainer(first.model, **settings)):
        trainer.train()
        torch.testing.assert_close(values_of(first.model), 3 * values, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["critic", "ref_model", "peft_config"])
def test_what_an_actor_critic_has_already_is_refused_beside_it(
    name: str, llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    """It would be left out without a word."""
    given = {"critic": "policy", "ref_model": llama, "peft_config": lora}
    actor = make_trainer(copy.deepcopy(llama)).model
    with pytest.raises(ValueError, match=f"leave `{name}` out"):
        make_trainer(actor, **{name: given[name]})


def refused_models() -> list[Any]:
    lora = {"r": 2, "target_modules": ["q_proj"]}

    def two_active(module: Any) -> dict[str, Any]:
        model: Any = get_peft_model(module, LoraConfig(**lora))
        model.add_adapter("other", LoraConfig(**lora))
        model.base_model.set_adapter(["default", "other"])
        return {"module": model}

    def named(module: Any) -> dict[str, Any]:
        return {"module": get_peft_model(module, LoraConfig(**lora), adapter_name="critic")}

    def a_modules_name(module: Any) -> dict[str, Any]:
        return {"module": get_peft_model(module, LoraConfig(**lora), adapter_name="layers")}

    def twice(module: Any) -> dict[str, Any]:
        return {
            "module": get_peft_model(module, LoraConfig(**lora)),
            "peft_config": LoraConfig(**lora),
        }

    def pissa(module: Any) -> dict[str, Any]:
        return {"module": module, "peft_config": LoraConfig(**lora, init_lora_weights="pissa")}

    def scale(module: Any) -> dict[str, Any]:
        return {"module": module, "critic": reward_model(module), "reward_normalisation": "running"}

    return [
        (two_active, "one adapter, active are `default`, `other`"),
        (named, "needs the name of the adapter `critic` for itself"),
        (a_modules_name, "called as a module of the model is, `layers`"),
        (twice, "has an adapter already"),
        (pissa, "`init_lora_weights` pissa changes the network below"),
        (scale, "a reward model that is none of the rewards"),
    ]


@pytest.mark.parametrize(("parts", "said"), refused_models())
def test_what_cannot_be_trained_beside_a_critic_is_refused(
    parts: Any, said: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    given = parts(llama)
    with pytest.raises(ValueError, match=said):
        make_trainer(given.pop("module"), **given)


def test_an_adapter_is_trained_at_a_rate_of_its_own_unless_one_is_given(
    llama: Any, lora: LoraConfig, make_trainer: MakeTrainer
) -> None:
    cases = [({}, 3e-6), ({"peft_config": lora}, 1e-4)]
    for parts, rate in cases:
        trainer = make_trainer(copy.deepcopy(llama), learning_rate=None, **parts)
        assert {group["lr"] for group in trainer.create_optimizer().param_groups} == {rate}
        given = make_trainer(copy.deepcopy(llama), learning_rate=2e-5, **parts)
        assert {group["lr"] for group in given.create_optimizer().param_groups} == {2e-5}


@pytest.mark.parametrize(("layout", "expected"), [("separate", 3e-6), ("shared_lora", 1e-4)])
def test_a_whole_critic_beside_an_adapter_is_not_trained_at_the_adapters_rate(
    layout: str, expected: float, llama: Any, make_trainer: MakeTrainer
) -> None:
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_trainer(llama, peft_config=config, layout=layout, learning_rate=None)
    groups = trainer.create_optimizer().param_groups
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    assert {rates[id(each)] for each in trainer.model.policy_parameters()} == {1e-4}
    found = [rates[id(each)] for each in trainer.model.critic_parameters()]
    assert found == pytest.approx([expected] * len(found))
