"""Turns off whatever a network draws at random in training, and leaves its saved config alone.

Two passes over the same tokens must agree, or the ratio of new to old would be noise.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = ("drop", "jitter")  # of rates: `attn_pdrop`, `layerdrop`, `router_jitter_noise`


def turn_off_dropout(module: nn.Module, saved: Iterable[nn.Module]) -> None:
    """Set every rate to 0: of layers, in modules' own attributes, in configs that modules read.

    saved: the networks whose configs are written into checkpoints, which keep their rates. Modules
    below them that read such a config as they run (Falcon's layers do) get one of their own.
    """
    kept = {id(part) for part in saved}
    still: dict[int, Any] = {}  # by the config that it is a copy of: those that share one still do
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):  # pyright: ignore[reportPrivateUsage]
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if _is_rate(name, value):
                setattr(part, name, 0.0)
            elif isinstance(value, PreTrainedConfig) and id(part) not in kept and _rates(value):
                if id(value) not in still:
                    still[id(value)] = _copy_without_rates(value)
                setattr(part, name, still[id(value)])


def _is_rate(name: str, value: Any) -> bool:
    is_named = any(part in name for part in _NAMES)
    return is_named and isinstance(value, float) and value != 0


def _rates(config: PreTrainedConfig) -> list[str]:
    """Return the names of a config's rates, and of parts of it that have some."""
    return [
        name
        for name, value in vars(config).items()
        if _is_rate(name, value) or (isinstance(value, PreTrainedConfig) and _rates(value))
    ]


def _copy_without_rates(config: PreTrainedConfig) -> PreTrainedConfig:
    quiet = copy.copy(config)
    for name in _rates(config):
        value = getattr(config, name)
        setattr(quiet, name, 0.0 if isinstance(value, float) else _copy_without_rates(value))
    return quiet
