"""Makes a new model with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from pipeline.models.fused import fuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def new_policy(
    architecture: str, fields: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Make a model with random weights (from torch's generator) that fits the tokenizer.

    architecture: transformers' model type. fields: of its config class. Raises ValueError for sizes
    that do not fit together, and for a vocabulary that is smaller than the tokenizer's.
    """
    rows = fields.get("vocab_size")
    if isinstance(rows, int) and rows < len(tokenizer):
        raise ValueError(
            f"`vocab_size` {rows} is less than the tokenizer's {len(tokenizer)} tokens"
        )
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(
        architecture, **{**special, "vocab_size": len(tokenizer), **fields}
    )
    module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    module.generation_config = GenerationConfig(**special)
    fuse(module)
    return module
