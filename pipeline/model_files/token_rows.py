"""A model's tokenizer compared with the rows of its embedding, by their files alone.

Finds before a run, where tokenizer.json lies beside config.json, what pipeline/models/vocabulary.py
finds with the libraries: a token that would be read but has no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

RESIZE = "call `model.resize_token_embeddings(len(tokenizer))` and save both, or remove the token"


def token_problem(
    tokenizer: Mapping[str, Any], config: Mapping[str, Any], template: Any, rows: int
) -> str | None:
    """Return what is wrong with a tokenizer for an embedding of so many rows, or None.

    tokenizer: of tokenizer.json. config: of tokenizer_config.json. template: the chat template, if
    it is a text. A special token that neither the template nor the ends of texts use may lack a
    row: it is never read, since text never becomes a special token.
    """
    special, plain = _tokens(tokenizer)
    ends = {_content(config.get(key)) for key in ("bos_token", "eos_token")}
    written = template if isinstance(template, str) else ""
    read = {
        token: number
        for token, number in special.items()
        if token in ends or (token and token in written)
    }
    beyond = [(number, token) for token, number in {**plain, **read}.items() if number >= rows]
    if not beyond:
        return None
    number, token = min(beyond)
    count = len(special.keys() | plain.keys())
    return (
        f"the token `{token}` has the id {number}, and the embedding {rows} rows "
        f"(the tokenizer has {count} tokens)"
    )


def _tokens(tokenizer: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the ids of special tokens, and of tokens that text can become, by token."""
    model = tokenizer.get("model")
    vocabulary: Any = (
        cast("dict[str, Any]", model).get("vocab") if isinstance(model, dict) else None
    )
    plain: dict[str, int] = {}
    if isinstance(vocabulary, dict):
        words = cast("dict[str, Any]", vocabulary)
        plain = {word: number for word, number in words.items() if isinstance(number, int)}
    elif isinstance(vocabulary, list):  # of a unigram model: [token, score] by id
        pairs = cast("list[Any]", vocabulary)
        plain = {str(entry[0]): number for number, entry in enumerate(pairs) if entry}
    special: dict[str, int] = {}
    added = tokenizer.get("added_tokens")
    for entry in cast("list[Any]", added) if isinstance(added, list) else []:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        number, token = fields.get("id"), fields.get("content")
        if isinstance(number, int) and isinstance(token, str):
            (special if fields.get("special") else plain)[token] = number
            if fields.get("special"):
                plain.pop(token, None)
    return special, plain


def _content(token: Any) -> str | None:
    """Return a token's text, which tokenizer_config.json has as it is or in an object."""
    content = cast("dict[str, Any]", token).get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
