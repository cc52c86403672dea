"""Adapters' folders with one thing wrong, and what a row of such a table is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests import broken_folders as broken

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Kind = Literal["policy", "reward", "adapter"]


@dataclass(frozen=True)
class Hostile:
    """name: what is wrong. says: a part of the error's line. exit_code: 2 or 4."""

    name: str
    change: Callable[[Path], object]
    says: str
    exit_code: int
    kind: Kind = "policy"


ADAPTERS = [
    Hostile(
        "adapter config is a list", broken.text("adapter_config.json", "[]"), "a list", 4, "adapter"
    ),
    Hostile(
        "adapter config is cut", broken.cut("adapter_config.json", 30), "not JSON", 4, "adapter"
    ),
    Hostile(
        "adapter says nothing", broken.text("adapter_config.json", "{}"), "adapter_", 2, "adapter"
    ),
    Hostile(
        "adapter of prompts",
        broken.adapter(peft_type="PROMPT_TUNING"),
        "PROMPT_TUNING",
        2,
        "adapter",
    ),
    Hostile("rank is a text", broken.adapter(r="4"), "its rank `r` is '4'", 2, "adapter"),
    Hostile("rank is absurd", broken.adapter(r=10**12), "its rank", 2, "adapter"),
    Hostile("rank is another", broken.adapter(r=3), "does not fit", 4, "adapter"),
    Hostile(
        "targets of nothing", broken.adapter(target_modules=["magic"]), "does not fit", 4, "adapter"
    ),
    Hostile(
        "targets are a bomb",
        broken.adapter(target_modules="(([a-z._0-9]+)+)+!"),
        "over 2 s",
        2,
        "adapter",
    ),
    Hostile(
        "targets are no pattern",
        broken.adapter(target_modules="(q_proj"),
        "is no pattern",
        2,
        "adapter",
    ),
    Hostile(
        "ranks are a bomb",
        broken.adapter(rank_pattern={"(([a-z._0-9]+)+)+!": 2}),
        "over 2 s",
        2,
        "adapter",
    ),
    Hostile(
        "base is gone",
        broken.adapter(base_model_name_or_path="./gone/x/y"),
        "is gone",
        2,
        "adapter",
    ),
    Hostile(
        "base is a number", broken.adapter(base_model_name_or_path=5), "which model", 2, "adapter"
    ),
    Hostile("adapter's own code", broken.adapter(auto_map={"a": "b"}), "auto_map", 2, "adapter"),
    Hostile(
        "adapter without weights",
        broken.gone(broken.ADAPTER),
        f"has no {broken.ADAPTER}",
        2,
        "adapter",
    ),
    Hostile(
        "adapter is a pointer",
        broken.text(broken.ADAPTER, broken.POINTER),
        "git lfs pull",
        2,
        "adapter",
    ),
    Hostile("adapter is torn", broken.cut(broken.ADAPTER, 8), "is torn", 4, "adapter"),
    Hostile(
        "adapter of another shape",
        broken.adapter_tensors(broken.widened),
        "does not fit",
        4,
        "adapter",
    ),
    Hostile(
        "adapter of other layers",
        broken.adapter_tensors(broken.renamed),
        "is missing from it",
        4,
        "adapter",
    ),
    Hostile(
        "adapter holds embeddings",
        broken.adapter_tensors(broken.embedded),
        "which `modules_to_save` does not name; was it trained with added tokens?",
        2,
        "adapter",
    ),
    Hostile(
        "adapter of more tokens",
        broken.both(
            broken.adapter_tensors(broken.embedded),
            broken.adapter(modules_to_save=["embed_tokens"]),
        ),
        "[999, 32]",
        2,
        "adapter",
    ),
    Hostile(
        "adapter is NaN", broken.adapter_tensors(broken.adapter_nan), "holds NaN", 4, "adapter"
    ),
]
