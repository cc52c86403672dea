"""GPT-2 as nanoGPT writes it (karpathy/nanoGPT, model.py), without what it does not use here.

No dropout, no biases, tied embeddings: `config/train_shakespeare_char.py` on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm. width: of the residual stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the residual stream [rows, length, width] behind the block."""
        rows, length, width = hidden.shape
        parts = self.attention(self.attention_norm(hidden)).split(width, dim=2)
        queries, keys, values = (
            part.view(rows, length, self._heads, width // self._heads).transpose(1, 2)
            for part in parts
        )
        read: Any = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        read = read.transpose(1, 2).contiguous().view(rows, length, width)
        hidden = hidden + self.attention_out(read)
        return hidden + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(hidden))))


class NanoGPT(nn.Module):
    """The whole model; positions are learned."""

    def __init__(self, vocabulary: int, length: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of the targets, both [rows, length]."""
        hidden = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.head(self.norm(hidden))
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))
