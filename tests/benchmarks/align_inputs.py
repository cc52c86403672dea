"""What both sides of align_against_trl are given: a base model, demonstrations, pairs, settings.

The model and its tokenizer are made by our own stages and read by both. The rows come from the
built-in tasks; of demonstrations each side gets the form in which it trains on the answer alone,
`messages` or `prompt` and `completion`, with the same contents.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import yaml

from eval.tasks import load
from tests.benchmarks.command import POSTTRAIN, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SEED = 7
ROWS = 400
BATCH_SIZE = 4
STEPS = 200
LOGGING_STEPS = 10
STAGES = ("sft", "reward", "dpo")
_TASKS = ("arithmetic", "facts")
_MAX_LENGTH = 256  # the longest row has less: nothing is cut or left out
_LEARNING_RATES = {"sft": 5e-4, "reward": 1e-4, "dpo": 1e-5}
_KINDS = {"sft": "sft", "reward": "reward_model", "dpo": "dpo"}
_BASE = {
    "name": "base",
    "seed": SEED,
    "stages": {
        "tokenizer": {
            "stage": "tokenizer",
            "data": [{"task": task, "rows": 1000} for task in _TASKS],
            "vocab_size": 1024,
        },
        "base": {
            "stage": "pretrain",
            "model": {
                "architecture": "llama",
                "tokenizer": "$tokenizer",
                "size": "1M",
                "max_position_embeddings": 1024,
            },
            "data": [{"task": task} for task in _TASKS],
            "tokens": "100k",
            "sequence_length": 128,
            "batch_size": 16,
            "training_args": {"learning_rate": 3e-3},
        },
    },
}


@dataclass(frozen=True)
class Inputs:
    """Paths of what both sides read. demonstrations: of ours a file, of theirs a data set."""

    base: Path
    our_demonstrations: Path
    their_demonstrations: Path
    pairs: Path


def make_inputs(folder: Path, environment: Mapping[str, str]) -> Inputs:
    """Pre-train a small model for some seconds and write the rows, each in a folder of its own."""
    recipe, runs = folder / "base.yaml", folder / "base"
    recipe.write_text(yaml.safe_dump(_BASE), encoding="utf-8")
    run(POSTTRAIN, "run", str(recipe), "--runs", str(runs), environment=environment, cwd=folder)
    demonstrations = _mixed([load(task).demonstrations() for task in _TASKS])
    asked = [[{"role": "user", "content": each.prompt}] for each in demonstrations]
    said = [[{"role": "assistant", "content": each.response}] for each in demonstrations]
    pairs = [
        {
            "prompt": [{"role": "user", "content": each.prompt}],
            "chosen": [{"role": "assistant", "content": each.chosen}],
            "rejected": [{"role": "assistant", "content": each.rejected}],
        }
        for each in _mixed([load(task).preference_pairs() for task in _TASKS])
    ]
    both = list(zip(asked, said, strict=True))
    chats = [{"messages": prompt + completion} for prompt, completion in both]
    completions = [{"prompt": prompt, "completion": completion} for prompt, completion in both]
    return Inputs(
        base=(runs / "base" / "base").resolve(),
        our_demonstrations=_written(folder / "chats", chats) / "train.jsonl",
        their_demonstrations=_written(folder / "completions", completions),
        pairs=_written(folder / "pairs", pairs),
    )


def our_recipe(inputs: Inputs, path: Path, *, steps: int) -> None:
    """Write the recipe of the three stages."""
    stages: dict[str, Any] = {}
    for stage in STAGES:
        data = inputs.our_demonstrations if stage == "sft" else inputs.pairs / "train.jsonl"
        stages[stage] = {
            "stage": _KINDS[stage],
            "model": str(inputs.base) if stage == "sft" else "$sft",
            "data": {"file": str(data)},
            "batch_size": BATCH_SIZE,
            "training_args": _training_args(stage, steps),
        }
    recipe = {"name": "align", "seed": SEED, "stages": stages}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def their_config(inputs: Inputs, stage: str, folder: Path, *, steps: int) -> Path:
    """Write the file for `trl STAGE --config FILE`; what it trains goes to folder/STAGE."""
    data = inputs.their_demonstrations if stage == "sft" else inputs.pairs
    config = {
        "model_name_or_path": str(inputs.base if stage == "sft" else folder / "sft"),
        "dataset_name": str(data),
        "output_dir": str(folder / stage),
        "per_device_train_batch_size": BATCH_SIZE,
        "bf16": False,
        "report_to": "none",
        "seed": SEED,
        **_training_args(stage, steps),
    }
    path = folder / f"{stage}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _training_args(stage: str, steps: int) -> dict[str, Any]:
    """Return the settings that both are given by the same names."""
    return {
        "max_steps": steps,
        "max_length": _MAX_LENGTH,
        "learning_rate": _LEARNING_RATES[stage],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "logging_steps": LOGGING_STEPS,
        "save_steps": STEPS // 2,
        "gradient_checkpointing": False,
    }


def _mixed(sources: Sequence[Any]) -> list[Any]:
    """Return as many rows of each source, shuffled."""
    rows = [row for source in sources for row in islice(source, ROWS // len(sources))]
    random.Random(SEED).shuffle(rows)
    return rows


def _written(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    if len(rows) != ROWS:
        raise RuntimeError(f"the tasks gave {len(rows)} rows for {folder.name}, not {ROWS}")
    folder.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(lines, encoding="utf-8")
    return folder
