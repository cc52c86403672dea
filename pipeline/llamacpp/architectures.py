"""The architectures that are written for llama.cpp: their names, sizes and tensors there.

Each is verified against llama.cpp itself (tests/stages/test_gguf_export.py). Whatever would
be another model there is refused with the reason: llama.cpp takes a file and ignores what it does
not know of, so nothing else would say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

_SMOOTH = ("gelu_pytorch_tanh", "gelu_new")
_TAKE = "take it as safetensors: vLLM and `transformers serve` read the folder"


@dataclass(frozen=True)
class Architecture:
    """What a family of transformers is called in llama.cpp, and how it is laid out there.

    name: llama.cpp's. interleaves: whether rotary embedding turns neighbouring rows, not halves.
    norm_offset: what is added to the weights of norms. activations: of the feed-forward layers.
    """

    name: str
    interleaves: bool = False
    norm_offset: float = 0.0
    activations: tuple[str, ...] = ("silu",)
    takes_attention_bias: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", interleaves=True, takes_attention_bias=True),
    "mistral": Architecture("llama", interleaves=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma": Architecture("gemma", norm_offset=1.0, activations=_SMOOTH),
}


def architecture_of(config: Mapping[str, Any], where: str) -> Architecture:
    """Return how a model is laid out in llama.cpp; PosttrainError where it would be another model.

    config: as config.json has it, or as transformers reads it.
    """
    kind = config.get("model_type")
    architecture = ARCHITECTURES.get(str(kind))
    if architecture is None:
        message = f"a GGUF of a `{kind}` cannot be written"
        raise PosttrainError(where, message, f"{_one_of(ARCHITECTURES)} can; else {_TAKE}")
    for problem in _problems(config, architecture):
        raise PosttrainError(where, f"{problem}, which llama.cpp would ignore", _TAKE)
    return architecture


def write_sizes(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    """Write what llama.cpp needs to know of the sizes and the positions."""
    heads, head = int(config["num_attention_heads"]), head_size(config)
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = rope_of(config)
    writer.add_rope_freq_base(rope.get("rope_theta") or 10_000.0)
    if rope.get("rope_type") == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def context_length(config: Mapping[str, Any]) -> int:
    """Return how many tokens llama.cpp may keep: within a sliding window all see all."""
    positions, window = int(config["max_position_embeddings"]), config.get("sliding_window")
    is_windowed = config.get("model_type") == "mistral" and isinstance(window, int)
    return min(positions, cast("int", window)) if is_windowed else positions


def head_size(config: Mapping[str, Any]) -> int:
    """Return the width of an attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def convert_tensor(
    name: str, weights: NDArray[np.float32], architecture: Architecture, config: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return a tensor as llama.cpp keeps it. name: in transformers."""
    if name.endswith("norm.weight") and architecture.norm_offset:
        return weights + architecture.norm_offset
    if not architecture.interleaves or ".self_attn." not in name:
        return weights
    heads = int(config["num_attention_heads"])
    if ".k_proj." in name:
        return _interleave(weights, int(config.get("num_key_value_heads") or heads))
    return _interleave(weights, heads) if ".q_proj." in name else weights


def rope_factors(config: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """Return what Llama 3 divides its frequencies by, (head / 2,); None where nothing does.

    Long waves are stretched by `factor`, short ones stay, others are interpolated (Llama 3.1).
    """
    import numpy as np

    rope = rope_of(config)
    if rope.get("rope_type") != "llama3":
        return None
    size = head_size(config)
    turns = rope["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    wavelength = 2 * pi * turns
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = (rope["original_max_position_embeddings"] / wavelength - low) / (high - low)
    share = share.clip(0, 1)
    return (1 / ((1 - share) / rope["factor"] + share)).astype(np.float32)


def rope_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the rotary embedding, wherever a config has them."""
    described: Any = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = cast("dict[str, Any]", dict(described))
    rope.setdefault("rope_type", rope.get("type") or "default")
    rope.setdefault("rope_theta", config.get("rope_theta"))
    return rope


def _problems(config: Mapping[str, Any], architecture: Architecture) -> list[str]:
    """Return what in a config makes the model another one in llama.cpp."""
    problems: list[str] = []
    activation = config.get("hidden_activation") or config.get(
        "hidden_act", architecture.activations[0]
    )
    if activation not in architecture.activations:
        problems.append(f"its activation is `{activation}`")
    rope = rope_of(config)
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        problems.append(f"its positions are scaled by `{rope['rope_type']}`")
    if rope.get("partial_rotary_factor") not in (None, 1, 1.0):
        problems.append("only a part of each head is rotated")
    if config.get("attention_bias") and not architecture.takes_attention_bias:
        problems.append("its attention has biases")
    if config.get("use_sliding_window"):
        problems.append("it looks through a sliding window")
    return problems


def _interleave(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return rows (heads, 2, half) as (heads, half, 2).

    transformers turns row i of a head with row i + half, llama.cpp each with its neighbour.
    """
    shape = weights.shape
    apart = weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
    return apart.swapaxes(1, 2).reshape(shape)


def _one_of(names: Mapping[str, Any]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}"
