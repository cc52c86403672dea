"""What an adapter is trained with where nothing is said: ten times the rate of full training."""

from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.plan.plan import make, training_summary
from pipeline.store.store import Store

RECIPE = """\
name: rates
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 256
  full: {stage: KIND, model: $base, ROWS}
  lora: {stage: KIND, model: $base, lora: {r: 4}, ROWS}
  given: {stage: KIND, model: $base, lora: {r: 4}, training_args: {learning_rate: 7.0e-4}, ROWS}
"""
DATA = "data: {task: arithmetic}"
PROMPTS = "prompts: {task: arithmetic}, reward: {verify: all}"


@pytest.mark.parametrize(
    ("kind", "rows", "full", "adapter"),
    [
        ("sft", DATA, 2e-5, 2e-4),
        ("reward_model", DATA, 1e-5, 1e-4),
        ("dpo", DATA, 1e-6, 1e-5),
        ("ppo", PROMPTS, 3e-6, 1e-4),
    ],
)
def test_an_adapter_has_a_learning_rate_of_its_own_which_plan_shows_and_which_is_identity(
    kind: str, rows: str, full: float, adapter: float, tmp_path: Path
) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text(RECIPE.replace("KIND", kind).replace("ROWS", rows))
    plan = make(load_recipe(path), Store(tmp_path / "runs"))
    for name, rate in (("full", full), ("lora", adapter), ("given", None)):
        planned = plan.stage(name)
        assert training_summary(plan, planned.config).get("learning_rate") == rate
        assert planned.identity["training_args"]["learning_rate"] == (rate or 7e-4)


@pytest.mark.parametrize(
    ("kind", "rows", "length"),
    [("sft", DATA, "max_steps"), ("ppo", PROMPTS, "max_steps"), ("ppo", PROMPTS, "total_episodes")],
)
def test_epochs_are_no_default_of_ours_where_another_setting_ends_training(
    kind: str, rows: str, length: str, tmp_path: Path
) -> None:
    path = tmp_path / "length.yaml"
    path.write_text(RECIPE.replace("KIND", kind).replace("ROWS", rows))
    plan = make(load_recipe(path), Store(tmp_path / "runs"))
    assert training_summary(plan, plan.stage("full").config)["num_train_epochs"] == 1
    path.write_text(path.read_text().replace("learning_rate: 7.0e-4", f"{length}: 64"))
    plan = make(load_recipe(path), Store(tmp_path / "runs"))
    said = training_summary(plan, plan.stage("given").config)
    assert "num_train_epochs" not in said
    assert "learning_rate" in said
