"""Frozen weights of 4 bits below an adapter (QLoRA, Dettmers et al. 2023), by bitsandbytes.

Only in memory: what a stage saves is an adapter, for the base in full precision.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.config.field_types import Precision


def quantization(precision: Precision) -> Any:
    """Return the config that upstream loads a model by: nf4, with double quantisation."""
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        message = "`load_in_4bit` needs bitsandbytes"
        raise PosttrainError("lora", message, "pip install 'posttrain[qlora]', or leave it out")
    compute = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def keep_packed_as_it_is(module: torch.nn.Module) -> None:
    """Have 4-bit weights multiplied the same way with and without gradients, on every processor.

    Where it has AVX-512 for bf16, bitsandbytes 0.50 packs them anew in the first pass without
    gradients, with rounded scales, for a product that has no gradient: what is below would not be
    trained any more. Weights of fewer inputs than a block of 64 values it cannot pack at all.
    """
    for part in module.modules():
        if type(part).__name__ == "Linear4bit":
            part.support_avx512bf16_for_cpu = False  # pyright: ignore[reportArgumentType]


def train_in_fp32(module: torch.nn.Module) -> None:
    """Have what is trained on 4-bit weights in fp32, as on others: TRL makes it bf16.

    A checkpoint that is loaded has fp32, too: training would go on from it in another precision.
    """
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
