"""Which rows of a source `holdout` keeps out of training: a share, by a hash of what a row asks.

A hash gives the same rows on every machine and to every stage that reads the source. Imports no
torch.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, cast

from pipeline.data.reading.columns import LABELS
from pipeline.data.reading.unpaired import meaning_of

# The columns that a preference answers; an id or a score does not make a different question of it.
_CONVERSATION = ("prompt", "conversations", "instruction")
_ASKED = (*_CONVERSATION, "input", "system", "tools", "history")


def is_held_out(
    fields: Mapping[str, Any], share: float, columns: Mapping[str, str], *, by_prompt: bool = False
) -> bool:
    """Whether a row is in the share that is kept out of training.

    columns: from our names to the source's, as in `columns:`. All pairs with one prompt fall on the
    same side, whatever their answers and remaining columns, and so do answers that were judged one
    by one. by_prompt: so do all rows with one prompt, as answers that a stage has sampled.
    """
    renamed = {ours: fields[theirs] for ours, theirs in columns.items() if theirs in fields}
    others = {key: value for key, value in fields.items() if key not in columns.values()}
    named = {**others, **renamed}
    question = _find_question(named)
    if by_prompt:
        question = {name: named[name] for name in _ASKED if name in named} or None
    return int.from_bytes(row_digest(fields if question is None else question)[:8]) / 2**64 < share


def row_digest(fields: Mapping[str, Any]) -> bytes:
    """Return the sha256 of a row's canonical JSON: equal for rows with the same contents."""
    text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).digest()


def _find_question(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a preference is about; None for a row of a different form."""
    if all(name in fields for name in ("input", "output_1", "output_2")):
        return {name: fields[name] for name in _ASKED if name in fields}
    if any(meaning_of(fields.get(name)) is not None for name in LABELS):
        return _judged_question(fields)
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


def _judged_question(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a judged answer is about: all but the answer; None where there is no such row."""
    if "completion" in fields or "output" in fields:
        return {name: fields[name] for name in _ASKED if name in fields} or None
    for name in ("messages", "conversations"):
        turns = fields.get(name)
        if isinstance(turns, list):
            others = {key: fields[key] for key in ("system", "tools") if key in fields}
            return {"shared": cast("list[Any]", turns)[:-1], **others}
    return None
