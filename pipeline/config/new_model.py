"""A model with random weights, as a recipe describes it: architecture, size and fields.

Building it is the subject of pipeline.models.new.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, model_validator

from pipeline.config.blocks import Block
from pipeline.config.field_types import TokenizerRef
from pipeline.config.model_fields import field_problem
from pipeline.config.trainer_fields import (
    architecture_annotations,
    architecture_fields,
    architectures,
    has_causal_model,
    positions_field,
)
from pipeline.errors import closest
from pipeline.text.values import quote

SIZES: dict[str, dict[str, int]] = {
    "1M": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    "5M": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8},
    "30M": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8},
    "110M": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
}
_COUNTS = (
    *("hidden_size", "intermediate_size", "head_dim", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "n_positions"),
    *("max_seq_len", "context_length"),
)


class NewModelBlock(Block):
    """A model with random weights.

    architecture: transformers' model type (llama, qwen3, gpt_neox, ...). tokenizer: whose tokens
    it reads, a stage `tokenizer` or the tokenizer of a model.
    size: a named size; any field of the architecture's config class beside it wins over it.
    """

    model_config = ConfigDict(extra="allow")

    architecture: str
    tokenizer: TokenizerRef
    size: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> NewModelBlock:
        if not has_causal_model(self.architecture):
            hint = closest(self.architecture, architectures()) or "for example llama or qwen3"
            raise ValueError(
                f"`architecture` {quote(self.architecture)} is no causal model of transformers; "
                f"{hint}"
            )
        for key, value in (self.model_extra or {}).items():
            problem = field_problem(self.architecture, key, value)
            if problem:
                raise ValueError("; ".join(problem))
        if self.size is not None and self.size not in SIZES:
            raise ValueError(
                f"`size` {quote(self.size)} is not known; sizes are {', '.join(SIZES)}"
            )
        names = [key for key in self._positions_names() if key in (self.model_extra or {})]
        if len(names) > 1:
            raise ValueError(f"`{names[0]}` and `{names[1]}` are one field; write one of them")
        self._check_sizes(self.fields())
        return self

    def _positions_names(self) -> tuple[str, ...]:
        """Return the names under which the config class takes its number of positions."""
        name = positions_field(self.architecture)
        return () if name is None else tuple(dict.fromkeys((name, "max_position_embeddings")))

    @property
    def positions(self) -> int | None:
        """How many positions are asked for, by whichever of its names; None if none is."""
        fields = self.fields()
        return next((fields[key] for key in self._positions_names() if key in fields), None)

    def _check_sizes(self, fields: dict[str, Any]) -> None:
        for key in _COUNTS:
            value = fields.get(key, 1)
            is_number = isinstance(value, int) and not isinstance(value, bool)
            if not is_number or value < 1:
                raise ValueError(
                    f"`{key}` is {quote(value)}, not a whole number above 0; write one"
                )
        width, heads = fields.get("hidden_size"), fields.get("num_attention_heads")
        if width and heads and "head_dim" not in fields and width % heads:
            raise ValueError(
                f"`hidden_size` {width} is not a multiple of {heads} heads; "
                "change it or `num_attention_heads`"
            )
        self._check_rotary(fields)
        groups = fields.get("num_key_value_heads")
        if heads and groups and heads % groups:
            raise ValueError(
                f"`num_attention_heads` {heads} is not a multiple of {groups} key-value heads; "
                "change it or `num_key_value_heads`"
            )

    def _check_rotary(self, fields: dict[str, Any]) -> None:
        """Refuse heads of odd width where positions turn pairs of numbers (Su et al. 2021)."""
        known = architecture_annotations(self.architecture)
        if "rope_parameters" not in known:
            return
        head, width, heads = (
            fields.get(key) for key in ("head_dim", "hidden_size", "num_attention_heads")
        )
        if head is None and width and heads and "None" in (known.get("head_dim") or "None"):
            head = width // heads
        if head is not None and head % 2:
            raise ValueError(
                f"`hidden_size` {width} over `num_attention_heads` {heads} gives heads of {head}, "
                "and rotary positions turn pairs; make it even"
            )

    def fields(self) -> dict[str, Any]:
        """Return the config fields: the named size, what follows from it, the user's own on top."""
        fields = {**SIZES.get(self.size or "", {}), **(self.model_extra or {})}
        known = architecture_fields(self.architecture)
        width = fields.get("hidden_size")
        if isinstance(width, int):
            # Rounded to 16 so that matrix products stay on the fast path.
            derived = {
                "intermediate_size": max(16, width * 8 // 3 // 16 * 16),
                "num_attention_heads": max(1, width // 32 if width < 512 else width // 64),
            }
            fields = {**{key: value for key, value in derived.items() if key in known}, **fields}
        heads = fields.get("num_attention_heads")
        if heads is not None and "num_key_value_heads" in known:
            fields.setdefault("num_key_value_heads", heads)
        return {"tie_word_embeddings": True, **fields}
