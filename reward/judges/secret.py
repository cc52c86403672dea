"""A key that is shown nowhere: not in a representation, a message, or the log of a library."""

from __future__ import annotations

import logging
import re
from functools import cache

_LEAST = 8  # characters of a key that are taken out of a text wherever they stand
_HIDDEN = "[key]"
_LOGGERS = ("httpcore2.http11", "httpcore2.proxy")  # at DEBUG they print the headers that came in


class Secret:
    """A key, and texts without it. Raises ValueError for what no header can hold."""

    def __init__(self, key: str) -> None:
        if not (key.isascii() and key.isprintable() and key.split() == [key]):
            raise ValueError("the key has characters that no key has: spaces, or line breaks")
        self._key = key
        width = min(_LEAST, len(key))
        pieces = {key[at : at + width] for at in range(len(key) - width + 1)}
        self._width = width
        self._starts = re.compile("|".join(f"(?={re.escape(piece)})" for piece in pieces))

    def __repr__(self) -> str:
        return _HIDDEN

    @property
    def bearer(self) -> str:
        """What stands in the header `authorization`."""
        return f"Bearer {self._key}"

    def redacted(self, text: str) -> str:
        """Return a text without the key, or a piece of it that would tell it apart."""
        parts: list[str] = []
        shown_from = 0
        for found in self._starts.finditer(text):
            # Pieces that overlap, or follow one another, are hidden as one.
            if found.start() > shown_from or not parts:
                parts += [text[shown_from : found.start()], _HIDDEN]
            shown_from = found.start() + self._width
        return "".join([*parts, text[shown_from:]])

    def keep_out_of_logs(self) -> None:
        """Take the key out of what the HTTP library logs, should a server send it back."""
        _keep_out_of_logs(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


@cache
def _keep_out_of_logs(secret: Secret) -> None:
    """Add a filter, once for each key."""

    def redact(record: logging.LogRecord) -> bool:
        record.msg, record.args = secret.redacted(record.getMessage()), None
        return True

    for name in _LOGGERS:
        logging.getLogger(name).addFilter(redact)
