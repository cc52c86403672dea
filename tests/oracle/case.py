"""The batch and the models that TRL's trainer is shown: tiny, seeded, of every shape of row.

Left as they are once derived from: the stream of `RandomState` is frozen, so that they can be made
again anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch.nn.utils import vector_to_parameters

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

FIXTURE = Path(__file__).with_name("trl_1_12.npz")
PAD, EOS = 0, 1
SETTINGS = {
    "temperature": 0.7,
    "kl_coef": 0.1,
    "gamma": 0.98,
    "lam": 0.9,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
    "missing_eos_penalty": 1.0,
}
RESPONSE_LENGTH = 8
MODELS = ("policy", "reference", "critic", "reward")
_SHAPE = {
    "vocab_size": 24,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": None,
    "num_labels": 1,
    "attn_implementation": "eager",
}
_PROMPT_LENGTHS = (6, 2, 4, 5, 3, 6, 2, 4)
# With the stop token; rows of 8 without one were cut. One ends with its first token, one with the
# last that there is room for.
_RESPONSE_LENGTHS = (8, 3, 1, 8, 7, 5, 8, 2)
_CUT = (0, 6)
_SEED = 12

Vector = np.ndarray
Model = TypeVar("Model", bound=torch.nn.Module)


def prompts() -> list[list[int]]:
    """Return token ids, none of them padding."""
    drawn = np.random.RandomState(_SEED)
    return [drawn.randint(2, _SHAPE["vocab_size"], length).tolist() for length in _PROMPT_LENGTHS]


def responses() -> list[list[int]]:
    """Return token ids, the stop token at the end of all but those that were cut."""
    drawn = np.random.RandomState(_SEED + 1)
    rows = [drawn.randint(2, _SHAPE["vocab_size"], length).tolist() for length in _RESPONSE_LENGTHS]
    return [row if number in _CUT else [*row[:-1], EOS] for number, row in enumerate(rows)]


def make_weights() -> dict[str, Vector]:
    """Draw the parameters of all models, one after the other; the reference is near the policy."""
    drawn = np.random.RandomState(_SEED + 2)
    found: dict[str, Vector] = {}
    for name in MODELS:
        model = causal() if name in ("policy", "reference") else scorer()
        parts = [
            drawn.normal(1.0 if "norm" in key else 0.0, 0.5, parameter.numel())
            for key, parameter in model.named_parameters()
        ]
        found[name] = np.concatenate(parts).astype(np.float32)
    found["reference"] = found["policy"] + 0.1 * (found["reference"] - found["policy"])
    return found


def causal(weights: Vector | None = None) -> LlamaForCausalLM:
    """Return a language model."""
    from transformers import LlamaForCausalLM

    return _filled(LlamaForCausalLM(_config()), weights)


def scorer(weights: Vector | None = None) -> LlamaForSequenceClassification:
    """Return a model with a scalar for each token, `score` (1, d): a critic or a reward model."""
    from transformers import LlamaForSequenceClassification

    return _filled(LlamaForSequenceClassification(_config()), weights)


def settings_line() -> str:
    """Return everything that is no tensor, to be kept beside them."""
    return json.dumps({"settings": SETTINGS, "shape": _SHAPE}, sort_keys=True)


def _config() -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(**_SHAPE)


def _filled(model: Model, weights: Vector | None) -> Model:
    if weights is not None:
        vector_to_parameters(torch.tensor(weights), model.parameters())
    return model.eval()
