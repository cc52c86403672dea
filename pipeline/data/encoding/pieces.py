"""Text to token ids by way of the pieces that a tokenizer cuts it into, each looked up once.

A byte-level tokenizer cuts a text by patterns (words, numbers, runs of signs) and encodes every
piece by itself. A few thousand pieces make up most of any text, so that cutting it here and looking
their ids up takes a tenth of the time that the library takes for the whole. What the ids of a piece
are, the library says. Done only where the cuts are surely its own: with patterns of a known kind,
and characters on which all tables of Unicode agree, and where some hundred texts drawn from these
come out as the library has them; other texts are left to it. Imports no torch.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tokenizers.models import Model
    from transformers import PreTrainedTokenizerBase

# Latin, Cyrillic and common signs, all older than any table in use. Without what is a letter of
# ASCII when case is ignored (long s, dotless i), and without blanks that some take for spaces.
_KNOWN = (
    r"\x00-\x7f\xa1-\xac\xae-\u012f\u0134-\u017e\u0180-\u024f\u0400-\u04ff"
    r"\u2010-\u2027\u2030-\u205e\u20ac\u2122"
)
_UNKNOWN = re.compile(f"[^{_KNOWN}]")
_MOST_KEPT = 100_000  # pieces; about 20 MB
_MOST_ADDED = 32  # tokens that are looked for in a text one by one
_DRAWN = (120, 24)  # texts, of so many characters, that the library is asked about beforehand
_MEET_OFTEN = " \n\t'.,-0129abstTZ"
_LONGEST_KEPT = 64  # characters; what is longer does not come again
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# What a pattern is read by: a class of Unicode, an escaped character, a group's kind, or one more.
_PARTS = re.compile(
    r"\\p\{(?P<category>[LN][a-z]?|M)\}|\\(?P<escaped>[^A-Za-z0-9])|\\(?P<control>[rnt])"
    r"|(?P<space>\\s)|(?P<other_space>\\S)|(?P<opened>\((?:\?(?:i?:|!|=))?)"
    r"|(?P<repeated>(?:[+*?]|\{[0-9]+(?:,[0-9]*)?\})+)|(?P<plain>[^\\{}.$])",
    re.DOTALL,
)


class Pieces:
    """The pieces of one tokenizer; see `pieces_of`."""

    def __init__(self, model: Model, cuts: Sequence[re.Pattern[str]], added: Sequence[str]) -> None:
        self._cuts = cuts
        self._added = added
        self._ids = _IdsByPiece(model)

    def ids(self, text: str) -> list[int] | None:
        """Return the ids of a text; None where it takes the library to say."""
        if not text.isascii() and _UNKNOWN.search(text):
            return None
        if any(name in text for name in self._added):
            return None
        pieces = [text]
        for cut in self._cuts:
            pieces = _cut(cut, pieces)
        return [*chain.from_iterable(map(self._ids.__getitem__, pieces))]


class _IdsByPiece(dict[str, tuple[int, ...]]):
    def __init__(self, model: Model) -> None:
        super().__init__()
        from tokenizers.pre_tokenizers import ByteLevel

        self._model = model
        self._bytes = ByteLevel(add_prefix_space=False, use_regex=False)

    def __missing__(self, piece: str) -> tuple[int, ...]:
        spelt = self._bytes.pre_tokenize_str(piece)
        ids = tuple(token.id for part, _ in spelt for token in self._model.tokenize(part))
        if len(piece) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[piece] = ids
        return ids


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> Pieces | None:
    """Return the pieces of a tokenizer; None for one of another kind."""
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    backend = tokenizer.backend_tokenizer
    model = backend.model
    if not isinstance(model, BPE) or model.dropout:
        return None
    added = [
        token.content for token in tokenizer.added_tokens_decoder.values() if not token.special
    ]
    cuts = _cuts_of(_described(backend.pre_tokenizer))
    # Known characters are composed, which is all that this normalizer would do.
    is_as_written = _described(backend.normalizer) in (None, {"type": "NFC"})
    if cuts is None or not is_as_written or len(added) > _MOST_ADDED:
        return None
    pieces = Pieces(model, cuts, added)
    return pieces if _agrees(pieces, tokenizer) else None


def _described(part: Any) -> dict[str, Any] | None:
    """Return a part of a tokenizer as tokenizer.json has it; the whole, with its words, is big."""
    return None if part is None else json.loads(part.__getstate__())


def _agrees(pieces: Pieces, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the library has the same ids for texts drawn from the characters that are known."""
    draw = random.Random(0)
    number, length = _DRAWN
    pools = (_MEET_OFTEN, _known_characters())
    texts = ["".join(draw.choices(pools[n % 2], k=length)) for n in range(number)]
    theirs = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return all(pieces.ids(text) in (None, ids) for text, ids in zip(texts, theirs, strict=True))


@cache
def _known_characters() -> str:
    return "".join(chr(code) for code in range(0x2200) if not _UNKNOWN.match(chr(code)))


def _cut(pattern: re.Pattern[str], texts: Iterable[str]) -> list[str]:
    """Return what a pattern matches in texts, and what lies between its matches."""
    pieces: list[str] = []
    for text in texts:
        found = pattern.findall(text)
        if len("".join(found)) < len(text):
            found = [part for part in pattern.split(text) if part]
        pieces += found
    return pieces


def _cuts_of(described: Mapping[str, Any] | None) -> list[re.Pattern[str]] | None:
    """Return the patterns that cut a text, one after another; None for another kind."""
    if described is None:
        return None
    steps = [described]
    if described["type"] == "Sequence":
        steps = described["pretokenizers"]
    *earlier, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    patterns: list[str] = []
    for step in earlier:
        match step:
            case {"type": "Digits", "individual_digits": is_each}:
                patterns.append(r"\p{N}" if is_each else r"\p{N}+")
            case {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            }:
                patterns.append(pattern)
            case _:
                return None
    patterns += [_GPT2] if last["use_regex"] else []
    cuts = [_compiled(pattern) for pattern in patterns]
    return None if None in cuts or not cuts else [cut for cut in cuts if cut is not None]


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a pattern of the library's in Python's terms; None where it has more than is known."""
    written: list[str] = []
    at, in_class = 0, False
    while at < len(pattern):
        match = _PARTS.match(pattern, at)
        if match is None:
            return None
        at, kind, part = match.end(), match.lastgroup, match[0]
        if kind == "category":
            part = _letters(match["category"])
            part = part if in_class else f"[{part}]" if part else "(?!)"
        elif kind == "space":
            part = r"\t-\r " if in_class else r"[\t-\r ]"
        elif kind == "other_space":
            if in_class:
                return None
            part = r"[^\t-\r ]"
        elif in_class:
            if part in ("[", "&", "~", "|") or (kind == "repeated" and len(part) > 1):
                return None  # sets within sets
            in_class = part != "]"
        elif part == "[":
            in_class = True
            if pattern.startswith("^", at):
                part, at = "[^", at + 1
            if pattern.startswith("]", at):
                return None
        elif part == "(" or part == "^" or (kind == "repeated" and not _is_simple(part)):
            return None
        written.append(part)
    compiled = re.compile(f"({''.join(written)})")
    return None if compiled.match("") else compiled


def _is_simple(repeated: str) -> bool:
    """Whether a repetition means the same everywhere: neither lazy nor possessive."""
    return len(repeated) == 1 or (repeated[0] == "{" and repeated[-1] == "}")


@cache
def _letters(category: str) -> str:
    """Return the known characters of a category of Unicode, as a class of a pattern has them."""
    known = _known_characters()
    return "".join(one for one in known if unicodedata.category(one).startswith(category))
