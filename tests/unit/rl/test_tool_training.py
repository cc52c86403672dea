"""Training with tools: whose tokens are trained, what rewards see, what is logged."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.reading.records import Message
from pipeline.errors import PosttrainError
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.ppo import PPOTrainer
from pipeline.rl.rloo import RLOOTrainer
from tests.talking_models import (
    QUESTIONS,
    calculator_tool,
    question,
    talking_model,
    talking_tokenizer,
)

METHODS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ppo": (PPOTrainer, PPOConfig, {"num_ppo_epochs": 2}),
    "grpo": (GRPOTrainer, GRPOConfig, {"num_generations": 4, "num_iterations": 2, "beta": 0.01}),
    "rloo": (RLOOTrainer, RLOOConfig, {"num_generations": 4, "num_iterations": 2}),
}
ROWS = [
    {"prompt": [{"role": "user", "content": question(each)}], "needs_tool": answer is not None}
    for each, answer in QUESTIONS.items()
]


@pytest.fixture(scope="module")
def learnt() -> dict[str, torch.Tensor]:
    return talking_model(talking_tokenizer()).state_dict()


def talker(weights: dict[str, torch.Tensor]) -> Any:
    module = talking_model(talking_tokenizer(), steps=0)
    module.load_state_dict(weights)
    return module


def trainer_of(
    method: str,
    weights: dict[str, torch.Tensor],
    folder: Path,
    *,
    reward: Any = None,
    tools: Any = None,
    on_rollout: Any = None,
    **settings: Any,
) -> Any:
    make, config, own = METHODS[method]
    defaults = {
        "per_device_train_batch_size": 8,
        "max_completion_length": 80,
        "max_steps": 2,
        "learning_rate": 1e-4,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "temperature": 0.7,
    }
    seen = reward or (lambda completions, **_: [float(len(each)) for each in completions])
    return make(
        talker(weights),
        [seen],
        config(output_dir=str(folder), **{**defaults, **own, **settings}),
        ROWS,
        processing_class=talking_tokenizer(),
        tools=[calculator_tool()] if tools is None else tools,
        on_rollout=on_rollout,
    )


@pytest.mark.parametrize("method", METHODS)
def test_tokens_of_tools_have_no_numbers_and_are_not_trained_on(
    method: str, learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    seen: list[Any] = []

    def keep(rollout: Any) -> dict[str, float]:
        seen.append((rollout.rows, trainer.rl.experience))
        return {}

    trainer = trainer_of(method, learnt, tmp_path, on_rollout=keep)
    trainer.train()
    rows, _ = seen[0]
    encoder = ChatEncoder(talking_tokenizer())
    num_called = 0
    for row in rows:
        assert row.conversation is not None
        turns = row.conversation.turns
        for earlier, later in itertools.pairwise(turns):
            between = row.completion_ids[earlier.end : later.begin]
            told = [Message("tool", call.answer, name=call.name) for call in earlier.calls]
            text = "".join(f"<|system|>{one.content}<|end|>" for one in told) + "<|assistant|>"
            assert encoder.text.tokenizer.decode(between) == text
            own = slice(earlier.end, later.begin)
            assert not row.own[own].any()
            for numbers in (row.logprobs, row.reference, row.values):
                assert not numbers[own].any()
            num_called += 1
        assert row.num_tokens == sum(turn.end - turn.begin for turn in turns)
        assert (row.logprobs[row.own] < 0).all()
    assert num_called > 2


def test_the_experience_of_a_rollout_masks_what_tools_said(
    learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    trainer = trainer_of("ppo", learnt, tmp_path)
    trainer._begin(0)
    experience = trainer.rl.experience
    rows = trainer.rl.experience.completions
    masked = [
        place
        for row, ids in enumerate(rows)
        for place in range(len(ids))
        if not experience.mask[row, place]
    ]
    assert masked
    for numbers in (experience.advantages, experience.returns, experience.logprobs):
        assert not numbers[~experience.mask].any()


def test_rewards_see_the_turns_as_messages_and_verifiers_the_last(
    learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    seen: list[Any] = []

    def price(completions: Any, needs_tool: Any, **_: Any) -> list[float]:
        seen.extend(zip(completions, needs_tool, strict=True))
        calls = [sum(len(one.get("tool_calls", ())) for one in talk) for talk in completions]
        return [-0.5 * number for number in calls]

    rows: list[Any] = []

    def keep(rollout: Any) -> dict[str, float]:
        rows.extend(rollout.rows)
        return {}

    trainer = trainer_of("grpo", learnt, tmp_path, reward=price, on_rollout=keep, temperature=0.2)
    trainer._begin(0)
    talks = [talk for talk, needs in seen if needs and len(talk) == 3]
    assert talks
    for asked, told, answer in talks:
        (call,) = asked["tool_calls"]
        assert asked["content"] == ""
        assert call["function"]["name"] == "calculator"
        assert (told["role"], told["name"]) == ("tool", "calculator")
        assert answer == {"role": "assistant", "content": f"It is {told['content']}."}
    for row, (talk, _) in zip(rows, seen, strict=True):
        assert row.response == talk[-1]["content"]
        assert row.messages == talk


def test_what_is_logged_says_how_tools_were_used(
    learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    trainer = trainer_of("grpo", learnt, tmp_path, temperature=0.05)
    trainer.train()
    line = next(line for line in trainer.state.log_history if "tools/called" in line)
    assert line["tools/called_when_needed"] == 1.0
    assert line["tools/called_when_not_needed"] == 0.0
    assert line["tools/failure_frequency"] == 0.0
    assert line["tools/call_frequency"] == line["tools/called"] > 0
    assert 1 <= line["tools/turns"] <= 2
    assert line["tools/open"] == 0.0
    assert line["time/tools"] > 0


def test_calls_beyond_what_is_answered_are_left_open(
    learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    lines: list[dict[str, float]] = []
    trainer = trainer_of(
        "grpo",
        learnt,
        tmp_path,
        temperature=0.05,
        max_completion_length=36,
        on_rollout=lambda rollout: lines.append(rollout.metrics) or {},
    )
    trainer._begin(0)
    assert lines[0]["tools/open"] > 0  # called, and no room for the answer
    assert lines[0]["eos_rate"] < 1


@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_tools_is_the_same_twice(
    method: str, learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    ends = []
    for part in ("a", "b"):
        trainer = trainer_of(method, learnt, tmp_path / part)
        trainer.train()
        ends.append(trainer.model.policy.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_tools_that_is_resumed_ends_in_the_same_state(
    method: str, learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "temperature": 1.0}
    whole = trainer_of(method, learnt, tmp_path / "a", **settings)
    whole.train()
    for step in (1, 2):
        again = trainer_of(method, learnt, tmp_path / f"b{step}", **settings)
        again.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
        ends = [one.model.policy.state_dict() for one in (whole, again)]
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
        lines = [
            [
                {key: value for key, value in line.items() if not key.startswith("time/")}
                for line in one.state.log_history
                if "tools/called" in line
            ]
            for one in (whole, again)
        ]
        assert lines[0] == lines[1]
        assert lines[0]


def test_functions_that_cannot_be_tools_are_refused(
    learnt: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(PosttrainError, match="docstring"):
        trainer_of("grpo", learnt, tmp_path, tools=[lambda x: x])
    with pytest.raises(ValueError, match="max_tool_calling_iterations"):
        trainer_of("grpo", learnt, tmp_path, max_tool_calling_iterations=0)
