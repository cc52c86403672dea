"""A ppo stage before it runs: what it is built on, what decides it, how big it will be."""

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from pipeline.config.new_model import NewModelBlock
from pipeline.errors import PosttrainError
from pipeline.plan.estimate import Estimate, estimates
from pipeline.plan.plan import Plan, make
from pipeline.recipe.load import load
from pipeline.stages.rl.ppo_config import PpoConfig
from pipeline.store.store import Store

RECIPE = """\
name: small
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 1024}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
  sft: {stage: sft, model: $base, data: [{task: arithmetic, rows: 160}]}
  preference: {stage: reward_model, model: $sft, data: [{task: arithmetic}]}
  ppo:
    stage: ppo
    model: $sft
    prompts: [{task: arithmetic, rows: 100}, {file: asked.jsonl, rows: 20}]
    reward: [{model: $preference}, {use: my_rewards:brevity, weight: 0.1}]
    batch_size: 16
    training_args: {max_prompt_length: 40, max_completion_length: 24}
"""
FIELDS = {"architecture": "llama", "tokenizer": "$t", "hidden_size": 32, "num_hidden_layers": 2}
LORA = "stages.ppo.lora={r: 4}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "my_rewards.py").write_text("def brevity(completions, **rest): ...\n")
    (tmp_path / "asked.jsonl").write_text(json.dumps({"prompt": "Say so."}) + "\n")
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path / "small.yaml"


def planned(recipe: Path, *overrides: str) -> Plan:
    return make(load(recipe, overrides=overrides), Store(recipe.parent / "runs"))


def fingerprint(recipe: Path, *overrides: str) -> str:
    return planned(recipe, *overrides).stage("ppo").fingerprint


def size(recipe: Path, *overrides: str) -> Estimate:
    return estimates(planned(recipe, *overrides))["ppo"]


def test_it_is_built_on_its_policy_its_reward_models_and_the_critics_stage(recipe: Path) -> None:
    assert planned(recipe).stage("ppo").inputs == ("sft", "preference")
    with recipe.open("a") as stream:
        stream.write("  more: {stage: ppo, model: $sft, prompts: {task: arithmetic}, ")
        stream.write("reward: {verify: all}, critic: $ppo}\n")
    assert planned(recipe).stage("more").inputs == ("sft", "ppo")


def test_the_users_own_code_and_prompts_are_part_of_what_is_computed(recipe: Path) -> None:
    before = fingerprint(recipe)
    (recipe.parent / "my_rewards.py").write_text("def brevity(completions, **rest): return 1\n")
    assert (changed := fingerprint(recipe)) != before
    (recipe.parent / "asked.jsonl").write_text(json.dumps({"prompt": "Say no."}) + "\n")
    assert fingerprint(recipe) != changed


@pytest.mark.parametrize(
    "override",
    [
        "stages.ppo.reward.0.weight=2.0",
        "stages.ppo.reward.1.on=arithmetic",
        "stages.ppo.reward.1={verify: arithmetic}",
        "stages.ppo.critic=policy",
        "stages.ppo.critic=$preference",
        "stages.ppo.kl={coef: 0.2}",
        "stages.ppo.reward_clip=[-1, 1]",
        "stages.ppo.best_of=4",
        "stages.ppo.rollout={engine: generate}",
        "stages.ppo.training_args.num_mini_batches=2",
        "stages.preference.seed=9",
    ],
)
def test_what_changes_the_result_is_a_new_fingerprint(recipe: Path, override: str) -> None:
    assert fingerprint(recipe, override) != fingerprint(recipe)


@pytest.mark.parametrize(
    "override",
    [
        "stages.ppo.training_args.rollout_batch_size=8",
        "stages.ppo.training_args.scoring_batch_size=4",
        "stages.ppo.training_args.per_device_train_batch_size=2",
        "stages.ppo.training_args.num_ppo_epochs=4",
        "stages.ppo.kl={coef: 0.05}",
    ],
)
def test_what_only_costs_time_or_memory_is_not(recipe: Path, override: str) -> None:
    assert fingerprint(recipe, override) == fingerprint(recipe)


def test_renaming_a_reward_models_stage_changes_nothing(recipe: Path) -> None:
    before = fingerprint(recipe)
    recipe.write_text(RECIPE.replace("preference", "kindness"))
    assert fingerprint(recipe) == before


