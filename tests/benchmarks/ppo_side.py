"""One side of ppo_against_trl, a program: a few iterations of PPO, and what each of them took.

    python -m tests.benchmarks.ppo_side ours --lengths full --iterations 3 --out FILE
    python -m tests.benchmarks.ppo_side FOLDER --lengths spread --iterations 3 --out FILE

FOLDER has trl 1.12.0 alone; it goes first on the path of this process. Both sides train the same
model, critic and reward model, of the same weights, on the same prompts with the same settings.

How long responses are is a matter of weights: one dimension of the residual stream is constant, and
the rows of the head for the stop token and for padding read it alone. The learning rate is so small
that this stays.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from tests.benchmarks.clocks import Clocks

OURS = "ours"
LENGTHS = ("full", "spread")
PARTS = ("rollout", "score", "train")  # of an iteration, as our trainer logs them
BATCH_SIZE = 64  # prompts of an iteration
MINI_BATCHES = 4
EPOCHS = 4
MAX_NEW_TOKENS = 64
_VOCABULARY = 4096
_WIDTH = 128
_PAD, _EOS = 0, 1
_SEED = 7
_STOP_PROBABILITY = 0.025  # of each token: 32 tokens in the mean, of 64 at most
_CONSTANT = 10.0
_NEVER = -30.0  # as a logit: one in 10^16
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
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": _SEED,
}


class Iterations(TrainerCallback):
    """What was measured from the end of one iteration to that of the next.

    steps_of_one: optimizer steps of an iteration as the trainer itself counts them.
    """

    def __init__(self, steps_of_one: int) -> None:
        self._steps_of_one = steps_of_one
        self._began: Clocks | None = None
        self._taken: list[Clocks] = []
        self._num_steps: list[int] = [0]
        self._num_tokens: list[int] = []
        self._parts: list[dict[str, float]] = []

    def count_step(self, *_: Any) -> None:
        """An optimizer has made a step."""
        self._num_steps[-1] += 1

    def count_tokens(self, number: int) -> None:
        """An iteration's responses have so many tokens."""
        self._num_tokens.append(number)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take what our trainer says of an iteration."""
        logs = kwargs["logs"]
        if "completions/length_mean" in logs:
            self.count_tokens(round(logs["completions/length_mean"] * BATCH_SIZE))
            self._parts.append({part: logs[f"time/{part}"] for part in PARTS})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close an iteration."""
        if state.global_step % self._steps_of_one:
            return
        now = Clocks.now()
        if self._began is not None:
            self._taken.append(now.since(self._began))
        self._began = now
        self._num_steps.append(0)

    def written(self) -> dict[str, Any]:
        """Return lists with an entry an iteration, but for the first: it warms up."""
        return {
            "wall_s": [each.wall_s for each in self._taken],
            "cpu_s": [each.cpu_s for each in self._taken],
            "num_steps": self._num_steps[1:-1],
            "num_tokens": self._num_tokens[1:],
            "parts": self._parts[1:],
        }


def ours(lengths: str, iterations: int, folder: str) -> Iterations:
    """Run our trainer."""
    from datasets import Dataset

    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.ppo import PPOTrainer

    measured = Iterations(steps_of_one=EPOCHS * MINI_BATCHES)
    trainer = PPOTrainer(
        model=_policy(lengths),
        reward_funcs=[_reward_model()],
        args=PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZE // MINI_BATCHES,
            max_completion_length=MAX_NEW_TOKENS,
            total_episodes=BATCH_SIZE * (iterations + 1),
            logging_steps=1,
            use_cpu=True,
            **_SETTINGS,
        ),
        train_dataset=Dataset.from_dict({"input_ids": _prompts()}),
        processing_class=_tokenizer(),
        callbacks=[measured],
    )
    register_optimizer_step_post_hook(measured.count_step)
    trainer.train()
    return measured


def theirs(trl: str, lengths: str, iterations: int, folder: str) -> Iterations:
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
    reward = _reward_model()
    trainer = PPOTrainer(
        model=_policy(lengths),
        ref_model=_policy(lengths),
        reward_model=reward,
        value_model=copy.deepcopy(reward),
        args=PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZE,
            response_length=MAX_NEW_TOKENS,
            stop_token="eos",
            total_episodes=BATCH_SIZE * (iterations + 1),
            num_sample_generations=0,
            **_SETTINGS,
        ),
        train_dataset=Dataset.from_dict({"input_ids": _prompts()}),
        processing_class=_tokenizer(),
        callbacks=[measured],
    )
    register_optimizer_step_post_hook(measured.count_step)
    trainer.train()
    return measured


def _config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=_WIDTH,
        intermediate_size=4 * _WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        pad_token_id=_PAD,
        eos_token_id=_EOS,
        bos_token_id=None,
    )


def _policy(lengths: str) -> LlamaForCausalLM:
    """Return a model that stops never, or with the same probability after each token."""
    torch.manual_seed(_SEED)
    model = LlamaForCausalLM(_config()).eval()
    odds = _STOP_PROBABILITY / (1 - _STOP_PROBABILITY)
    stops = _NEVER if lengths == "full" else math.log(odds * (_VOCABULARY - 2))
    layers: Any = model.model.layers
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = _CONSTANT
        for layer in layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        head = model.lm_head.weight
        head[:, 0] = 0
        # The last norm makes sqrt(width) of the constant, which is most of what it divides by.
        for token, logit in ((_EOS, stops), (_PAD, _NEVER)):
            head[token] = 0
            head[token, 0] = logit / math.sqrt(_WIDTH)
    return model


def _reward_model() -> LlamaForSequenceClassification:
    torch.manual_seed(_SEED + 1)
    config = _config()
    config.num_labels = 1
    return LlamaForSequenceClassification(config).eval()


def _prompts() -> list[list[int]]:
    """Return a pass over them for each iteration: all have the same lengths, 8 to 32."""
    drawn = np.random.RandomState(_SEED)
    lengths = drawn.randint(8, 33, BATCH_SIZE)
    return [drawn.randint(2, _VOCABULARY, length).tolist() for length in lengths]


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {f"w{number}": number for number in range(_VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w2")),
        pad_token=f"w{_PAD}",
        eos_token=f"w{_EOS}",
        padding_side="left",
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ppo_side")
    parser.add_argument("side", help="`ours`, or the folder with trl 1.12.0")
    parser.add_argument("--lengths", choices=LENGTHS, required=True)
    parser.add_argument("--iterations", type=int, required=True, help="beside the first")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        if given.side == OURS:
            measured = ours(given.lengths, given.iterations, folder)
        else:
            measured = theirs(given.side, given.lengths, given.iterations, folder)
    given.out.write_text(json.dumps(measured.written()), encoding="utf-8")


if __name__ == "__main__":
    main()
