"""How far back a model's attention reaches, by its config: for curves over a distance.

Not how many positions it has, nor how a text longer than these is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def attention_window(config: Mapping[str, Any]) -> int | None:
    """Return the tokens that every layer is cut to; None where one layer or more sees all.

    Over L layers such a model hands on what was said up to L times as far back. config: of
    transformers, whose `sliding_window` stands there even where `use_sliding_window` is off.
    """
    window = config.get("sliding_window")
    kinds = config.get("layer_types") or ()
    is_off = config.get("use_sliding_window") is False
    if not isinstance(window, int) or is_off or any(kind != "sliding_attention" for kind in kinds):
        return None
    return window
