"""The architectures of the matrix: tiny random models with a real tokenizer and chat template."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

SPECIAL = ("<pad>", "<eos>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] "
    "+ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
POSITIONS = 160

_WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA = {
    **_WIDTHS,
    **{"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS},
    "tie_word_embeddings": False,
}
_GEMMA = {**_LLAMA, "head_dim": 8, "tie_word_embeddings": True}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
# Dropout at a first step would not be a plain forward pass.
_GPT_STEADY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_LOCAL = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}


@dataclass(frozen=True)
class Architecture:
    """A row of the matrix.

    name: as the table shows it. model_type: transformers' own. fields: of its config class.
    scale: what new weights are multiplied by, so that what was read changes what is predicted.
    targets: the layers that adapters are put on.
    """

    name: str
    model_type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 8.0
    targets: str | tuple[str, ...] = "all-linear"


def _of(name: str, fields: Mapping[str, Any], model_type: str = "", **more: Any) -> Architecture:
    return Architecture(name, model_type or name, fields, **more)


ARCHITECTURES = (
    _of("llama", _LLAMA),
    _of("qwen2", {**_LLAMA, "tie_word_embeddings": True}),
    _of("qwen3", {**_LLAMA, "head_dim": 8, "tie_word_embeddings": True}),
    _of("qwen3_moe", {**_LLAMA, **_EXPERTS, "head_dim": 8}),
    _of("mistral", {**_LLAMA, "sliding_window": 8}),
    _of("mixtral", {**_LLAMA, "num_local_experts": 4}),
    _of("gemma", _GEMMA),
    _of("gemma2", {**_GEMMA, **_LOCAL, "query_pre_attn_scalar": 8}),
    _of("gemma3 (text)", {**_GEMMA, **_LOCAL, "query_pre_attn_scalar": 8}, "gemma3_text"),
    _of(
        "gemma3 (with images)",
        {
            "text_config": {**_GEMMA, **_LOCAL, "query_pre_attn_scalar": 8, "vocab_size": 272},
            "vision_config": {
                **_WIDTHS,
                **{"intermediate_size": 48, "image_size": 28, "patch_size": 14},
                "vision_use_head": False,
            },
            "mm_tokens_per_image": 4,
            "image_token_index": 270,
            "boi_token_index": 269,
            "eoi_token_index": 268,
        },
        "gemma3",
    ),
    _of("phi", {**_LLAMA, "num_key_value_heads": 4, "partial_rotary_factor": 0.5}),
    _of("phi3", {**_LLAMA, "original_max_position_embeddings": POSITIONS, "sliding_window": None}),
    _of("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, **_GPT_STEADY}),
    _of(
        "gpt_neo",
        {
            **{"hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 8},
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": POSITIONS,
        },
    ),
    _of(
        "gptj",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": POSITIONS,
            "rotary_dim": 4,
            **_GPT_STEADY,
        },
    ),
    _of(
        "gpt_neox",
        {**_WIDTHS, "intermediate_size": 48, "max_position_embeddings": POSITIONS},
    ),
    _of(
        "opt",
        {
            **_WIDTHS,
            **{
                "ffn_dim": 48,
                "word_embed_proj_dim": 32,
                "dropout": 0.0,
                "max_position_embeddings": POSITIONS,
            },
        },
    ),
    _of(
        "openai-gpt",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, **_GPT_STEADY},
    ),
    _of("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    _of("falcon (alibi)", {**_WIDTHS, "alibi": True}, "falcon"),
    _of("falcon (rotary)", {**_WIDTHS, "alibi": False}, "falcon"),
    _of("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": POSITIONS}),
    _of(
        "gpt_oss",
        {**_LLAMA, **_LOCAL, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    _of(
        "mamba",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        **{"scale": 3.0, "targets": ("in_proj", "x_proj")},
    ),
    _of(
        "mamba2",
        {
            **{"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "expand": 2},
            **{"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16},
        },
        **{"scale": 3.0, "targets": ("in_proj",)},
    ),
    _of(
        "qwen3_next",
        {
            **_LLAMA,
            **_EXPERTS,
            "head_dim": 8,
            "shared_expert_intermediate_size": 24,
            "layer_types": ["linear_attention", "full_attention"],
            **{"linear_num_value_heads": 4, "linear_num_key_heads": 2},
            **{"linear_key_head_dim": 8, "linear_value_head_dim": 8},
        },
    ),
    _of("olmo2", _LLAMA),
    _of("cohere", {**_LLAMA, "logit_scale": 0.25, "tie_word_embeddings": True}),
    _of("granite", {**_LLAMA, "logits_scaling": 4.0, "embedding_multiplier": 2.0}),
    _of("stablelm", {**_LLAMA, "partial_rotary_factor": 0.5}),
    _of("starcoder2", {**_LLAMA, "sliding_window": 8}),
    _of("smollm3", {**_LLAMA, "no_rope_layers": [1, 0]}),
    _of(
        "deepseek_v3",
        {
            **_LLAMA,
            **{"num_key_value_heads": 4, "moe_intermediate_size": 24, "n_routed_experts": 4},
            **{"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
            **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4},
            **{"qk_nope_head_dim": 4, "v_head_dim": 8},
        },
    ),
    _of("olmoe", {**_LLAMA, "num_experts": 4, "num_experts_per_tok": 2}),
    _of(
        "lfm2",
        {**_LLAMA, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    ),
)
# Kinds that differ: positions that are learned or counted, biases, no cache, windows, states.
SUBSET = ("gpt2", "opt", "bloom", "openai-gpt", "gemma2", "mamba", "qwen3_next")


def named(name: str) -> Architecture:
    """Return the architecture that the table shows under a name."""
    return next(each for each in ARCHITECTURES if each.name == name)


def make(architecture: Architecture, folder: Path) -> None:
    """Save a new model of the architecture, tokenizer beside it."""
    tokenizer = _tokenizer()
    ids = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    given = {"vocab_size": 272, **architecture.fields}
    config = AutoConfig.for_model(architecture.model_type, **ids, **given)
    torch.manual_seed(1)
    module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(architecture.scale)
            elif not bool(parameter.any()):  # biases: a forgotten one must show
                parameter.normal_(std=0.05)
    module.generation_config = GenerationConfig(**ids)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_adapter(architecture: Architecture, base: Path, folder: Path) -> None:
    """Save an adapter with an effect on a model, tokenizer beside it."""
    from peft import LoraConfig, get_peft_model

    module = AutoModelForCausalLM.from_pretrained(base)
    targets: Any = architecture.targets
    targets = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(module, config)
    drawn = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=drawn))
    model.save_pretrained(str(folder))
    _tokenizer().save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerBase:
    """Return a byte-level tokenizer with a chat template: 256 bytes and the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*SPECIAL, *alphabet]
    core = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    core.decoder = decoders.ByteLevel()  # pyright: ignore
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
