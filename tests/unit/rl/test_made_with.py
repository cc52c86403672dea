"""A checkpoint is resumed with what it was made with; what may change is applied."""

import copy
from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model

from pipeline.rl.layouts.separate import SeparateActorCritic
from pipeline.rl.resume_settings import digest_of_reference
from tests.unit.rl.small_trainers import MakeTrainer, are_same, lines_of, shaken, weights_of

SETTINGS: dict[str, Any] = {
    **{"total_episodes": 16, "num_ppo_epochs": 3, "num_mini_batches": 1, "learning_rate": 1e-2},
    **{"save_strategy": "steps", "save_steps": 4, "max_completion_length": 3},
}


def begun(llama: Any, make_trainer: MakeTrainer, tmp_path: Path) -> str:
    """Leave one checkpoint, in the middle of the second rollout of three steps."""
    make_trainer(copy.deepcopy(llama), **SETTINGS, max_steps=4).train()
    (found,) = tmp_path.glob("checkpoint-*")
    return str(found)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"num_ppo_epochs": 2}, "`num_ppo_epochs` 3, not 2"),
    (
        {"num_mini_batches": 2},
        "`responses of a rollout` 4, not 8; `optimizer steps of a pass over them` 1, not 2",
    ),
    ({"per_device_train_batch_size": 2}, "`responses of a rollout` 4, not 2"),
    (
        {"learning_rate": 1e-5, "kl_coef": 0.9},
        "`learning_rate` 0.01, not 1e-05; `kl_coef` 0.05",
    ),
    ({"critic_learning_rate": 1.0}, "`critic_learning_rate` None, not 1.0"),
    ({"lr_scheduler_type": "cosine"}, "`lr_scheduler_type` linear, not cosine"),
    ({"seed": 8}, "`seed` 42, not 8"),
    ({"reward_weights": [2.0]}, "`rewards` [['count_of_sevens', 1.0, None]], not"),
    ({"reward_normalisation": "running"}, "`reward_normalisation` none, not running"),
    ({"rows": [{"input_ids": [4]}] * 3}, "`digest of the prompts`"),
    ({"rewards": [lambda completions, **_: [0.0] * len(completions)]}, "`rewards`"),
]


def test_a_checkpoint_of_other_settings_is_refused_by_name(
    llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """Some ended in an assertion, others were accepted and never used."""
    checkpoint = begun(llama, make_trainer, tmp_path)
    for changed, said in CHANGES:
        trainer = make_trainer(copy.deepcopy(llama), **{**SETTINGS, **changed})
        before = weights_of(trainer.model)
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            trainer.train(resume_from_checkpoint=checkpoint)
        assert str(refused.value).startswith("the checkpoint was made with ")
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
        assert are_same(before, weights_of(trainer.model))


def test_a_checkpoint_as_the_model_is_no_reference(
    llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """The KL would be measured to the policy that has been trained."""
    checkpoint = begun(llama, make_trainer, tmp_path)
    with pytest.raises(ValueError, match="made with `digest of the reference`"):
        make_trainer(checkpoint, **SETTINGS).train(resume_from_checkpoint=checkpoint)


@pytest.mark.parametrize(
    "changed",
    [
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"scoring_batch_size": 1, "rollout_batch_size": 1, "logging_steps": 2, "save_steps": 5},
    ],
)
def test_what_changes_no_result_may_change(
    changed: dict[str, Any], llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    checkpoint = begun(llama, make_trainer, tmp_path)
    ends: list[Any] = []
    for settings in ({}, changed):
        trainer = make_trainer(copy.deepcopy(llama), **{**SETTINGS, "max_steps": 4, **settings})
        trainer.args.max_steps = 9
        trainer.train(resume_from_checkpoint=checkpoint)
        assert trainer.state.global_step == 9
        ends.append(weights_of(trainer.model))
    for name, each in ends[0].items():
        assert (each - ends[1][name]).abs().max() < 1e-5, name


def test_a_longer_training_goes_on_with_the_schedule_of_its_own_length(
    llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    checkpoint = begun(llama, make_trainer, tmp_path)
    trainer = make_trainer(copy.deepcopy(llama), **{**SETTINGS, "total_episodes": 40})
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.state.global_step == 30
    rates = [line["lr"] for line in lines_of(trainer)]
    assert rates[-9:] == pytest.approx([1e-2 * (1 - step / 30) for step in range(6, 31, 3)])


def test_what_cannot_be_resumed_says_why(
    llama: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    checkpoint = Path(begun(llama, make_trainer, tmp_path))
    trainer = make_trainer(copy.deepcopy(llama), **SETTINGS)
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(ValueError, match=r"it has no optimizer\.pt, as with `save_only_model`"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "rl_state.json").unlink()
    with pytest.raises(ValueError, match=r"it has no rl_state\.json"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def test_another_reference_is_refused_where_it_is_shared(
    llama: Any, lora: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "layout": "shared_lora", "peft_config": lora, "max_steps": 4}
    make_trainer(copy.deepcopy(llama), **settings).train()
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    again = make_trainer(copy.deepcopy(llama), **settings)
    again.args.max_steps = 6
    again.train(resume_from_checkpoint=str(checkpoint))
    assert again.state.global_step == 6
    shaken(llama.parameters())
    with pytest.raises(ValueError, match="made with `digest of the reference`"):
        make_trainer(llama, **settings).train(resume_from_checkpoint=str(checkpoint))


def test_a_reference_with_another_adapter_is_another_reference(llama: Any, lora: Any) -> None:
    """The policy's own adapter is no part of it: it is trained, and lies in the checkpoint."""
    policy: Any = get_peft_model(copy.deepcopy(llama), lora)
    own = SeparateActorCritic(policy, copy.deepcopy(llama).base_model, None)
    before = digest_of_reference(own)
    shaken(each for name, each in policy.named_parameters() if "lora_" in name)
    assert digest_of_reference(own) == before
    network: Any = get_peft_model(copy.deepcopy(llama), lora)
    reference = network.get_base_model()
    other = SeparateActorCritic(policy, copy.deepcopy(llama).base_model, reference)
    before = digest_of_reference(other)
    shaken(each for name, each in reference.named_parameters() if "lora_" in name)
    assert digest_of_reference(other) != before
