"""TRL's own arguments for GRPO and RLOO: those that are not ours, and TRL's config as it is."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config.trl_arguments import ABSENT, refusal_of

if TYPE_CHECKING:
    from pipeline.rl.config.groups import GroupConfig

Config = TypeVar("Config", bound="type[GroupConfig]")


def take_upstream(config: Config) -> Config:
    """Let a config's class take TRL's further arguments, as a decorator above `dataclass`.

    Those that ask for nothing are dropped, `use_vllm` is `rollout_engine`, and the others are
    refused with ValueError and the reason.
    """
    own_init = config.__init__

    @functools.wraps(own_init)
    def init(self: Any, *args: Any, **settings: Any) -> None:
        if settings.pop("use_vllm", False):
            settings.setdefault("rollout_engine", "vllm")
        for name in ABSENT.keys() & settings.keys():
            value = settings.pop(name)
            reason = refusal_of(name, value)
            if reason is not None:
                raise ValueError(f"`{name}` {value!r} is not supported here: {reason}")
        own_init(self, *args, **settings)

    config.__init__ = init
    return config


def convert_config(args: Any, config: type[GroupConfig]) -> Any:
    """Return a config of ours for TRL's; one of ours as it is.

    Raises ValueError for what it asks that is not supported here.
    """
    if isinstance(args, config):
        return args
    if not type(args).__module__.startswith("trl."):
        raise ValueError(
            f"`args` is of the type {type(args).__name__}; give a {config.__name__}, ours or TRL's"
        )
    settings = {field.name: getattr(args, field.name) for field in fields(args) if field.init}
    settings.pop("steps_per_generation", None)  # TRL has worked out `generation_batch_size` of it
    return config(**settings)
