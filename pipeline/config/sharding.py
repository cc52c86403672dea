"""How a stage's weights are split over its processes, and what is wrong with options of FSDP2.

Without torch. The options are those of Accelerate's `fsdp_config`, with or without their prefix
`fsdp_`. Those that only FSDP1 has are refused, as is what would write pickles into checkpoints or
give processes weights that nobody loaded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import closest
from pipeline.text.values import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

Split = Literal["weights", "moments"]
Engine = Literal["fsdp", "deepspeed"]
_PREFIX = "fsdp_"
_WRAPPING = "TRANSFORMER_BASED_WRAP"
_BY_SIZE = ("SIZE_BASED_WRAP", "Accelerate hands FSDP2 lists of layers then, which it cannot split")
_FLAGS = ("reshard_after_forward", "offload_params", "activation_checkpointing")
# Each with the only value that it may have, and why.
_FIXED: dict[str, tuple[Any, str]] = {
    "version": (2, "only FSDP2 is supported"),
    "state_dict_type": ("SHARDED_STATE_DICT", "each process writes its part of a checkpoint"),
    "cpu_ram_efficient_loading": (False, "every process reads the weights that it begins with"),
}
_OF_FSDP1 = (
    *("sharding_strategy", "backward_prefetch", "forward_prefetch", "use_orig_params"),
    *("sync_module_states", "limit_all_gathers"),
)
_KNOWN = (*_FIXED, *_FLAGS, "auto_wrap_policy", "transformer_layer_cls_to_wrap")


@dataclass(frozen=True)
class Sharding:
    """What is split so that each process keeps one part of each tensor.

    split: `weights` with their gradients and moments, or Adam's `moments` and no weights. options:
    of transformers' `fsdp_config`, without prefix; of a DeepSpeed config. engine: whose they are.
    """

    split: Split = "weights"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    engine: Engine = "fsdp"

    def as_json(self) -> dict[str, Any]:
        """Return it as its fields."""
        return asdict(self)


def fsdp_of(settings: Mapping[str, Any], split: Split | None) -> Sharding:
    """Return what is split by settings in which `fsdp_problem` finds nothing.

    split: what the stage can split; None for a stage that will be refused.
    """
    if split == "moments":
        return Sharding(split)
    given = {key.removeprefix(_PREFIX): value for key, value in settings.items()}
    options = {key: value for key, value in given.items() if value is not None}
    if "offload_params" in options:  # transformers has a name of its own
        options["cpu_offload"] = options.pop("offload_params")
    return Sharding(options={**options, **{key: fixed for key, (fixed, _) in _FIXED.items()}})


def options_of_weights(settings: Mapping[str, Any]) -> list[str]:
    """Return the options that say how weights are split, as the user has them."""
    return [key for key in settings if key.removeprefix(_PREFIX) not in _FIXED]


def fsdp_problem(settings: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return (the option, what is wrong with it, what to do) of the first bad one, or None."""
    for key, value in settings.items():
        problem = _option_problem(key, key.removeprefix(_PREFIX), value)
        if problem is not None:
            return key, *problem
    return None


def _option_problem(written: str, key: str, value: Any) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with one option. written: its name as the user has it."""
    if value is None:
        return None
    if key in _OF_FSDP1:
        return f"`{written}` is of FSDP1", "leave it out: weights are split by FSDP2"
    if key == "min_num_params":
        return f"`{written}` is of {_BY_SIZE[0]}: {_BY_SIZE[1]}", "leave it out"
    if key not in _KNOWN:
        known = f"there are {', '.join(_KNOWN)}"
        return f"`{written}` is no option of FSDP2", closest(key, _KNOWN) or known
    found = f"`{written}` is {quote(str(value).lower() if isinstance(value, bool) else value)}"
    if key in _FIXED:
        wanted, why = _FIXED[key]
        if value == wanted and isinstance(value, bool) == isinstance(wanted, bool):
            return None
        return f"{found}: {why}", f"write {str(wanted).lower() if wanted is False else wanted}"
    if key in _FLAGS and not isinstance(value, bool):
        return found, "write true or false"
    if key == "auto_wrap_policy" and value != _WRAPPING:
        return f"{found}: {_BY_SIZE[1]}" if value == _BY_SIZE[0] else found, f"write {_WRAPPING}"
    return None
