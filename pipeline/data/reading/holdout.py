"""Which rows of a source `holdout` keeps out of training: a share, told by what a row asks.

Decided by a hash, so the same on every machine and for every stage that reads the same source.
Imports no torch.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, cast

# What a preference answers; other columns (an id, a score) do not make another question of it.
_CONVERSATION = ("prompt", "conversations", "instruction")
_ASKED = (*_CONVERSATION, "input", "system", "tools", "history")


def is_held_out(fields: Mapping[str, Any], share: float, columns: Mapping[str, str]) -> bool:
    """Return whether a row is in the share that is kept out of training.

    columns: our names for the source's, as `columns:` has them. Pairs with one prompt fall on one
    side, whatever their answers and their other columns.
    """
    renamed = {ours: fields[theirs] for ours, theirs in columns.items() if theirs in fields}
    others = {key: value for key, value in fields.items() if key not in columns.values()}
    question = _find_question({**others, **renamed})
    return int.from_bytes(row_digest(fields if question is None else question)[:8]) / 2**64 < share


def row_digest(fields: Mapping[str, Any]) -> bytes:
    """The sha256 of a row's canonical JSON: equal for rows that hold the same."""
    text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).digest()


def _find_question(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a preference is about; None for a row that is none."""
    if "chosen" not in fields or "rejected" not in fields:
        return None
    if any(name in fields for name in _CONVERSATION):
        return {name: fields[name] for name in _ASKED if name in fields}
    chosen, rejected = fields["chosen"], fields["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        pairs = zip(cast("list[Any]", chosen), cast("list[Any]", rejected), strict=False)
        return {"shared": [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]}
    chosen, rejected = str(chosen), str(rejected)
    letters = enumerate(zip(chosen, rejected, strict=False))
    shared = chosen[: next((at for at, (a, b) in letters if a != b), len(chosen))]
    # A transcript's last turn begins at its last marker; two answers may begin alike.
    return {"shared": shared.rpartition("\n\nAssistant:")[0] or shared}
