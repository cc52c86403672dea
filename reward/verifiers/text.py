"""Is the response the expected words? Case, spaces, punctuation and articles do not matter.

Exact match as in SQuAD (Rajpurkar et al. 2016). Not a measure of likeness: a paraphrase is wrong.
"""

import re
from collections.abc import Collection, Sequence
from typing import Literal

from reward.verdict import Verdict

Within = Literal["response", "leading_sentence"]

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NOT_WORDS = re.compile(r"[\W_]+")
# Words as they are normalised: `isn't` is `isn t`.
_DENIED = re.compile(
    r"\b(?:not|never|nor|cannot|anything but"
    r"|(?:is|was|are|were|do|does|did|ca|could|would|should|must|might|wo)n t)"
    r"(?: (?:actually|really|truly|exactly|quite|necessarily|ever|at all|in fact|be|have been))* $"
)
_MAX_MARKS = 30
_AROUND = " \"'`*_\u201c\u201d\u2018\u2019\u00ab\u00bb"
_MARKS = ".!?\u3002\uff01\uff1f"
_UNSPACED = frozenset(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"))
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def text(response: str, reference: str, *, within: Within = "response") -> Verdict:
    """Compare the normalised words.

    within: `response`, the whole of it must be the reference; `leading_sentence`, its first
        sentence must be the reference or end with it (`The capital of Peru is Lima.`) and not deny
        it (`It is not Lima.`), whatever comes later.
    """
    expected = normalised(reference)
    if not expected:
        return Verdict(None, None, "the reference is empty")
    answer = response.strip() if within == "response" else leading_sentence(response)
    found = normalised(answer)
    if not found:
        return Verdict(0.0, None, "the response is empty")
    if found == expected:
        return Verdict(1.0, answer, "the expected text")
    if within == "leading_sentence" and found.endswith(f" {expected}"):
        if _DENIED.search(found[: -len(expected)]):
            return Verdict(0.0, answer, "the leading sentence denies the expected text")
        return Verdict(1.0, reference, "the leading sentence ends with the expected text")
    return Verdict(0.0, answer, f"expected `{reference}`")


def leading_sentence(response: str) -> str:
    """Return the first sentence without its end mark; a line break ends a sentence too."""
    return _SENTENCE_END.split(response.strip(), maxsplit=1)[0].strip()


def normalised(words: str) -> str:
    """Return the words in lower case, without punctuation and articles, one space between them."""
    import unicodedata  # 30 ms, which a plan that only names a task need not spend

    folded = unicodedata.normalize("NFKC", _stream_safe(words)).casefold()
    return " ".join(_ARTICLE.sub(" ", _NOT_WORDS.sub(" ", folded)).split())


def _stream_safe(words: str) -> str:
    """Return the words with at most 30 combining marks in a row, as Unicode's annex 15 has it.

    A normal form has marks in an order of their own, and sorting a row of n of them takes n**2
    steps: a minute for a million.
    """
    import unicodedata

    marks = [
        letter
        for letter in set(words)
        if not letter.isascii() and unicodedata.combining(unicodedata.normalize("NFKD", letter)[0])
    ]
    if not marks:
        return words
    mark = f"[{re.escape(''.join(marks))}]"
    return re.sub(f"({mark}{{{_MAX_MARKS}}}){mark}+", r"\1", words)


def says_one_of(response: str, wanted: Sequence[str]) -> Verdict:
    """Look for any of some texts in the response, as whole words and not denied (`not Lima`).

    Words are normalised as in `text`. In scripts that put no spaces between words, a text may stand
    anywhere.
    """
    forms = {normalised(each): each for each in wanted}
    forms.pop("", None)
    if not forms:
        return Verdict(None, None, "the reference has no letter or digit to look for")
    said = normalised(response)
    pattern = "|".join(_whole(form) for form in sorted(forms, key=len, reverse=True))
    found = [(denied, form) for denied, form in re.findall(rf"(\bnot )?({pattern})", said)]
    for denied, form in found:
        if not denied:
            return Verdict(1.0, forms[form], "says the expected text")
    if found:
        return Verdict(0.0, None, "denies the expected text")
    return Verdict(0.0, None, f"does not say `{wanted[0][:80]}`")


def same_words(response: str, wanted: Sequence[str]) -> Verdict:
    """Compare the whole response with any of some texts, but for case and spaces.

    Quotes and marks around it and the mark at its end do not count; those inside it do: C++ is not
    C#.
    """
    answer = response.strip()
    found = _bare(answer)
    if not found:
        return Verdict(0.0, None, "the response is empty")
    if found in [_bare(each) for each in wanted]:
        return Verdict(1.0, answer, "the expected text")
    return Verdict(0.0, answer, f"expected `{wanted[0][:80]}`")


def find_names(response: str, candidates: Collection[str]) -> tuple[str, ...]:
    """Return the candidates that the response names as whole words, in order, each once.

    Of overlapping names the longest counts (`New Guinea` is no `Guinea`); a denied one (`not Lima`)
    does not.
    """
    by_form = {normalised(candidate): candidate for candidate in candidates}
    if not by_form or "" in by_form:
        raise ValueError("candidates must be names, at least one")
    longest_first = sorted(by_form, key=len, reverse=True)
    pattern = rf"\b(not )?({'|'.join(map(re.escape, longest_first))})\b"
    found = re.findall(pattern, normalised(response))
    return tuple(dict.fromkeys(by_form[form] for denied, form in found if not denied))


def _bare(words: str) -> str:
    """Return the words in lower case, one space between them, without quotes and marks around."""
    import unicodedata

    folded = unicodedata.normalize("NFKC", _stream_safe(words)).casefold()
    plain = " ".join(folded.split())
    return plain.strip(_AROUND).rstrip(_MARKS).strip(_AROUND) or plain


def _whole(form: str) -> str:
    """Return a pattern for a normalised text that begins and ends where words do."""
    before = "" if _is_unspaced(form[0]) else r"(?<!\w)"
    after = "" if _is_unspaced(form[-1]) else r"(?!\w)"
    return f"{before}{re.escape(form)}{after}"


def _is_unspaced(letter: str) -> bool:
    """Whether a letter is of a script that is written without spaces between words."""
    import unicodedata

    if letter.isascii():
        return False
    return unicodedata.name(letter, "").split(" ")[0] in _UNSPACED