@pytest.mark.parametrize(
    ("overrides", "source"),
    [
        ((), "$preference"),
        (("stages.ppo.critic=policy",), "policy"),
        (("stages.ppo.reward={verify: arithmetic}", "stages.ppo.prompts={task: arithmetic}"),
         "policy"),
        ((LORA,), "policy"),
        ((LORA, "stages.ppo.critic=reward"), "$preference"),
        (("stages.ppo.training_args.layout=shared_trunk",), "policy"),
    ],
)  # fmt: skip
def test_a_critic_starts_from_the_reward_model_where_it_has_weights_of_its_own(
    recipe: Path, overrides: tuple[str, ...], source: str
) -> None:
    config = planned(recipe, *overrides).stage("ppo").config
    assert isinstance(config, PpoConfig)
    assert config.critic_source == source


def test_what_a_worker_reads_back_is_the_config_that_was_written(recipe: Path) -> None:
    overrides = ("stages.ppo.reward_clip=[-2, 2]", "stages.ppo.kl={target: 6}")
    config = planned(recipe, *overrides).stage("ppo").config
    written = json.dumps(config.model_dump(mode="json", by_alias=True))
    assert PpoConfig.model_validate_json(written) == config


def test_what_the_stage_says_are_fields_that_training_args_refuses(recipe: Path) -> None:
    config = planned(recipe).stage("ppo").config
    assert isinstance(config, PpoConfig)
    for key, value in config.trainer_fields().items():
        with pytest.raises(PosttrainError, match=f"`{key}` cannot be set in `training_args`"):
            load(recipe, overrides=(f"stages.ppo.training_args.{key}={json.dumps(value)}",))


def test_the_policy_and_a_whole_critic_are_trained(recipe: Path) -> None:
    fields: dict[str, Any] = NewModelBlock.model_validate(FIELDS).fields()
    config = AutoConfig.for_model("llama", **fields, vocab_size=300)
    policy = AutoModelForCausalLM.from_config(config)
    parameters, critic = policy.num_parameters(), AutoModel.from_config(config).num_parameters()
    head = 32 + 1
    whole = size(recipe)
    assert (whole.parameters, whole.trained_parameters) == (parameters, parameters + critic + head)
    trunk = size(recipe, "stages.ppo.training_args.layout=shared_trunk")
    assert trunk.trained_parameters == parameters + head
    adapted = get_peft_model(policy, LoraConfig(r=4, target_modules="all-linear"))
    adapter, _ = adapted.get_nb_trainable_parameters()
    assert size(recipe, LORA).trained_parameters == 2 * adapter + head
    own = size(recipe, LORA, "stages.ppo.training_args.layout=separate")
    assert own.trained_parameters == adapter + critic + head
    # Policy, reference, critic and reward model; then one network for all but the reward model.
    assert whole.memory_bytes
    assert own.memory_bytes
    shared = size(recipe, LORA).memory_bytes or 0
    assert shared < own.memory_bytes < whole.memory_bytes
    without = size(
        recipe, "stages.ppo.reward={use: my_rewards:brevity}", "stages.ppo.critic=policy"
    )
    scorer_bytes = whole.memory_bytes - (without.memory_bytes or 0)
    assert scorer_bytes == pytest.approx(4 * parameters, rel=0.01)


@pytest.mark.parametrize(
    ("override", "episodes"),
    [
        ("stages.ppo.seed=1", 128),  # of 120 prompts, rounded up to whole rollouts
        ("stages.ppo.training_args.num_train_epochs=2", 240),
        ("stages.ppo.training_args.total_episodes=70", 80),
        ("stages.ppo.training_args.max_steps=40", 160),
        ("stages.ppo.training_args.num_mini_batches=4", 128),
    ],
)
def test_tokens_are_those_of_every_pass_over_whole_rollouts(
    recipe: Path, override: str, episodes: int
) -> None:
    assert size(recipe, override).tokens == episodes * 4 * (40 + 24)


def test_without_a_bound_on_prompts_they_may_be_as_long_as_the_model_has_positions(
    recipe: Path,
) -> None:
    found = size(recipe, "stages.ppo.training_args={max_completion_length: 24}")
    assert found.tokens == 128 * 4 * 1024
    assert found.is_upper_bound
