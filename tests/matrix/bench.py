"""A model, an adapter on it, data, and a recipe for each cell: what the stages of a row work on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.matrix import oracle
from tests.matrix.architectures import Architecture, make, make_adapter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Column = Literal["full", "LoRA"]
COLUMNS: tuple[Column, ...] = ("full", "LoRA")

DOCUMENTS = ("The old red fox run", "Snow falls.", "A river of cold wet wat.", "It was")
CHATS = (
    ("What is 2 + 3?", " 5"),
    ("Say a word that rhymes with tree.", " A bee, for one."),
    ("Hi", " Hello to you too"),
    ("Name it.", " No"),
)
REJECTED = (" 6 or so, I think", " No.", " Go", " I would rather not say")


@dataclass
class Bench:
    """A folder with a model, an adapter on it, data, and what was run there already.

    stages: artifacts by column and stage, where they were made.
    """

    architecture: Architecture
    folder: Path
    stages: dict[tuple[Column, str], Path] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The whole model."""
        return self.folder / "model"

    @property
    def adapter(self) -> Path:
        """An adapter on it."""
        return self.folder / "adapter"

    def recipe(self, column: Column, stage: str) -> Path:
        """The recipe of one stage: what one may not be asked must not stop another."""
        return self.folder / f"{column}-{stage}.yaml"

    def trained(self) -> set[Path]:
        """Where a stage has logged a step."""
        return set(self.folder.glob("runs/**/metrics.jsonl"))

    def began(self, column: Column) -> Any:
        """Load what the stages of a column begin with, plainly."""
        return (
            oracle.language_model(self.model)
            if column == "full"
            else oracle.language_model(self.adapter, self.model)
        )

    def finished(self, column: Column, stage: str, auto: Callable[..., Any]) -> Any:
        """Load what a stage published, plainly."""
        folder = self.stages[column, stage]
        is_adapter = (folder / "adapter_config.json").is_file()
        return auto(folder, self.model if is_adapter else None)


def bench(architecture: Architecture, folder: Path) -> Bench:
    """Make models and data."""
    made = Bench(architecture, folder)
    make(architecture, made.model)
    make_adapter(architecture, made.model, made.adapter)
    _write(folder / "docs.jsonl", [{"text": text} for text in DOCUMENTS])
    _write(folder / "chats.jsonl", [{"messages": _user(a) + _said(b)} for a, b in CHATS])
    pairs = [
        {"prompt": _user(a), "chosen": _said(b), "rejected": _said(c)}
        for (a, b), c in zip(CHATS, REJECTED, strict=True)
    ]
    _write(folder / "pairs.jsonl", pairs)
    thumbs = [
        {"prompt": _user(a), "completion": _said(said), "label": label}
        for (a, b), c in zip(CHATS, REJECTED, strict=True)
        for said, label in ((b, True), (c, False))
    ]
    _write(folder / "thumbs.jsonl", thumbs)
    _write(folder / "prompts.jsonl", [{"prompt": _user(a)} for a, _ in CHATS])
    (folder / "rewards.py").write_text(
        "def tokens(completion_ids, **_):\n    return [float(len(ids)) for ids in completion_ids]\n"
    )
    for column in COLUMNS:
        for stage, asked in _stages(architecture, column).items():
            recipe = {"name": column.lower(), "seed": 3, "stages": {stage: asked}}
            made.recipe(column, stage).write_text(json.dumps(recipe))
    return made


def _stages(architecture: Architecture, column: Column) -> dict[str, Any]:
    targets = architecture.targets
    targets = targets if isinstance(targets, str) else list(targets)
    lora = {} if column == "full" else {"lora": {"r": 2, "target_modules": targets}}
    model = {"model": "./model" if column == "full" else "./adapter"}
    trains = {**model, **lora, "batch_size": 4}
    args = {
        "logging_steps": 1,
        "max_steps": 1,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
    }
    args = {**args, "warmup_steps": 0}
    tuning = {**args, "max_length": 100}
    rewards = {**trains, "stage": "reward_model", "data": {"file": "pairs.jsonl"}}
    return {
        "pretrain": {
            **trains,
            **{"stage": "pretrain", "data": {"file": "docs.jsonl"}},
            **{"tokens": 64, "sequence_length": 32, "batch_size": 2, "training_args": args},
        },
        "sft": {**trains, "stage": "sft", "data": {"file": "chats.jsonl"}, "training_args": tuning},
        # What is exported where no adapter can go on from another.
        "first": {
            **trains,
            **{"model": "./model", "stage": "sft", "data": {"file": "chats.jsonl"}},
            "training_args": tuning,
        },
        # The head is new and random: what it began with is what is saved after no step.
        "reward_model_still": {**rewards, "training_args": {**tuning, "learning_rate": 0.0}},
        "reward_model": {**rewards, "training_args": tuning},
        "kto": {
            **{**trains, "stage": "kto", "data": {"file": "thumbs.jsonl"}},
            **{"batch_size": 8, "training_args": tuning},
        },
        "dpo": {**trains, "stage": "dpo", "data": {"file": "pairs.jsonl"}, "training_args": tuning},
        "ppo": {
            **{**trains, "stage": "ppo", "prompts": {"file": "prompts.jsonl"}},
            **{"reward": {"use": "rewards:tokens"}, "best_of": 0},
            "training_args": {
                **{"max_steps": 1, "num_ppo_epochs": 1, "max_completion_length": 6},
                **{"learning_rate": 1e-2, "lr_scheduler_type": "constant"},
            },
        },
        "evaluate": {
            **{**model, "stage": "evaluate", "texts": {"file": "docs.jsonl"}},
            **{"tasks": ["arithmetic"], "limit": 4, "styles": "zero-shot"},
        },
        "merge": {**model, "stage": "merge"},
        "adopt": {"stage": "adopt", "model": "./model"},
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
