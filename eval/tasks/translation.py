"""French for English words and phrases. A knowledge task.

Every pair, of the test too, is stated in documents in several phrasings; a pair of the test occurs
in no demonstration. Not a test of translating sentences: each answer is looked up, not composed.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import ClassVar

from eval.task import Example, FlawedResponse, Metric, Split, Task, split_of
from eval.tasks.lists import in_lists_of_several
from eval.tasks.translation_words import ENTRIES, Entry
from reward.verdict import Verdict
from reward.verifiers.text import leading_sentence, normalised

# {e} is the English side, {f} the French one, {w} `word` or `phrase`. No question is in a document.
_QUESTIONS = (
    "How do you say {e} in French?",
    "Translate {e} into French.",
    "What is the French {w} for {e}?",
    "What is {e} in French?",
)
# The first is the commonest: a base model is asked to continue it, and a good answer uses it.
_STATEMENT = "The French {w} for {e} is {f}."
_SENTENCES = (
    _STATEMENT,
    "In French, {e} is {f}.",
    "{f} means {e}.",
    "{f} is the French {w} for {e}.",
)
_HEADINGS = ("{e} in French", "French for {e}")
# They ask in other words than a chat user does: who has read only headings does not find what is
# asked about in a question.
_ASKING = (
    "Does anyone know the French {w} for {e}?",
    "Who can say {e} in French?",
    "Tell me how to say {e} in French",
    "Can you translate {e} into French?",
    "Asked today: {e}, in French?",
)
_DICTIONARY_LINES = ("{e}: {f}", "{e} = {f}")
_NUM_LISTS = 4  # of a pass, in which each pair stands
_FEWEST_PAIRS = 60
# After the last of these in a sentence comes the French; without one the sentence is French.
_LEAD = re.compile(r"\bis\b|\bsay\b|[:=]")


class Translation(Task):
    """Single words and short phrases from English into French, accents included.

    pairs: how many of the table's are spoken of, evenly from all its categories.
    """

    name = "translation"
    version = 8
    kind = "knowledge"
    summary = "English words and phrases in French"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 32
    document_stop = ("\n", ".")

    def __init__(self, pairs: int = len(ENTRIES)) -> None:
        if not _FEWEST_PAIRS <= pairs <= len(ENTRIES):
            raise ValueError(f"pairs is {_FEWEST_PAIRS} to {len(ENTRIES)}, not {pairs}")
        # Rounded so that the table is walked through in even strides.
        numbers = {number * len(ENTRIES) // pairs for number in range(pairs)}
        self.entries = tuple(ENTRIES[number] for number in sorted(numbers))

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield each pair once for each question in train, else once."""
        asked: list[Example] = []
        own = [entry for entry in self.entries if entry_split(entry) == split]
        for entry in own:
            rng = random.Random(f"translation example {entry.english}")
            questions = _QUESTIONS if split == "train" else (rng.choice(_QUESTIONS),)
            example = _example(entry, own, rng)
            asked += [replace(example, prompt=_fill(each, entry)) for each in questions]
        random.Random(f"translation {split}").shuffle(asked)
        yield from asked

    def documents(self, seed: int) -> Iterator[str]:
        """Yield every pair alone, under titles, in lists, paragraphs and dictionaries."""
        rng = random.Random(f"translation documents {seed}")
        texts: list[str] = []
        entries = self.entries
        for entry in entries:
            texts += _articles(entry, rng)
        for sentence in (_STATEMENT, *_SENTENCES):
            texts += [" ".join(group) for group in _groups(sentence, entries, rng)]
        lines = [_fill(_STATEMENT, entry).removesuffix(".") for entry in entries]
        texts += [text for _ in range(_NUM_LISTS) for text in in_lists_of_several(lines, rng)]
        for line in _DICTIONARY_LINES:
            texts += ["\n".join(group) for group in _by_category(line, entries, rng)]
        rng.shuffle(texts)
        yield from texts

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept exactly the French word, or a listed synonym, alone or at the end of a sentence.

        Case, punctuation and the form of apostrophes do not matter; accents do.
        """
        accepted = _ACCEPTED.get(reference)
        if accepted is None:
            return Verdict(None, None, f"`{reference[:80]}` is no French word of the table")
        answer = _LEAD.split(leading_sentence(response))[-1].strip()
        found = _words(answer)
        if not found:
            return Verdict(0.0, None, "no answer in the response")
        if found in accepted:
            return Verdict(1.0, answer, "the expected French")
        return Verdict(0.0, answer, f"expected {reference}")


def _words(text: str) -> str:
    """Return the words as `verify` compares them: `S'il vous plaît!` is `s il vous plaît`."""
    return normalised(text)


_ACCEPTED: dict[str, frozenset[str]] = {
    entry.french: frozenset(map(_words, (entry.french, *entry.synonyms))) for entry in ENTRIES
}


@cache
def entry_split(entry: Entry) -> Split:
    """Return the split of a pair; two thirds are for the test: what counts is what was read."""
    return split_of(f"translation {entry.english}", validation=0.06, test=0.66)


def _example(entry: Entry, own: Sequence[Entry], rng: random.Random) -> Example:
    """Return the pair's example, still without a question; own: all pairs of its split."""
    statement = _fill(_STATEMENT, entry)
    return Example(
        id=entry.english,
        prompt="",
        response=statement,
        reference=entry.french,
        document=statement.removesuffix(f" {entry.french}."),
        continuation=f" {entry.french}",
        distractors=tuple(f" {wrong.french}" for wrong in _wrong_entries(entry, own, rng)),
        flawed=_flawed(entry, own, rng),
        group=entry.category,
    )


