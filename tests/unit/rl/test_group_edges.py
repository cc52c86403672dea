"""Methods without a critic where there is little to learn from, and where training ends early."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EarlyStoppingCallback, LlamaForCausalLM

from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.rloo import RLOOTrainer
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.small_trainers import VOCABULARY, Written, are_same, lines_of, weights_of
from tests.unit.rl.test_group_trainers import FAST, PROMPTS, grpo

_SAVED = {"save_strategy": "steps", "lr_scheduler_type": "constant", "weight_decay": 0.1}
_CUT, _ENDED = [5, 6, 7, 8, 9], [[7, 1], [5, 7, 7, 1], [5, 6, 1], [7, 7, 1]]


def sevens_that_end(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    """Reward t7; nothing for responses that were cut."""
    return [float(ids.count(7)) if ids[-1] == 1 else None for ids in completion_ids]


def test_a_checkpoint_is_split_anew_but_its_rollouts_keep_their_steps(
    llama: Any, tmp_path: Path
) -> None:
    """In the middle of a rollout: another number of steps would train on other rows."""
    parted = {"generation_batch_size": 16, "num_iterations": 2, **_SAVED}
    small = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    begun = grpo(copy.deepcopy(llama), tmp_path, **parted, max_steps=3, save_steps=3)
    begun.train()
    whole = grpo(copy.deepcopy(llama), tmp_path / "whole", **parted, max_steps=6, save_steps=9)
    whole.train()
    of_one_step = grpo(
        copy.deepcopy(llama), tmp_path, **parted, gradient_accumulation_steps=2, max_steps=6
    )
    checkpoint = str(tmp_path / "checkpoint-3")
    with pytest.raises(ValueError, match="`optimizer steps of a pass over them` 2, not 1"):
        of_one_step.train(resume_from_checkpoint=checkpoint)
    passes = {**_SAVED, "num_iterations": 2, "steps_per_generation": 4}
    split = grpo(copy.deepcopy(llama), tmp_path, **passes, **small, max_steps=6, save_steps=9)
    split.train(resume_from_checkpoint=checkpoint)
    ends = weights_of(whole.model)
    gaps = [(ends[name] - each).abs().max() for name, each in weights_of(split.model).items()]
    assert max(gaps) <= 1e-5


def test_a_run_that_ends_within_a_rollout_goes_on_in_it(llama: Any, tmp_path: Path) -> None:
    settings = {"generation_batch_size": 16, "num_iterations": 3, **_SAVED}
    whole = grpo(copy.deepcopy(llama), tmp_path / "whole", **settings, max_steps=12, save_steps=99)
    whole.train()
    ended = grpo(copy.deepcopy(llama), tmp_path, **settings, max_steps=8, save_steps=4)
    ended.train()
    assert [line["step"] for line in lines_of(ended)] == [6, 8]
    longer = grpo(copy.deepcopy(llama), tmp_path, **settings, max_steps=12, save_steps=99)
    longer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert are_same(weights_of(whole.model), weights_of(longer.model))


def test_responses_that_are_all_masked_teach_nothing(llama: Any, tmp_path: Path) -> None:
    """No loss, no decay of weights, no step of Adam's; and figures that are numbers."""
    settings = {"mask_truncated_completions": True, "weight_decay": 0.1, "total_episodes": 16}
    trainer = grpo(llama, tmp_path, **settings)
    trainer.collector.sampler = Written([_CUT, [7] * 5])
    before = weights_of(trainer.model)
    trainer.train()
    assert are_same(before, weights_of(trainer.model))
    for line in lines_of(trainer):
        assert line["completions/masked"] == 1
        assert all(torch.isfinite(torch.tensor(each)) for each in line.values())


