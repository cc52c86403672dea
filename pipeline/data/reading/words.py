"""The words of a text, whatever its line breaks, capitals and punctuation.

Rows are compared by them with one another (dedup.py) and with test items (overlaps.py); no model
reads them. Imports no torch.
"""

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

# Written without spaces: Thai, Lao, Burmese, Khmer, Chinese, Japanese. A character is a word.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[^\W_{_UNSPACED}]+|[{_UNSPACED}]")
_SIGN = re.compile(rf"{_WORD.pattern}|[-+*/=<>^%()\[\]{{}}\u00d7\u00f7\u2212]")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_THOUSANDS = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))")  # 1,200 is 1200
# Invisible characters within words: soft hyphen, zero-width space and joiners, BOM.
_UNSEEN = re.compile(r"[\u00ad\u200b-\u200d\u2060\ufeff]")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, by the golden ratio: spreads over all 64 bits


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text in lower case, without white space and punctuation."""
    if "," in text:
        text = _THOUSANDS.sub("", text)
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    plain = unicodedata.normalize("NFKC", _UNSEEN.sub("", text))
    return _WORD.findall(plain.casefold())


def signs_of(text: str) -> str:
    """Return a short text in lower case with its signs, which matter where there are few words.

    `What is 3 + 4?` and `What is 3 - 4?` have the same words.
    """
    return " ".join(_SIGN.findall(unicodedata.normalize("NFKC", text).casefold())).strip(" -")


def ngram_keys(ids: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Return a number per n-gram of word ids, in order; equal n-grams have equal numbers.

    ids: (W,). Returns (W - n + 1,), hashes of 64 bits.
    """
    length = max(0, len(ids) - n + 1)
    keys = np.zeros(length, dtype=np.uint64)
    for shift in range(n):
        keys = (keys + ids[shift : shift + length]) * _FACTOR
    keys ^= keys >> np.uint64(32)  # the high bits depend on all words
    return keys * _FACTOR
