"""The ways to cut a text before BPE that llama.cpp has a name for (`tokenizer.ggml.pre`).

tokenizer.json spells the way out, llama.cpp only names it; a name that does not fit changes the
tokens of some texts without a word. What is not in the table has no name that is known to fit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DIGITS = {"type": "Digits", "individual_digits": True}


def _bytes(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


def _split(pattern: str) -> list[dict[str, Any]]:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [cut, _bytes(use_regex=False)]


@dataclass(frozen=True)
class PreTokenizer:
    """One way.

    name: llama.cpp's. steps: what tokenizer.json says, in order.
    ignores_merges: whether a whole word of the vocabulary is taken without looking at the merges.
    """

    name: str
    steps: list[dict[str, Any]]
    ignores_merges: bool = False


PRE_TOKENIZERS = (
    PreTokenizer("gpt-2", [_bytes(use_regex=True)]),
    PreTokenizer("smollm", [_DIGITS, _bytes(use_regex=True)]),  # and this project's own
    PreTokenizer("qwen2", _split(_QWEN2)),
    PreTokenizer("llama-bpe", _split(_LLAMA3), ignores_merges=True),
    PreTokenizer("tekken", _split(_TEKKEN), ignores_merges=True),
)


def match_pre_tokenizer(described: Mapping[str, Any]) -> PreTokenizer:
    """Return the way that a tokenizer.json cuts texts; ValueError where llama.cpp has no name."""
    steps = _steps(described.get("pre_tokenizer"))
    ignores_merges = bool(described["model"].get("ignore_merges"))
    for known in PRE_TOKENIZERS:
        if known.steps == steps and known.ignores_merges == ignores_merges:
            return known
    names = ", ".join(known.name for known in PRE_TOKENIZERS)
    shown = json.dumps(steps, ensure_ascii=False)
    shown = shown if len(shown) <= 120 else f"{shown[:120]}..."
    merges = ", `ignore_merges`" if ignores_merges else ""
    raise ValueError(
        f"its tokenizer cuts texts in a way that is none of {names} of llama.cpp ({shown}{merges})"
    )


def pre_tokenizer(name: str) -> PreTokenizer | None:
    """Return the way with this name of llama.cpp's; None for one that is not known here."""
    return next((known for known in PRE_TOKENIZERS if known.name == name), None)


def _steps(described: Any) -> list[dict[str, Any]]:
    """Return the steps of a pre-tokenizer without what does not decide where it cuts."""
    if described is None:
        return []
    step = cast("dict[str, Any]", described)
    if step["type"] == "Sequence":
        return [inner for inner_step in step["pretokenizers"] for inner in _steps(inner_step)]
    return [{key: value for key, value in step.items() if key != "trim_offsets"}]
