"""What benchmarks of rollouts share: a policy whose responses have known lengths, prompts, clocks.

How long responses are is a matter of weights: one dimension of the residual stream is constant, and
the rows of the head for the stop token and for padding read it alone. The learning rate is so small
that this stays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from tests.benchmarks.clocks import Clocks

LENGTHS = ("full", "spread")
PARTS = ("rollout", "score", "train")  # of an iteration, as our trainer logs them
BATCH_SIZE = 64  # responses of an iteration
MAX_NEW_TOKENS = 64
SEED = 7
_VOCABULARY = 4096
_WIDTH = 128
_PAD, _EOS = 0, 1
_STOP_PROBABILITY = 0.025  # of each token: 32 tokens in the mean, of 64 at most
_CONSTANT = 10.0
_NEVER = -30.0  # as a logit: one in 10^16


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


def _shape() -> LlamaConfig:
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


def policy(lengths: str) -> LlamaForCausalLM:
    """Return a model that stops never, or with the same probability after each token."""
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(_shape()).eval()
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


def reward_model() -> LlamaForSequenceClassification:
    torch.manual_seed(SEED + 1)
    config = _shape()
    config.num_labels = 1
    return LlamaForSequenceClassification(config).eval()


def prompts() -> list[list[int]]:
    """Return a pass over them for each iteration: all have the same lengths, 8 to 32."""
    drawn = np.random.RandomState(SEED)
    lengths = drawn.randint(8, 33, BATCH_SIZE)
    return [drawn.randint(2, _VOCABULARY, length).tolist() for length in lengths]


def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = {f"w{number}": number for number in range(_VOCABULARY)}
    words_only = Tokenizer(WordLevel(words, unk_token="w2"))
    words_only.pre_tokenizer = WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=words_only,
        pad_token=f"w{_PAD}",
        eos_token=f"w{_EOS}",
        padding_side="left",
    )
