"""Text to token ids, so that text never becomes a control token.

Control tokens are the tokenizer's special tokens: `<|end|>` in a user's text stays seven letters.
An added token that is not special (`<think>` of many models) is vocabulary, recognised in any text.
Chat templates are in chat.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, cast

from pipeline.data.encoding.pieces import pieces_of
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import AddedToken, PreTrainedTokenizerBase

# Encoded in front of a text that continues another, then taken off again, so that the tokenizer
# adds no space of its own. Tried in order, until one does not merge with the text.
_ANCHORS = ("\n", ".", "a")


@dataclass(frozen=True)
class Tokens:
    """A sequence of token ids (T), and which of them a model is trained to write (T)."""

    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True)
class Stretch:
    """Plain text that is encoded in one go.

    follows: what stands before it. SentencePiece puts a space in front of text that follows
    nothing.
    where: the row, for errors.
    """

    text: str
    follows: Literal["nothing", "control", "text"]
    where: str


class TextEncoder:
    """Encodes plain text with one tokenizer, whose control tokens it knows.

    start: what a document begins with: BOS if this tokenizer writes one, otherwise nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.name = str(tokenizer.name_or_path or "tokenizer")
        added = tokenizer.added_tokens_decoder
        self.added_ids = {token.content: number for number, token in added.items()}
        special = {token.content for token in added.values() if token.special}
        self.control_ids = {name: self.added_ids[name] for name in special}
        self.vocabulary = [name for name in self.added_ids if name not in special]
        # An unknown character may become the unknown token, which is no control token in disguise.
        self._forbidden = set(self.control_ids.values()) - {_one_id(tokenizer.unk_token_id)}
        self._control = re.compile(_either(_with_blanks(added.values(), special)))
        self._pieces = pieces_of(tokenizer)
        self._adds_prefix = self._plain(["x"])[0] != self._after_text("x")
        self._prefix_after_control = self._adds_prefix and self._sees_prefix_after_control()
        self.start = self._bos()

    @property
    def eos_token_id(self) -> int:
        """The id that ends a document; PosttrainError if the tokenizer has none."""
        eos_token_id = _one_id(self.tokenizer.eos_token_id)
        if eos_token_id is None:
            hint = "a model could never learn to stop; give the tokenizer an eos_token"
            raise PosttrainError(self.name, "the tokenizer has no end-of-sequence token", hint)
        return eos_token_id

    def document(self, text: str) -> list[int]:
        """Return the ids of a document: `start`, then the text, no EOS."""
        return self.documents([text], [""])[0]

    def documents(self, texts: Sequence[str], wheres: Sequence[str]) -> list[list[int]]:
        """Encode several documents at once, which is much faster; wheres: rows, for errors."""
        follows = "control" if self.start else "nothing"
        pairs = zip(texts, wheres, strict=True)
        encoded = self.encode([Stretch(text, follows, where) for text, where in pairs])
        return [self.start + ids for ids in encoded]

    def prompt_completion(self, prompt: str, completion: str, where: str) -> Tokens:
        """Return a prompt as a document, then its completion and EOS, which are trained.

        The two are encoded apart: at inference the prompt is encoded alone, without the completion.
        """
        before = self.documents([prompt], [where])[0]
        after = [*self.encode([Stretch(completion, "text", where)])[0], self.eos_token_id]
        return Tokens(before + after, [False] * len(before) + [True] * len(after))

    def encode(self, stretches: Sequence[Stretch]) -> list[list[int]]:
        """Return the ids of all stretches; PosttrainError where one of them is a control token."""
        # Templates repeat the same few stretches: each distinct one is encoded once.
        distinct = dict.fromkeys((stretch.text, self._has_prefix(stretch)) for stretch in stretches)
        prefixed = [text for text, has_prefix in distinct if has_prefix]
        ids_by_key = dict(zip(prefixed, self._plain(prefixed), strict=True))
        ids_by_text = {
            (text, has_prefix): ids_by_key[text] if has_prefix else self._after_text(text)
            for text, has_prefix in distinct
        }
        encoded = [ids_by_text[stretch.text, self._has_prefix(stretch)] for stretch in stretches]
        for stretch, ids in zip(stretches, encoded, strict=True):
            if not self._forbidden.isdisjoint(ids):
                token = self.tokenizer.convert_ids_to_tokens(min(self._forbidden.intersection(ids)))
                message = f"the tokenizer reads the control token `{token}` out of plain text"
                raise PosttrainError(stretch.where, message, "take it out of the text")
        return encoded

    def spells_control_tokens(self, texts: Iterable[str]) -> bool:
        """Whether a text spells a control token; it stays text."""
        return any(self._control.search(text) for text in texts)

    def show(self, ids: Sequence[int]) -> str:
        """Return ids as readable text, in which double brackets mark what only spells a control.

        `<|end|>` is then a control token, and `[[<|end|>]]` seven letters that somebody wrote.
        """
        whole = str(self.tokenizer.decode(list(ids), skip_special_tokens=False))
        controls = set(self.control_ids.values())
        if len(self._control.findall(whole)) == sum(number in controls for number in ids):
            return whole  # every control token that can be read is one
        parts: list[str] = []
        for is_control, run in groupby(ids, key=controls.__contains__):
            text = str(self.tokenizer.decode(list(run), skip_special_tokens=False))
            parts.append(text if is_control else self._control.sub(r"[[\g<0>]]", text))
        return "".join(parts)

    def split(self, template_text: str) -> Iterator[tuple[int, str | int]]:
        """Yield the parts of what a template wrote: offset, and text or a control token's id."""
        at = 0
        for match in self._control.finditer(template_text):
            if at < match.start():
                yield at, template_text[at : match.start()]
            name = match[0] if match[0] in self.control_ids else match[0].strip()
            yield match.start(), self.control_ids[name]
            at = match.end()
        if at < len(template_text):
            yield at, template_text[at:]

    def _has_prefix(self, stretch: Stretch) -> bool:
        """Whether the tokenizer treats the stretch like the start of a text."""
        if not self._adds_prefix or stretch.follows == "nothing":
            return True
        return stretch.follows == "control" and self._prefix_after_control

    def _plain(self, texts: list[str]) -> list[list[int]]:
        if self._pieces is None:
            return self._by_library(texts)
        known = [self._pieces.ids(text) for text in texts]
        others = [text for text, ids in zip(texts, known, strict=True) if ids is None]
        rest = iter(self._by_library(others))
        return [next(rest) if ids is None else ids for ids in known]

    def _by_library(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    def _after_text(self, text: str) -> list[int]:
        """Return the ids of text that continues another, without a space put in front of it."""
        for anchor in _ANCHORS:
            start, whole = self._plain([anchor, anchor + text])
            if whole[: len(start)] == start:  # else the anchor merged with the text
                return whole[len(start) :]
        return self._plain([text])[0]

    def _sees_prefix_after_control(self) -> bool:
        """Whether this tokenizer puts its space also behind a control token (some versions do)."""
        for name, number in self.control_ids.items():
            ids = self.tokenizer(name + "x", add_special_tokens=False, split_special_tokens=False)
            if ids["input_ids"][0] == number:
                return ids["input_ids"][1:] == self._plain(["x"])[0]
        return True

    def _bos(self) -> list[int]:
        """Return [BOS], if the tokenizer has one and puts it at the start of a text, else []."""
        bos = _one_id(self.tokenizer.bos_token_id)
        ids = self.tokenizer("x", add_special_tokens=True)["input_ids"]
        return [bos] if bos is not None and ids[0] == bos else []


def _one_id(token_id: Any) -> int | None:
    """Narrow upstream's type of a special token's id."""
    return cast("int | None", token_id)


def _with_blanks(added: Iterable[AddedToken], special: set[str]) -> Iterator[str]:
    r"""Yield patterns of the special tokens, longest first; some take white space beside them."""
    for token in sorted(added, key=lambda token: -len(token.content)):
        if token.content in special:
            before, after = r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else ""
            yield before + re.escape(token.content) + after


def _either(patterns: Iterable[str]) -> str:
    return "|".join(patterns) or "(?!)"  # (?!) matches nowhere
