"""One side of grpo_against_trl, a program: a few iterations of GRPO, and what each of them took.

    python -m tests.benchmarks.grpo_side ours --lengths full --iterations 3 --out FILE
    python -m tests.benchmarks.grpo_side theirs --lengths spread --iterations 3 --out FILE

Both sides train the same model, of the same weights, on the same prompts with the same settings and
the same reward function; `theirs` is the TRL that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.benchmarks.rollout_inputs import (
    BATCH_SIZE,
    LENGTHS,
    MAX_NEW_TOKENS,
    SEED,
    Iterations,
    policy,
    prompts,
    tokenizer,
)

OURS, THEIRS = "ours", "theirs"
GROUP = 8
STEPS = 4  # optimizer steps of an iteration
_SETTINGS = {
    "num_generations": GROUP,
    "per_device_train_batch_size": BATCH_SIZE // STEPS,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": STEPS,
    "max_completion_length": MAX_NEW_TOKENS,
    "loss_type": "grpo",
    "beta": 0.04,
    "learning_rate": 1e-6,
    "temperature": 1.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": SEED,
}


def measure(side: str, lengths: str, iterations: int, folder: str) -> Iterations:
    """Run one of the trainers."""
    if side == OURS:
        from pipeline.rl.config.grpo import GRPOConfig
        from pipeline.rl.grpo import GRPOTrainer
    else:
        from trl import GRPOConfig, GRPOTrainer
    measured = Iterations(steps_of_one=STEPS)

    def count_distinct(completion_ids: list[list[int]], **_: Any) -> list[float]:
        if side == THEIRS:  # ours says it in its line
            measured.count_tokens(sum(map(len, completion_ids)))
        return [float(len(set(ids))) for ids in completion_ids]

    words, start = tokenizer(), Path(folder) / "start"
    policy(lengths).save_pretrained(start)  # TRL makes its reference of a folder or hub id
    texts = [" ".join(words.convert_ids_to_tokens(ids)) for ids in prompts()]
    config: Any = GRPOConfig
    trainer_class: Any = GRPOTrainer
    trainer = trainer_class(
        model=str(start),
        reward_funcs=count_distinct,
        args=config(output_dir=folder, max_steps=STEPS * (iterations + 1), **_SETTINGS),
        train_dataset=_rows(texts),
        processing_class=words,
        callbacks=[measured],
    )
    register_optimizer_step_post_hook(measured.count_step)
    trainer.train()
    return measured


def _rows(texts: list[str]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"prompt": texts})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.grpo_side")
    parser.add_argument("side", choices=(OURS, THEIRS))
    parser.add_argument("--lengths", choices=LENGTHS, required=True)
    parser.add_argument("--iterations", type=int, required=True, help="beside the first")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(given.side, given.lengths, given.iterations, folder)
    given.out.write_text(json.dumps(measured.written()), encoding="utf-8")


if __name__ == "__main__":
    main()