def _wrong_entries(entry: Entry, own: Sequence[Entry], rng: random.Random) -> list[Entry]:
    """Return three pairs of the same split whose French is wrong, of the category if it has them.

    None begins with another or with the right one: the longer could never be the likelier.
    """
    same = [other for other in own if other.category == entry.category]
    others = [other for other in own if other.category != entry.category]
    chosen = [entry]
    for rival in (*rng.sample(same, len(same)), *rng.sample(others, 9)):
        is_alike = any(
            rival.french.startswith(other.french) or other.french.startswith(rival.french)
            for other in chosen
        )
        if not is_alike and _words(rival.french) not in _ACCEPTED[entry.french]:
            chosen.append(rival)
        if len(chosen) == 4:
            break
    return chosen[1:]


def _flawed(entry: Entry, own: Sequence[Entry], rng: random.Random) -> tuple[FlawedResponse, ...]:
    wrong, other, _ = _wrong_entries(entry, own, rng)
    return (
        FlawedResponse(_statement(entry, wrong.french), "another word of the same kind"),
        FlawedResponse(_fill(_STATEMENT, other), "translates another word"),
        FlawedResponse(_statement(entry, entry.english), "left in English"),
        FlawedResponse(f"I do not know how to say {entry.english}.", "no answer"),
    )


def _statement(entry: Entry, french: str) -> str:
    return _fill(_STATEMENT, Entry(entry.category, entry.english, french))


def _fill(wording: str, entry: Entry) -> str:
    kind = "phrase" if entry.category == "phrases" else "word"
    return wording.format(e=entry.english, f=entry.french, w=kind)


def _articles(entry: Entry, rng: random.Random) -> list[str]:
    """Return three texts that say of one pair, under a title, what their titles ask.

    A model learns from them to take up what a text is about, as an answer does.
    """
    others = rng.sample(_SENTENCES[1:], 2)
    told = ([_STATEMENT, *others], [_STATEMENT], [_STATEMENT])
    titles = (rng.choice(_HEADINGS), *rng.sample(_ASKING, 2))
    return [
        f"{_capitalised(_fill(title, entry))}\n{_paragraph(sentences, entry)}"
        for title, sentences in zip(titles, told, strict=True)
    ]


def _paragraph(sentences: Sequence[str], entry: Entry) -> str:
    return " ".join(_capitalised(_fill(sentence, entry)) for sentence in sentences)


def _groups(line: str, entries: Sequence[Entry], rng: random.Random) -> list[list[str]]:
    """Return the line for every pair, shuffled, in groups of three to six."""
    lines = [_capitalised(_fill(line, entry)) for entry in entries]
    rng.shuffle(lines)
    groups: list[list[str]] = []
    while lines:
        size = rng.randint(3, 6)
        groups.append(lines[:size])
        lines = lines[size:]
    return groups


def _by_category(line: str, entries: Sequence[Entry], rng: random.Random) -> list[list[str]]:
    """Return the line for every pair, up to eight of one category under a title."""
    groups: list[list[str]] = []
    for category in dict.fromkeys(entry.category for entry in entries):
        lines = [_fill(line, entry) for entry in entries if entry.category == category]
        rng.shuffle(lines)
        title = f"English and French: {category}"
        groups += [[title, *lines[start : start + 8]] for start in range(0, len(lines), 8)]
    return groups


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
