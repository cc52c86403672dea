"""What the installed TRL's GRPOTrainer and RLOOTrainer compute of given completions, step by step.

Unlike derive.py, which asks a trainer of the past for a fixture, this runs TRL's in the process of
the test. They run unmodified but for generation, in place of which they are given completions; what
they compute is read where they compute it. Nothing here computes with our code.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from tests.ppo_tasks import EOS, plain, tiny_llama, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

VOCABULARY, LONGEST, GENERATIONS = 24, 6, 4
TRAINING = {  # in small steps, whose size follows from the gradient
    "max_steps": 1,
    "optim": "sgd",
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "temperature": 0.8,
    "logging_steps": 1,
}
_SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}


@dataclass(frozen=True)
class Row:
    """A completion that TRL is given. own: False on tokens of a tool. score: None for no score.

    sampled: the log-probabilities that another engine says it sampled with, NaN where it has none.
    """

    prompt: list[int]
    completion: list[int]
    score: float | None
    own: list[bool]
    sampled: list[float]

    @property
    def is_cut(self) -> bool:
        """Whether it has no end."""
        return self.completion[-1] != EOS


@dataclass(frozen=True)
class Pass:
    """One forward pass of TRL's over some rows, by their numbers: (b, T) each.

    gradient: of the loss of the whole optimizer step by `new`. loss: its share of that loss, ().
    """

    rows: list[int]
    mask: Tensor
    new: Tensor
    gradient: Tensor
    loss: Tensor


@dataclass
class Heard:
    """What TRL computed. steps: [step][pass].

    advantages: (B,), old, reference: (B, T), in the order of the rows; empty where TRL makes none.
    gradients: of the policy's parameters, as each optimizer step takes them.
    """

    advantages: Tensor = field(default_factory=lambda: torch.zeros(0))
    old: Tensor = field(default_factory=lambda: torch.zeros(0))
    reference: Tensor = field(default_factory=lambda: torch.zeros(0))
    steps: list[list[Pass]] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    logged: dict[str, float] = field(default_factory=dict)


def rows(*, with_tools: bool = False) -> list[Row]:
    """Return three prompts' four completions each: cut, of one token, of all lengths.

    One has no score; one prompt's have no spread; with tools, some tokens are not the policy's.
    """
    generator = torch.Generator().manual_seed(12)
    lengths = [6, 3, 1, 6, 5, 6, 2, 4, 3, 3, 6, 2]
    cut = {0, 5}
    scores = [1.0, 0.0, 0.25, None, 0.3, -1.0, 2.0, 0.7, 0.1, 0.1, 0.1, 0.1]

    def ids(length: int) -> list[int]:
        return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()

    prompts = [ids(length) for length in (4, 2, 3)]
    found = []
    for number, (length, score) in enumerate(zip(lengths, scores, strict=True)):
        completion = ids(length) if number in cut else [*ids(length - 1), EOS]
        own = [True] * length
        if with_tools and length > 3:
            own[1:3] = [False, False]
        sampled = (-3.2 + 0.6 * torch.randn(length, generator=generator)).tolist()
        if number == 4:
            sampled[1] = float("nan")
        found.append(Row(prompts[number // GENERATIONS], completion, score, own, sampled))
    return found


def policy() -> Any:
    """Return a small Llama whose predictions differ from token to token."""
    return _louder(tiny_llama(0, VOCABULARY, **_SHAPE), seed=1, scale=0.3)


def reference(folder: Path) -> Any:
    """Write one near to it, which TRL loads as its own from there, and return it."""
    module = _louder(policy(), seed=2, scale=0.05)
    module.save_pretrained(folder / "reference")
    return module


def tokenizer() -> Any:
    """Return one whose padding is its end, so that no id is left out of a distribution."""
    made = tiny_tokenizer(VOCABULARY)
    made.pad_token = made.eos_token
    return made


def ask(
    method: str,
    given: Sequence[Row],
    folder: Path,
    *,
    is_other_engine: bool = False,
    **settings: Any,
) -> Heard:
    """Train with TRL's trainer on the rows for as many steps as there are, and return what it did.

    method: grpo or rloo. is_other_engine: whether the rows' `sampled` are taken for vLLM's.
    """
    import trl

    heard = Heard()
    module = policy()
    reference(folder)
    module.config._name_or_path = str(folder / "reference")
    by_ids = {tuple(row.completion): row.score for row in given}
    assert len(by_ids) == len(given)

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        return [by_ids[tuple(ids)] for ids in completion_ids]

    config, trainer_class = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
    }[method]
    usual = {
        **plain(folder),
        **TRAINING,
        "bf16": False,
        "gradient_checkpointing": False,
        "num_generations": GENERATIONS,
        "max_completion_length": LONGEST,
        "per_device_train_batch_size": len(given),
        "shuffle_dataset": False,
    }
    names = [str(number) for number in range(len(given) // GENERATIONS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer: Any = trainer_class(
            module,
            [reward],
            args=config(**{**usual, **settings}),
            train_dataset=Dataset.from_dict({"prompt": names}),
            processing_class=tokenizer(),
        )
        _listen(trainer, heard, given, is_other_engine=is_other_engine)
        trainer.train()
    heard.logged = {
        name: value for line in trainer.state.log_history for name, value in line.items()
    }
    return heard


def _listen(trainer: Any, heard: Heard, given: Sequence[Row], *, is_other_engine: bool) -> None:
    """Put the rows in, and have what is computed of them kept."""
    generate = trainer._generate
    assert trainer.args.generation_batch_size == len(given)

    def single_turn(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        assert prompt_ids == [row.prompt for row in given]
        completions = [list(row.completion) for row in given]
        is_rloo = type(trainer).__name__.startswith("RLOO")
        return completions if is_rloo else (completions, [list(row.sampled) for row in given])

    def generated(prompts: list[str]) -> Any:
        found = list(generate(prompts))
        if not all(all(row.own) for row in given):
            found[2] = [[int(own) for own in row.own] for row in given]
        if not is_other_engine and len(found) > 4:
            found[4] = None
        return tuple(found)

    def tokenized(prompts: list[str]) -> Any:
        return [list(given[int(name) * GENERATIONS].prompt) for name in prompts], None, {}

    trainer._tokenize_prompts = tokenized
    trainer._generate_single_turn, trainer._generate = single_turn, generated
    trainer.use_vllm = is_other_engine
    score, forward, step = (
        trainer._generate_and_score_completions,
        trainer._get_per_token_logps_and_entropies,
        trainer.training_step,
    )
    latest: list[Tensor] = []

    def scored(inputs: Any) -> Any:
        found = score(inputs)
        heard.advantages = found["advantages"].clone()
        return found

    def forwarded(*arguments: Any, **more: Any) -> Any:
        found = forward(*arguments, **more)
        if found[0].requires_grad:
            found[0].retain_grad()
            latest.append(found[0])
        elif arguments[0] is trainer.model:
            heard.old = found[0].clone()
        else:
            heard.reference = found[0].clone()
        return found

    def stepped(model: Any, inputs: Any, *rest: Any) -> Tensor:
        kept: dict[str, Any] = {}
        prepare = trainer._prepare_inputs
        trainer._prepare_inputs = lambda batch: kept.setdefault("inputs", prepare(batch))
        loss = step(model, inputs, *rest)
        trainer._prepare_inputs = prepare
        new = latest.pop()
        assert not latest
        if trainer._step % trainer.args.gradient_accumulation_steps == 1 or (
            trainer.args.gradient_accumulation_steps == 1
        ):
            heard.steps.append([])
        heard.steps[-1].append(_pass_of(kept["inputs"], new, loss, given))
        return loss

    trainer._generate_and_score_completions = scored
    trainer._get_per_token_logps_and_entropies = forwarded
    trainer.training_step = stepped
    trainer.add_callback(StepWatch(heard.gradients, trainer.model))


def _pass_of(inputs: dict[str, Any], new: Tensor, loss: Tensor, given: Sequence[Row]) -> Pass:
    assert new.grad is not None
    mask = inputs["completion_mask"].bool()
    if "tool_mask" in inputs:
        mask = mask & inputs["tool_mask"].bool()
    padded = [
        row.completion + [EOS] * (inputs["completion_ids"].shape[1] - len(row.completion))
        for row in given
    ]
    rows = [padded.index(row) for row in inputs["completion_ids"].tolist()]
    return Pass(rows, mask, new.detach().clone(), new.grad.clone(), loss.detach().clone())


class StepWatch(TrainerCallback):
    """Keeps the gradients of each step; then noise moves weights, and ratios go either way."""

    def __init__(self, gradients: list[dict[str, Tensor]], policy: Any) -> None:
        self.gradients, self.policy = gradients, policy

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Keep the gradients."""
        named = self.policy.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Move the weights."""
        was_training = self.policy.training
        _louder(self.policy, seed=3, scale=0.02).train(was_training)


def _louder(module: Any, *, seed: int, scale: float) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()
