"""A random model of two layers in a folder, with a tokenizer of bytes and a chat template."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.small_folders import small_tokenizer


def save_model(folder: Path, architecture: str = "llama", **fields: Any) -> Path:
    """Save a model whose positions are 256 unless said otherwise; return the folder."""
    tokenizer = small_tokenizer()
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(3)
    config = AutoConfig.for_model(architecture, **{**sizes, **fields})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
