"""Counts sentences as IFEval's published check does, without NLTK's models.

It uses NLTK's `punkt` for English (Kiss and Strunk 2006), which ends a sentence at every `!` and
`?`, and at a period unless the word before it is an abbreviation, an initial or a number; then the
next word decides. `No.` ends a sentence, `Dr.` does not. Its tables of abbreviations and of how
21,000 words are written were learnt from newspapers; here are abbreviations that anybody knows,
and of the next word only its first letter counts and whether it often begins a sentence.
"""

import re
from collections.abc import Iterator
from itertools import pairwise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What may follow the end of a sentence at once, without white space.
_BEHIND = r")\";}\]*:@'({\[?!"
_LAST_END = re.compile(rf".*[.?!](?=[{_BEHIND}])", re.DOTALL)
_CLOSING = re.compile(r"[\"')\]}]+(?:\s+|(?=--)|$)")
# Marks, and words, which may begin with some characters that end one.
_PIECE = re.compile(rf"-{{2,}}|\.{{2,}}|[^(\"`{{\[:;&#*@)}}\]\-,](?:(?!--|\.\.)[^{_BEHIND}])*|\S")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.")
_ABBREVIATIONS = _words(
    "mr mrs ms dr prof st jr sr messrs gen sen rep reps lt adm maj inc ltd co corp bros cos vs "
    "ave jan feb aug sep sept oct nov dec tues wed fri a.m p.m u.s u.k u.n u.s.a u.s.s.r d.c "
    "n.y ph.d m.b.a b.v s.a l.a n.j n.c s.c n.h n.m n.d w.va w.w j.r j.p j.c j.k j.b d.w j.j "
    "j.f t.j a.h a.c a.s a.t c.v e.l m.j r.j r.k w.c w.r g.k yr mg ala ariz calif colo conn "
    "fla ga ill kan ky mich minn ok okla ore pa tenn va vt wash wis"
)
# The letters that stand for names, as in `George K. Smith`, and not for points of a list.
_INITIALS = "cdefghklmnprstvw"
# `2. Review` is no end of a sentence.
_AFTER_NUMBERS = _words("business credit financing insider international letters review who")
_STARTERS = _words(
    "according although among both but despite even he however i if in indeed instead it many "
    "meanwhile moreover most nevertheless nonetheless nor please question separately similarly "
    "since so some the there these they this though thus under when while yet your"
)
# Where NLTK's word tokenizer cuts, but for a period at a sentence's end, which has no case.
_BETWEEN = re.compile(
    r"[\s\"\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb`;@#$%&?!*\[\](){}<>]+|--|\.{2,}|[:,](?!\d)"
)
_CLITIC = re.compile(
    r"(?<=.)('[sSmMdD]|'ll|'LL|'re|'RE|'ve|'VE|n't|N'T)$"
    r"|(?<=^CAN)(NOT)$|(?<=^GIM)(ME)$|(?<=^GON)(NA)$|(?<=^GOT)(TA)$|(?<=^LEM)(ME)$|(?<=^WAN)(NA)$"
)


def count_sentences(text: str) -> int:
    """Return the number of sentences; `3. Wait!` is two, as a number with a period ends one."""
    count = start = 0
    stripped = text.rstrip()
    for end, following in _ends(stripped):
        count += end > start
        start = following
        if closing := _CLOSING.match(stripped, start):
            start = closing.end()
    return count + (start < len(stripped))


def count_words_in_capitals(text: str) -> int:
    """Return how many words have capitals and no small letters; `DON'T` is two, `DO` and `N'T`."""
    count = 0
    for word in _BETWEEN.split(text):
        clitic = _CLITIC.search(word)
        parts = (word[: clitic.start()], clitic.group()) if clitic else (word,)
        count += sum(part.isupper() for part in parts)
    return count


def _ends(text: str) -> Iterator[tuple[int, int]]:
    """Yield where sentences end and where the next ones begin; at most one end a word."""
    words = list(re.finditer(r"\S+", text))
    for word, after in pairwise(words):
        said = word.group()
        if said[-1] in ".?!":
            if _has_end(said, after.group()):
                yield word.end(), after.start()
        elif (last := _LAST_END.match(said)) and _has_end(last.group(), said[last.end()]):
            yield word.start() + last.end(), word.start() + last.end()
    if words and (last := _LAST_END.match(words[-1].group())):
        end, said = last.end(), words[-1].group()
        if _has_end(said[:end], said[end]):
            yield words[-1].start() + end, words[-1].start() + end


def _has_end(word: str, after: str) -> bool:
    """Whether a word that ends with a mark ends a sentence, seen from what stands behind it."""
    pieces = [*_pieces(word), *_pieces(after)[:1]]
    return any(_is_end(pieces[i], pieces[i + 1]) for i in range(len(pieces) - 1))


def _pieces(word: str) -> list[str]:
    """Return the words and marks of which a word is made."""
    return [piece.rstrip(",") or piece for piece in _PIECE.findall(word)]


def _is_end(piece: str, after: str) -> bool:
    """Whether a piece of a word ends a sentence, where `after` comes next."""
    if piece in ("?", "!", "."):
        return True
    if not piece.endswith("."):
        return False
    next_word, stem = after.lower().rstrip("."), piece[:-1].lower()
    if len(piece) == 2 and piece[0].isalpha():
        is_name = stem in _INITIALS or (len(after) == 2 and after[1] == ".")
        return not is_name and not after[0].islower()
    is_abbreviated = stem in _ABBREVIATIONS or stem.rpartition("-")[2] in _ABBREVIATIONS
    if is_abbreviated or piece.startswith(".."):
        return after[0].isupper() and next_word in _STARTERS
    if not _NUMBER.fullmatch(piece):
        return True
    return not (after[0].islower() or after[0] in ";:,.!?" or next_word in _AFTER_NUMBERS)
