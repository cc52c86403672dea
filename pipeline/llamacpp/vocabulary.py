"""A tokenizer as llama.cpp keeps it: tokens, their types, merges or scores, and the control tokens.

Read from what the `tokenizers` library says of itself, so that nothing is guessed from a model's
name. A tokenizer that llama.cpp would apply in another way is refused with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import PosttrainError
from pipeline.llamacpp.pretokenizers import match_pre_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gguf import GGUFWriter

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # gguf.TokenType
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"  # SentencePiece's
_HINT = "take it as safetensors: vLLM and `transformers serve` read the folder"


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says of a tokenizer.

    model: `gpt2` (BPE on bytes) or `llama` (SentencePiece). pre: how texts are cut before.
    tokens, types: by id, as many as the embedding has rows. merges: of `gpt2`; scores: of `llama`.
    adds_space: whether `llama` puts a space before a text.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str] | None = None
    scores: list[float] | None = None
    adds_space: bool = False


@dataclass(frozen=True)
class Controls:
    """The control tokens, and what a text begins with.

    ends: the ids that end a response, sorted. adds_bos: whether llama.cpp puts BOS first, as was
    done in training. template: the chat template, None for a model that continues texts.
    """

    bos: int | None
    eos: int | None
    unknown: int | None
    padding: int | None
    ends: tuple[int, ...]
    adds_bos: bool
    template: str | None


def vocabulary_of(
    described: Mapping[str, Any], rows: int, where: str, *, is_chat: bool
) -> Vocabulary:
    """Return what llama.cpp needs of a tokenizer; PosttrainError where it would apply it otherwise.

    described: tokenizer.json. rows: of the embedding. is_chat: whether a control token comes first.
    """
    try:
        _check_kind(described)
        tokens, types = _tokens(described, rows)
        if described["model"].get("byte_fallback"):
            adds_space = _adds_space(described, is_chat=is_chat)
            scores = _scores(described["model"], tokens, types)
            return Vocabulary("llama", "default", tokens, types, None, scores, adds_space)
        pre = match_pre_tokenizer(described)
        merges = [" ".join(pair) for pair in _pairs(described["model"])]
        return Vocabulary("gpt2", pre.name, tokens, types, merges)
    except ValueError as error:
        raise PosttrainError(where, str(error), _HINT) from error


def write_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, controls: Controls) -> None:
    """Write a tokenizer and its control tokens."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    writer.add_add_space_prefix(vocabulary.adds_space)
    writer.add_add_bos_token(controls.adds_bos)
    writer.add_add_eos_token(False)
    for add, number in (
        (writer.add_bos_token_id, controls.bos),
        (writer.add_eos_token_id, controls.eos),
        (writer.add_unk_token_id, controls.unknown),
        (writer.add_pad_token_id, controls.padding),
    ):
        if number is not None:
            add(number)
    # llama.cpp has three places for tokens that end a response; EOS has the first.
    others = [number for number in controls.ends if number != controls.eos]
    places = (writer.add_eot_token_id, writer.add_eom_token_id)
    for add, number in zip(places, others, strict=False):
        add(number)
    if controls.template is not None:
        writer.add_chat_template(controls.template)