def test_masked_responses_count_in_their_group_and_as_rows(llama: Any, tmp_path: Path) -> None:
    """As TRL's: the baseline is of all of a group, and a mean over rows is of all rows."""
    written = [_CUT, *_ENDED[:3]]
    losses: dict[bool, Any] = {}
    for masks in (False, True):
        trainer = grpo(
            copy.deepcopy(llama),
            tmp_path,
            **{"loss_type": "grpo", "mask_truncated_completions": masks, "total_episodes": 8},
        )
        trainer.collector.sampler = Written(written)
        trainer.train()
        losses[masks] = lines_of(trainer)[0]
    assert losses[True]["advantage/mean"] == losses[False]["advantage/mean"]
    assert losses[True]["completions/masked"] == 0.25
    # Each row's mean at ratio 1 is its advantage: of cut rows it is missing, and nothing else is.
    scores = torch.tensor([float(ids.count(7)) for ids in written])
    advantages = (scores - scores.mean()) / (scores.std() + 1e-4)
    assert losses[True]["loss/policy"] == pytest.approx(float(advantages[0] / 4), abs=1e-5)
    assert losses[False]["loss/policy"] == pytest.approx(0, abs=1e-5)


def test_a_response_that_is_scored_alone_teaches_nothing(llama: Any, tmp_path: Path) -> None:
    """Its group has nothing to compare it with; the other group is learnt from."""
    alone = [_CUT, _CUT, _CUT, _ENDED[0]]
    args = RLOOConfig(**plain(tmp_path), **FAST, beta=0.0, num_generations=4, total_episodes=8)
    for written, moves in ((alone * 2, False), (alone + _ENDED, True)):
        tokenizer = tiny_tokenizer(VOCABULARY)
        model = copy.deepcopy(llama)
        trainer = RLOOTrainer(model, sevens_that_end, args, PROMPTS, None, tokenizer)
        trainer.collector.sampler = Written(written)
        before = weights_of(trainer.model)
        trainer.train()
        (line,) = lines_of(trainer)
        assert line["groups/without_spread"] == pytest.approx(1.0 if not moves else 0.2)
        assert are_same(before, weights_of(trainer.model)) != moves


def test_groups_without_a_score_are_drawn_anew_up_to_the_bound(llama: Any, tmp_path: Path) -> None:
    """Keys 0 to 7 of the first two groups have no score, nor has the first that replaces them."""
    settings = {"rewards": sevens_that_end, "dynamic_sampling": 2, "total_episodes": 8}
    trainer = grpo(llama, tmp_path, **settings)
    trainer.collector.sampler = Written([_CUT] * 12 + _ENDED * 2)
    trainer.train()
    (line,) = lines_of(trainer)
    assert line["groups/replaced"] == 3  # both, then one of them again
    assert line["rewards/unscored"] == 0
    # Those that were thrown away are sampled tokens, too.
    assert line["rollout/tokens"] == sum(map(len, [_CUT] * 12 + _ENDED * 2))
    assert trainer.rl.prompts_drawn == 5


def test_the_best_checkpoint_is_loaded_where_training_stops_early(
    llama: Any, tmp_path: Path
) -> None:
    """Without a critic, whose weights would be taken from it as well."""
    settings = {
        **{"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 12},
        **{"load_best_model_at_end": True, **_SAVED, "weight_decay": 0.0, "learning_rate": 5e-2},
        "rewards": lambda completion_ids, **_: [-float(ids.count(7)) for ids in completion_ids],
        "eval_dataset": [{"input_ids": [3, 4]}, {"input_ids": [9]}],
        "callbacks": [EarlyStoppingCallback(early_stopping_patience=2)],
    }
    trainer = grpo(llama, tmp_path, **settings)
    trainer.train()
    state = trainer.state
    found = [line for line in state.log_history if "eval_objective/scores" in line]
    best = max(found, key=lambda line: line["eval_objective/scores"])
    assert best["step"] < state.global_step < 12
    assert state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best['step']}")
    kept: Any = LlamaForCausalLM.from_pretrained(state.best_model_checkpoint)
    assert are_same(weights_of(kept), weights_of(trainer.model.policy))
