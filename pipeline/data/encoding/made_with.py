"""What decides the token ids of a row, beside the row: the tokenizer, our code, the libraries.

Two tokenizers with one identity encode alike, wherever they lie. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIPELINE = Path(__file__).parents[2]
_CODE = ("checks", "data", "model_files")  # all that reads, checks, screens and encodes rows
_LIBRARIES = ("tokenizers", "transformers", "jinja2", "pyarrow")
_FLAGS = ("content", "special", "lstrip", "rstrip", "normalized", "single_word")


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """Return what decides how a tokenizer encodes; None for one whose rules lie in code."""
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    rules: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    for set_by_calls in ("truncation", "padding"):
        rules.pop(set_by_calls, None)
    added = {
        str(number): [str(getattr(token, flag)) for flag in _FLAGS]
        for number, token in tokenizer.added_tokens_decoder.items()
    }
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return {
        "class": type(tokenizer).__name__,
        "rules": _sha256(json.dumps(rules)),
        "added": _sha256(json.dumps([added, special], sort_keys=True)),
        "chat_template": _sha256(json.dumps(tokenizer.chat_template)),
    }


@cache
def made_with() -> dict[str, str]:
    """Return what our code and the libraries are, as far as they decide encoded rows."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((_PIPELINE / folder).rglob("*.py")):
            digest.update(path.relative_to(_PIPELINE).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return {"code": digest.hexdigest(), **{name: version(name) for name in _LIBRARIES}}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
