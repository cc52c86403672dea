"""Text to token ids, so that text never becomes a control token.

Control tokens are the tokenizer's special tokens: `<|end|>` in a user's text stays seven letters.
An added token that is not special (`<think>` of many models) is vocabulary, found in any text. Chat
templates are chat.py's subject.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, cast

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import AddedToken, PreTrainedTokenizerBase

# Encoded in front of a text that goes on after other text, then taken off again.
_ANCHORS = ("\n", ".", "a")


@dataclass(frozen=True)
class Tokens:
    """A sequence of token ids and which of them a model is trained to write."""

    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True)
class Stretch:
    """Plain text that is encoded in one go.

    follows: what stands before it; SentencePiece puts a space in front of what follows nothing.
    where: the row, for errors.
    """

    text: str
    follows: Literal["nothing", "control", "text"]
    where: str


class TextEncoder:
    """Encodes plain text with one tokenizer; knows its control tokens.

    start: what a document begins with: BOS where this tokenizer writes one, else nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.name = str(tokenizer.name_or_path or "tokenizer")
        added = tokenizer.added_tokens_decoder
        self.added_ids = {token.content: number for number, token in added.items()}
        special = {token.content for token in added.values() if token.special}
        self.control_ids = {name: self.added_ids[name] for name in special}
        self.vocabulary = [name for name in self.added_ids if name not in special]
        # An unknown character may become the unknown token: that is no control token in disguise.
        self._forbidden = set(self.control_ids.values()) - {_one_id(tokenizer.unk_token_id)}
        self._control = re.compile(_either(_with_blanks(added.values(), special)))
        self._adds_prefix = self._plain(["x"])[0] != self._after_text("x")
        self._prefix_after_control = self._adds_prefix and self._sees_prefix_after_control()
        self.start = self._bos()

    @property
    def eos_token_id(self) -> int:
        """The id that ends a document; an error if the tokenizer has none."""
        eos_token_id = _one_id(self.tokenizer.eos_token_id)
        if eos_token_id is None:
            hint = "a model could never learn to stop; give the tokenizer an eos_token"
            raise PosttrainError(self.name, "the tokenizer has no end-of-sequence token", hint)
        return eos_token_id

    def document(self, text: str) -> list[int]:
        """The ids of a document, `start` first, no EOS."""
        return self.documents([text], [""])[0]

    def documents(self, texts: Sequence[str], wheres: Sequence[str]) -> list[list[int]]:
        """Encode several documents at once, which is much faster; `wheres` names them in errors."""
        follows = "control" if self.start else "nothing"
        pairs = zip(texts, wheres, strict=True)
        encoded = self.encode([Stretch(text, follows, where) for text, where in pairs])
        return [self.start + ids for ids in encoded]

    def prompt_completion(self, prompt: str, completion: str, where: str) -> Tokens:
        """A prompt as a document, then its completion and EOS, which are trained; encoded apart."""
        before = self.documents([prompt], [where])[0]
        after = [*self.encode([Stretch(completion, "text", where)])[0], self.eos_token_id]
        return Tokens(before + after, [False] * len(before) + [True] * len(after))

    def encode(self, stretches: Sequence[Stretch]) -> list[list[int]]:
        """The ids of each stretch; none of them is a control token, or it is an error."""
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
        """Whether a text says what a control token is written as; it stays text."""
        return any(self._control.search(text) for text in texts)

    def show(self, ids: Sequence[int]) -> str:
        """Ids as readable text; what only spells a control token stands in double brackets.

        `<|end|>` is a control token, and `[[<|end|>]]` seven letters of somebody's.
        """
        whole = str(self.tokenizer.decode(list(ids), skip_special_tokens=False))
        controls = set(self.control_ids.values())
        if len(self._control.findall(whole)) == sum(number in controls for number in ids):
            return whole
        parts: list[str] = []
        for is_control, run in groupby(ids, key=controls.__contains__):
            text = str(self.tokenizer.decode(list(run), skip_special_tokens=False))
            parts.append(text if is_control else self._control.sub(r"[[\g<0>]]", text))
        return "".join(parts)

    def split(self, template_text: str) -> Iterator[tuple[int, str | int]]:
        """Yield what a template wrote: where it begins, and plain text or a control token's id."""
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
        """Whether the tokenizer is to treat the stretch as it treats the start of a text."""
        if not self._adds_prefix or stretch.follows == "nothing":
            return True
        return stretch.follows == "control" and self._prefix_after_control

    def _plain(self, texts: list[str]) -> list[list[int]]:
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
        """The ids of text that goes on after other text, without a space put in front of it."""
        for anchor in _ANCHORS:
            start, whole = self._plain([anchor, anchor + text])
            if whole[: len(start)] == start:
                return whole[len(start) :]
        return self._plain([text])[0]

    def _sees_prefix_after_control(self) -> bool:
        for name, number in self.control_ids.items():
            ids = self.tokenizer(name + "x", add_special_tokens=False, split_special_tokens=False)
            if ids["input_ids"][0] == number:
                return ids["input_ids"][1:] == self._plain(["x"])[0]
        return True

    def _bos(self) -> list[int]:
        """BOS, if the tokenizer has one and puts it at the start of a text."""
        bos = _one_id(self.tokenizer.bos_token_id)
        ids = self.tokenizer("x", add_special_tokens=True)["input_ids"]
        return [bos] if bos is not None and ids[0] == bos else []


def _one_id(token_id: Any) -> int | None:
    """A special token's id; upstream's type for it is much wider."""
    return cast("int | None", token_id)


def _with_blanks(added: Iterable[AddedToken], special: set[str]) -> Iterator[str]:
    r"""Patterns of the special tokens, longest first; some swallow the white space beside them."""
    for token in sorted(added, key=lambda token: -len(token.content)):
        if token.content in special:
            before, after = r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else ""
            yield before + re.escape(token.content) + after


def _either(patterns: Iterable[str]) -> str:
    return "|".join(patterns) or "(?!)"  # (?!) matches nowhere
