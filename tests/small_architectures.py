"""Random models of many architectures, two layers each, with weights large enough to matter."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pipeline.config.trainer_fields import architecture_fields

VOCAB = 64
PAD = 0
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
# Where a name is known to a config class it is given: their defaults are those of large models.
_WHERE_KNOWN: dict[str, Any] = {
    "n_positions": 64,
    "max_seq_len": 64,
    "sliding_window": 6,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "state_size": 8,
    "n_groups": 1,
    "chunk_size": 8,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "rotary_dim": 4,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 64,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "block_size": 8,
}
_OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 6},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"head_dim": 16, "num_heads": 4},
    "qwen3_next": {"num_hidden_layers": 4},
    "falcon": {"alibi": True, "new_decoder_architecture": False},
}


def small(architecture: str, *, scale: float = 4.0, **fields: Any) -> PreTrainedModel:
    """Make a model in evaluation mode; scale: of its matrices, beside its own initialisation."""
    known = architecture_fields(architecture)
    given = _SIZES | {key: value for key, value in _WHERE_KNOWN.items() if key in known}
    given |= {"vocab_size": VOCAB, "pad_token_id": PAD, "eos_token_id": 1, "bos_token_id": 2}
    given |= _OWN.get(architecture, {}) | fields
    # Names that their classes do not know and do not let stand beside others.
    for key in {"gpt_neo": ["num_key_value_heads"], "falcon": ["head_dim"]}.get(architecture, ()):
        del given[key]
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **given)
    module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return module.eval()