def _tokens(described: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Return tokens and their types by id; rows without a token are filled."""
    by_id = {int(number): text for text, number in described["model"]["vocab"].items()}
    unknown = described["model"].get("unk_token")
    # An added token without a row is never read: load_tokenizer holds the tokenizer against them.
    every = described.get("added_tokens") or ()
    added = {int(token["id"]): token for token in every if int(token["id"]) < rows}
    by_id |= {number: token["content"] for number, token in added.items()}
    if by_id and max(by_id) >= rows:
        raise ValueError(f"its tokenizer has an id {max(by_id)}, its embedding {rows} rows")
    types: list[int] = []
    for number in range(rows):
        text = by_id.get(number)
        if text is None:
            types.append(UNUSED)
        elif text == unknown and described["model"].get("byte_fallback"):
            types.append(UNKNOWN)
        elif number in added:
            types.append(CONTROL if added[number]["special"] else USER_DEFINED)
        else:
            types.append(BYTE if _BYTE_TOKEN.fullmatch(text) else NORMAL)
    return [by_id.get(number, f"[PAD{number}]") for number in range(rows)], types


def _check_kind(described: Mapping[str, Any]) -> None:
    """Raise ValueError for what is not BPE, or does more to a text than that."""
    model, normalizer = described["model"], described.get("normalizer")
    if model["type"] != "BPE" or model.get("continuing_subword_prefix"):
        raise ValueError(f"its tokenizer is a {model['type']}, not BPE")
    if not model.get("byte_fallback") and normalizer and normalizer["type"] != "NFC":
        raise ValueError(f"its tokenizer changes texts ({normalizer['type']})")
    for token in described.get("added_tokens") or ():
        if token.get("lstrip") or token.get("rstrip"):
            raise ValueError(f"its token `{token['content']}` takes in the white space beside it")


def _adds_space(described: Mapping[str, Any], *, is_chat: bool) -> bool:
    """Return whether a space is put before a text, as SentencePiece does."""
    normalizer, cut = described.get("normalizer"), described.get("pre_tokenizer")
    steps: list[dict[str, Any]] = []
    if normalizer is not None:
        steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    kinds = [step["type"] for step in steps]
    replaces = [step for step in steps if step["type"] == "Replace"]
    is_plain = all(
        step["pattern"] == {"String": " "} and step["content"] == _SPACE for step in replaces
    )
    is_cut_plainly = cut is None or (
        cut["type"] == "Split"
        and cut["pattern"] == {"String": " "}
        and cut["behavior"] == "MergedWithPrevious"
    )
    if is_plain and is_cut_plainly and kinds in (["Prepend", "Replace"], ["Replace"]):
        return kinds[0] == "Prepend"
    if not kinds and cut is not None and cut["type"] == "Metaspace" and not cut.get("split", True):
        # `first`: none after a control token; llama.cpp puts one after each, so of a chat none.
        return {"always": True, "first": not is_chat, "never": False}[cut["prepend_scheme"]]
    shown = "+".join(kinds) or "nothing", cut["type"] if cut else "nothing"
    raise ValueError(f"its SentencePiece tokenizer is not a plain one ({shown[0]}, {shown[1]})")


def _scores(model: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> list[float]:
    """Return a score for each token that makes llama.cpp merge in the order of the merges.

    It joins whichever two neighbours make the token with the best score. So the merges must hold
    every way to make every token, and of one token side by side: those of SentencePiece models do.
    """
    vocabulary = cast("dict[str, int]", model["vocab"])
    rank: dict[str, int] = {}
    ways: dict[str, set[tuple[str, str]]] = {}
    latest = None
    for number, (left, right) in enumerate(_pairs(model)):
        made = left + right
        if made in rank and made != latest:
            raise ValueError("its merges do not come from SentencePiece: their order is another")
        latest = made
        rank.setdefault(made, number)
        ways.setdefault(made, set()).add((left, right))
    for made, kind in zip(tokens, types, strict=True):
        if kind != NORMAL or len(made) == 1:
            continue
        known = ways.get(made, set())
        cuts = ((made[:at], made[at:]) for at in range(1, len(made)))
        possible = sum(left in vocabulary and right in vocabulary for left, right in cuts)
        if not known or possible != len(known):
            raise ValueError(f"its merges do not come from SentencePiece: see `{made}`")
    return [float(-rank[token]) if token in rank else -1e6 for token in tokens]


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges, which older files keep as texts with a space."""
    merges: list[Any] = model["merges"]
    return [
        cast("tuple[str, str]", tuple(merge.split(" ", 1) if isinstance(merge, str) else merge))
        for merge in merges
    ]
