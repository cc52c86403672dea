"""Every argument that PPOTrainer has from upstream works or is refused, and stays the caller's."""

import ast
import copy
import dataclasses
import inspect
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import ParallelismConfig
from transformers import TrainerCallback, TrainingArguments

from pipeline.config.rollout_arguments import REFUSED, WITHOUT_EFFECT, WORKING
from pipeline.config.training_args import problem
from pipeline.rl.config.base import RolloutConfig
from pipeline.rl.config.groups import GroupConfig
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.ppo import PPOTrainer
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.small_trainers import MakeTrainer, count_of_sevens, lines_of, weights_of

SHORT = {"total_episodes": 4, "max_completion_length": 4}
UPSTREAM = {each.name: each for each in dataclasses.fields(TrainingArguments)}


@pytest.mark.parametrize("config", [RolloutConfig, PPOConfig, GroupConfig, GRPOConfig, RLOOConfig])
def test_every_field_of_our_own_says_below_it_what_it_is(config: type) -> None:
    (statement,) = ast.parse(inspect.getsource(config)).body
    assert isinstance(statement, ast.ClassDef)
    below = dict(pairwise(statement.body))
    fields = [
        each
        for each in statement.body
        if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation)
    ]
    assert fields
    for field in fields:
        text = below[field]
        assert isinstance(text, ast.Expr), ast.unparse(field)
        assert isinstance(text.value, ast.Constant), ast.unparse(field)


def test_every_argument_of_upstream_is_decided_on() -> None:
    """A new one of upstream's fails here: see what it does to PPO's loop, then put it where."""
    decided = [*REFUSED, *WORKING, *WITHOUT_EFFECT]
    assert sorted(decided) == sorted(UPSTREAM), set(decided) ^ set(UPSTREAM)


OTHERS: dict[str, Any] = {
    "label_names": ["text"],
    "include_for_metrics": ["inputs"],
    "include_num_input_tokens_seen": "all",
    "torch_compile_backend": "eager",
    "torch_compile_mode": "default",
    "liger_kernel_config": {"rope": True},
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "accelerator_config": {"split_batches": True},
    "parallelism_config": ParallelismConfig(tp_size=2),
    "fsdp": "full_shard",
    "fsdp_config": {"min_num_params": 1},
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "dataloader_multiprocessing_context": "spawn",
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "size",
    "optim_target_modules": "all-linear",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_that_ppo_would_ignore_is_refused(name: str, tmp_path: Path) -> None:
    """From Python and in a recipe, with one reason."""
    default = UPSTREAM[name].default
    value = OTHERS.get(name, not default if isinstance(default, bool) else 2)
    if name == "remove_unused_columns":
        value = True  # PPOConfig has another default
    with pytest.raises(ValueError, match=f"^`{name}` ") as refused:
        PPOConfig(**plain(tmp_path), **{name: value})
    assert REFUSED[name] in str(refused.value)
    assert problem(name, value, "PPOConfig") is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"save_strategy": "epoch"}, "`save_strategy` epoch: .*write `save_steps`"),
        ({"logging_strategy": "epoch"}, "`logging_strategy` epoch: .*write `logging_steps`"),
        ({"optim": "galore_adamw"}, "`optim` galore_adamw drives the training loop itself"),
        ({"optim": "schedule_free_adamw"}, "`optim` schedule_free_adamw drives the training loop"),
    ],
)
def test_a_value_that_ppo_would_ignore_is_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        PPOConfig(**{**plain(tmp_path), **settings})
    ((name, value),) = settings.items()
    assert problem(name, value, "PPOConfig") is not None
    assert problem(name, value, "SFTConfig") is None


def test_a_config_can_be_made_again_of_its_own_fields(tmp_path: Path) -> None:
    """Upstream fills some of them in."""
    args = PPOConfig(**plain(tmp_path), max_completion_length=4)
    assert dataclasses.replace(args, seed=3).seed == 3


def test_a_config_stays_what_it_was_for_the_next_trainer(llama: Any, tmp_path: Path) -> None:
    few, many = [{"input_ids": [3]}] * 4, [{"input_ids": [3]}] * 12
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 2, "num_ppo_epochs": 1}
    args = PPOConfig(
        **plain(tmp_path), **settings, max_completion_length=2, logging_first_step=True
    )
    before = copy.deepcopy(args.to_dict())
    tokenizer = tiny_tokenizer(32)
    steps: list[int] = []
    for rows in (few, many):
        trainer = PPOTrainer(copy.deepcopy(llama), [count_of_sevens], args, rows, tokenizer)
        trainer.train()
        steps.append(trainer.state.global_step)
    assert steps == [2, 6]
    assert args.to_dict() == before


