"""One side of ppo_against_trl, a program: a few iterations of PPO, and what each of them took.

    python -m tests.benchmarks.ppo_side ours --lengths full --iterations 3 --out FILE [--bf16]
    python -m tests.benchmarks.ppo_side FOLDER --lengths spread --iterations 3 --out FILE

FOLDER has trl 1.12.0 alone; it goes first on the path of this process. Both sides train the same
model, critic and reward model, of the same weights, on the same prompts with the same settings.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
from pathlib import Path

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
    reward_model,
    tokenizer,
)

OURS = "ours"
MINI_BATCHES = 4
EPOCHS = 4
_SETTINGS = {
    "num_ppo_epochs": EPOCHS,
    "num_mini_batches": MINI_BATCHES,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-6,
    "temperature": 1.0,
    "kl_coef": 0.05,
    "gamma": 1.0,
    "lam": 0.95,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
    "missing_eos_penalty": 1.0,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": SEED,
}


def ours(lengths: str, iterations: int, folder: str, *, is_bf16: bool) -> Iterations:
    """Run our trainer."""
    from datasets import Dataset

    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.ppo import PPOTrainer

    measured = Iterations(steps_of_one=EPOCHS * MINI_BATCHES)
    trainer = PPOTrainer(
        model=policy(lengths),
        reward_funcs=[reward_model()],
        args=PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZE // MINI_BATCHES,
            max_completion_length=MAX_NEW_TOKENS,
            total_episodes=BATCH_SIZE * (iterations + 1),
            logging_steps=1,
            bf16=is_bf16,
            **_SETTINGS,
        ),
        train_dataset=Dataset.from_dict({"input_ids": prompts()}),
        processing_class=tokenizer(),
        callbacks=[measured],
    )
    register_optimizer_step_post_hook(measured.count_step)
    trainer.train()
    return measured


def theirs(trl: str, lengths: str, iterations: int, folder: str, *, is_bf16: bool) -> Iterations:
    """Run TRL's trainer.

    With gradient accumulation it would make one optimizer step of four mini-batches (trl issue
    5645), so the whole iteration is a device's batch, of which it takes a quarter at a time.
    """
    sys.path.insert(0, str(Path(trl).resolve()))
    from datasets import Dataset
    from trl import __version__
    from trl.experimental.ppo import (  # pyright: ignore[reportMissingImports]
        PPOConfig,
        PPOTrainer,
        ppo_trainer,
    )

    if __version__ != "1.12.0":
        raise ValueError(f"{trl} has trl {__version__}, not 1.12.0")
    measured = Iterations(steps_of_one=1)  # it counts rollouts
    whiten = ppo_trainer.masked_whiten

    def masked_whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        measured.count_tokens(int(mask.sum()))
        return whiten(values, mask)

    ppo_trainer.masked_whiten = masked_whiten
    reward = reward_model()
    trainer = PPOTrainer(
        model=policy(lengths),
        ref_model=policy(lengths),
        reward_model=reward,
        value_model=copy.deepcopy(reward),
        args=PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZE,
            response_length=MAX_NEW_TOKENS,
            stop_token="eos",
            total_episodes=BATCH_SIZE * (iterations + 1),
            num_sample_generations=0,
            bf16=is_bf16,
            **_SETTINGS,
        ),
        train_dataset=Dataset.from_dict({"input_ids": prompts()}),
        processing_class=tokenizer(),
        callbacks=[measured],
    )
    register_optimizer_step_post_hook(measured.count_step)
    trainer.train()
    return measured


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ppo_side")
    parser.add_argument("side", help="`ours`, or the folder with trl 1.12.0")
    parser.add_argument("--lengths", choices=LENGTHS, required=True)
    parser.add_argument("--iterations", type=int, required=True, help="beside the first")
    parser.add_argument("--bf16", action="store_true", help="autocast instead of fp32")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        asked = (given.lengths, given.iterations, folder)
        if given.side == OURS:
            measured = ours(*asked, is_bf16=given.bf16)
        else:
            measured = theirs(given.side, *asked, is_bf16=given.bf16)
    given.out.write_text(json.dumps(measured.written()), encoding="utf-8")


if __name__ == "__main__":
    main()
