"""Ids looked up piece by piece are those that the library gives for the whole text."""

import random
import re

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipeline.data.encoding import pieces
from pipeline.data.encoding.pieces import pieces_of
from pipeline.data.encoding.tokens import TextEncoder
from pipeline.llamacpp.pretokenizers import PRE_TOKENIZERS
from tests.unit.data.small_tokenizers import CORPUS, SPECIAL, TOKENIZERS, trained

# Letters, a letter that has no case, numbers, blanks of both kinds, and quotes, as they meet.
SOME = [
    *"ab Z09'.,\n\t\r\v",
    "'s",
    "'LL",
    "\xa0",
    "é",
    "ß",
    "Ж",
    "²",
    "½",
    "ª",
    "\u2019",
    "—",
    "<think>",
]


def byte_level(*steps: object, normalizer: object = None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizer
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not steps)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, last])
    return trained(backend, pre_tokenizers.ByteLevel.alphabet())


def known_tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    def tokenizer(steps: list[dict[str, object]]) -> PreTrainedTokenizerFast:
        made = []
        for step in steps[:-1]:
            if step["type"] == "Digits":
                made.append(pre_tokenizers.Digits(individual_digits=True))
                made.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
            else:
                made.append(pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated"))
        return byte_level(*made)

    return {one.name: tokenizer(one.steps) for one in PRE_TOKENIZERS if one.name != "smollm"}


def texts(seed: int) -> list[str]:
    """Return texts of the characters that are looked up, of those that meet badly, of words."""
    known = pieces._known_characters()
    draw = random.Random(seed)
    mixed = ["".join(draw.choices(pool, k=12)) for pool in (known, SOME) for _ in range(1_500)]
    return [*mixed, *CORPUS, *SPECIAL, "", " ", "x" * 500]


def assert_equal_to_library(tokenizer: PreTrainedTokenizerFast) -> None:
    quick, encoder = pieces_of(tokenizer), TextEncoder(tokenizer)
    assert quick is not None
    looked_up = 0
    for text in texts(1):
        ids = quick.ids(text)
        looked_up += ids is not None
        assert ids is None or ids == encoder._by_library([text])[0], repr(text)
    assert looked_up > 2_000


@pytest.mark.parametrize("name", [one.name for one in PRE_TOKENIZERS if one.name != "smollm"])
def test_ids_of_pieces_are_those_of_the_library(name: str) -> None:
    assert_equal_to_library(known_tokenizers()[name])


def test_digits_that_are_cut_first_are_pieces_of_their_own() -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    assert_equal_to_library(trained(backend, pre_tokenizers.ByteLevel.alphabet()))


def test_known_characters_are_composed_already() -> None:
    cut = pre_tokenizers.Split(Regex(r"\p{L}+|\s+"), "isolated")  # and what lies between
    assert_equal_to_library(byte_level(cut, normalizer=normalizers.NFC()))


@pytest.mark.parametrize("text", ["a<think>b", "a\xa0b", "日本", "e\u0301", "\u017f", "\ufb01"])
def test_what_the_library_may_see_otherwise_is_left_to_it(text: str) -> None:
    tokenizer = TOKENIZERS["byte_level"]()
    quick = pieces_of(tokenizer)
    assert quick is not None
    assert quick.ids(text) is None
    ids = TextEncoder(tokenizer)._plain([text, "a b", text])
    assert ids == TextEncoder(tokenizer)._by_library([text, "a b", text])


@pytest.mark.parametrize(
    "pattern",
    [r"\w+", r"a++", r"a*?b", r"[a[b]]", r"[a&&b]", r".", r"(a)", r"\P{L}", r"a*", r"[\S]", r"\bx"],
)
def test_patterns_that_might_mean_something_else_are_left_to_the_library(pattern: str) -> None:
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    assert pieces_of(byte_level(cut)) is None


@pytest.mark.parametrize("name", ["sentence_piece", "legacy_sentence_piece"])
def test_tokenizers_of_another_kind_are_left_to_the_library(name: str) -> None:
    assert pieces_of(TOKENIZERS[name]()) is None


def test_a_tokenizer_that_changes_or_draws_is_left_to_the_library() -> None:
    assert pieces_of(byte_level(normalizer=normalizers.Lowercase())) is None
    backend = Tokenizer(models.BPE(dropout=0.5))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert pieces_of(trained(backend, pre_tokenizers.ByteLevel.alphabet())) is None
    many = TOKENIZERS["byte_level"]()
    many.add_tokens([AddedToken(f"<extra{number}>") for number in range(40)])
    assert pieces_of(many) is None


@pytest.mark.parametrize("pattern", [r" ?\w+", r"[^\s]+(?=\s)|\s+"])
def test_where_the_library_cuts_otherwise_all_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    assert pieces_of(TOKENIZERS["byte_level"]()) is not None
    monkeypatch.setattr(pieces, "_compiled", lambda _: re.compile(f"({pattern})"))
    assert pieces_of(TOKENIZERS["byte_level"]()) is None


def test_pieces_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_MOST_KEPT", 3)
    quick = pieces_of(TOKENIZERS["byte_level"]())
    assert quick is not None
    words = "one two three four five six seven" + " x" + "y" * 100
    assert quick.ids(words) == TextEncoder(TOKENIZERS["byte_level"]())._by_library([words])[0]
    assert len(quick._ids) <= 3
    assert max(map(len, quick._ids)) <= 64
