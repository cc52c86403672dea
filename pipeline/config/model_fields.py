"""What the `model:` of a new model may say: fields of a config class of transformers, checked.

Names, types and choices are upstream's, read from its source. A value that makes no sense by itself
is refused here; what depends on the tokenizer or the machine is checked elsewhere.
"""

from typing import Any

from pipeline.config import annotations
from pipeline.config.argument_values import choice_problem, number_problem, repair
from pipeline.config.trainer_fields import (
    activations,
    architecture_annotations,
    architecture_fields,
)
from pipeline.errors import closest
from pipeline.text.values import quote

OF_THE_TOKENIZER = frozenset({"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"})
# The rest need special packages and GPUs, or fetch code from the hub.
_ATTENTION = ("eager", "sdpa")
_ROPE = ("rope_parameters", "rope_scaling")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
# Taken by every config that has rope parameters.
_OLDER = {"rope_theta": "float", "partial_rotary_factor": "float"}
_POSITIVE = ("rope_theta", "initializer_range")
_PRECISION = "write `precision:` on the stage: what is trained stays fp32"


def field_problem(architecture: str, key: str, value: Any) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with one config field of a new model, or None."""
    known = architecture_fields(architecture)
    if key not in known:
        hint = closest(key, {*known, "size", "tokenizer", "architecture"})
        hint = hint or "see its config class in transformers"
        return f"`{key}` is no config field of {architecture}", hint
    if key in OF_THE_TOKENIZER:
        return f"`{key}` is not set here", "it comes from the tokenizer"
    if key in ("dtype", "torch_dtype"):
        return f"`{key}` is not set here", _PRECISION
    if key == "attn_implementation":
        return choice_problem(key, value, _ATTENTION)
    if key in _ROPE:
        fits = isinstance(value, dict) or value is None
        return None if fits else (f"`{key}` is {quote(value)}, not a mapping", "write a mapping")
    annotation_by_field = architecture_annotations(architecture)
    if key not in annotation_by_field and key not in _OLDER:
        return f"`{key}` says nothing of a new language model", "leave it out"
    return _value_problem(key, value, annotation_by_field.get(key) or _OLDER.get(key, "?"))


def _value_problem(key: str, value: Any, annotation: str) -> tuple[str, str] | None:
    expected = annotations.explain_mismatch(value, annotation)
    if expected:
        stated = "is empty" if value is None else f"is {quote(value)}, not {expected}"
        return f"`{key}` {stated}", repair(value, expected)
    if key in _ACTIVATIONS and isinstance(value, str):
        return choice_problem(key, value, sorted(activations()))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if ("dropout" in key or key.endswith("pdrop")) and not 0 <= value < 1:
        return f"`{key}` is {quote(value)}", "it is a share: at least 0, below 1"
    if key.endswith(("_eps", "_epsilon")) and not 0 < value < 1:
        return f"`{key}` is {quote(value)}", "it is a small number: above 0, below 1"
    if key in _POSITIVE and value <= 0:
        return f"`{key}` is {quote(value)}", "it must be above 0"
    if key == "partial_rotary_factor" and not 0 < value <= 1:
        return f"`{key}` is {quote(value)}", "it is a share: above 0, at most 1"
    return number_problem(key, value)