def test_lines_follow_the_logging_arguments(llama: Any, make_trainer: MakeTrainer) -> None:
    """Four rollouts of three steps: a line for each, for those that hold a multiple, for none."""
    shape = {"total_episodes": 16, "num_ppo_epochs": 3, "max_completion_length": 1}

    def episodes(**settings: Any) -> list[float]:
        trainer = make_trainer(copy.deepcopy(llama), **shape, **settings)
        trainer.train()
        assert all("loss" not in line for line in trainer.state.log_history)
        return [line["episode"] for line in lines_of(trainer)]

    assert episodes() == [4, 8, 12, 16]
    assert episodes(logging_steps=5) == [8, 16]  # steps 5 and 10
    assert episodes(logging_steps=5, logging_first_step=True) == [4, 8, 16]
    assert episodes(logging_steps=0.5) == [8, 16]  # of twelve steps
    assert episodes(logging_strategy="no") == []


def test_training_that_ends_within_a_rollout_says_so_and_has_its_line(
    llama: Any, make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(llama, total_episodes=None, max_steps=2, num_ppo_epochs=3)
    trainer.train()
    assert "`max_steps` 2 ends within a rollout, which is trained on for 3 steps" in caplog.text
    (line,) = lines_of(trainer)
    assert line["episode"] == 4
    trainer.train()  # from the weights that there are: neither the rollout nor its place is kept
    assert trainer.state.global_step == 2


def test_episodes_that_are_no_whole_rollouts_are_said(
    llama: Any, make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    make_trainer(llama, total_episodes=5)
    assert "`total_episodes` 5 becomes 8: rollouts of 4 responses" in caplog.text
    with pytest.raises(ValueError, match="`num_train_epochs` 0 of 3 prompts is no response"):
        make_trainer(llama, total_episodes=None, num_train_epochs=0)


def test_one_of_several_gpus_is_used(
    llama: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As plain `python` sees them; upstream would wrap the model in DataParallel."""
    args = PPOConfig(**plain(tmp_path), **SHORT, per_device_train_batch_size=4)
    assert args.n_gpu <= 1  # found out once
    args._n_gpu = 2
    caplog.set_level(logging.WARNING)
    trainer = PPOTrainer(llama, [count_of_sevens], args, [{"input_ids": [3]}], tiny_tokenizer(32))
    assert "training on rollouts uses one of the 2 GPUs (cpu)" in caplog.text
    trainer.train()
    assert trainer.args.n_gpu == 1
    assert trainer.args.train_batch_size == trainer.args.rollout_size == 4
    assert args.n_gpu == 2


def test_an_optimizer_that_leaves_out_the_critic_is_refused(
    llama: Any, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    args = PPOConfig(**plain(tmp_path), max_completion_length=4)
    optimizer = torch.optim.SGD(llama.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="has 0 of the 22 tensors of the critic"):
        PPOTrainer(
            llama,
            [count_of_sevens],
            args,
            [{"input_ids": [3]}],
            tiny_tokenizer(32),
            optimizers=(optimizer, None),
        )
    actor = make_trainer(llama).model
    whole = torch.optim.SGD(actor.parameters(), lr=0.1)
    trainer = PPOTrainer(
        actor,
        [count_of_sevens],
        args,
        [{"input_ids": [3]}],
        tiny_tokenizer(32),
        optimizers=(whole, None),
    )
    assert trainer.create_optimizer() is whole


def test_an_optimizer_of_a_class_has_two_learning_rates(llama: Any, tmp_path: Path) -> None:
    settings = {"learning_rate": 0.1, "critic_learning_rate": 0.3, "weight_decay": 0.0}
    trainer = PPOTrainer(
        llama,
        [count_of_sevens],
        PPOConfig(**{**plain(tmp_path), **settings, **SHORT}),
        [{"input_ids": [3]}],
        tiny_tokenizer(32),
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"momentum": 0.5}),
    )
    optimizer: Any = trainer.create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    assert {(group["lr"], group["momentum"]) for group in optimizer.param_groups} == {
        (0.1, 0.5),
        (0.3, 0.5),
    }


class Seen(TrainerCallback):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lines: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.events.append("begin")
        assert given["model"] is not None
        assert given["optimizer"] is not None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.events.append("step")
        control.should_training_stop = state.global_step == 3

    def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
        self.lines.append(logs)


def test_a_callback_sees_steps_and_lines_and_can_stop(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    seen = Seen()
    trainer = make_trainer(llama, callbacks=[seen], total_episodes=16, num_ppo_epochs=2)
    trainer.train()
    assert seen.events == ["begin", *["step"] * 3]
    assert [line["episode"] for line in seen.lines if "episode" in line] == [4]


@pytest.mark.parametrize("empties", [1, 2])
def test_the_devices_cache_is_emptied_as_often_as_asked(
    empties: int, llama: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("pipeline.rl.trainer.clear_device_cache", lambda: calls.append(True))
    trainer = make_trainer(llama, torch_empty_cache_steps=empties, num_ppo_epochs=2)
    trainer.train()
    assert len(calls) == trainer.state.global_step // empties


def test_gradients_are_not_clipped_at_0(llama: Any, make_trainer: MakeTrainer) -> None:
    """The same weights as with a bound that no gradient reaches."""
    after: list[Any] = []
    for bound in (0.0, 1e9):
        trainer = make_trainer(copy.deepcopy(llama), max_grad_norm=bound, learning_rate=0.1)
        trainer.train()
        after.append(weights_of(trainer.model))
    assert all(torch.allclose(after[0][name], each) for name, each in after[1].items())
