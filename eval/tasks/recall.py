"""Remembering what a text said: whose code word was which, some sentences later. A skill task.

A passage states a person's code word, goes on about other things and other people's code words, and
is then asked. Accuracy against the distance between statement and question shows how far a model
looks back, where a model of n-grams sees nothing but the last words of the question. Every sentence
of a passage has seven words and a full stop, eight tokens: a distance is a count. Not a test of
knowledge: no code word can be known beforehand.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from eval.task import Example, FlawedResponse, Metric, Split, Task, split_of
from reward.verdict import Verdict
from reward.verifiers.text import find_names, leading_sentence

_SENTENCE_TOKENS = 8
_DISTANCES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_MAX_RIVALS = 3
_PASSAGES = 3  # about each pair, so that a distance has a hundred test items
_SHARE_LEAD = 0.5
_SHARE_STATED = 0.5
_SHARE_FAR = 0.5  # of documents: the dense ones teach what to look for, these how far
_SENTENCES_BETWEEN = (2, 8)  # of a document; more of them for distances beyond
_NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jack", "Kate",
    "Leo", "Mia", "Nick", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wendy", "Zoe",
    "Alice", "Bruno", "Carl", "Dora", "Eric", "Flora", "Greta", "Hugo", "Lena", "Oscar", "Peter",
    "Ruth", "Simon", "Vera",
)  # fmt: skip
_WORDS = (
    "moon", "star", "sand", "gold", "iron", "milk", "rice", "salt", "honey", "lemon", "olive",
    "cherry", "tiger", "zebra", "camel", "eagle", "whale", "shark", "snake", "spider", "hammer",
    "needle", "candle", "mirror", "pillow", "basket", "bottle", "button", "ribbon", "feather",
    "guitar", "piano", "violin", "trumpet", "rocket", "engine", "anchor", "bridge", "castle",
    "tower", "palace", "temple", "desert", "island", "valley", "jungle", "winter", "summer",
    "thunder", "shadow", "copper", "silver", "velvet", "cotton", "pepper", "ginger", "carrot",
    "tomato", "potato", "pumpkin", "walnut", "almond", "saddle", "ladder",
)  # fmt: skip
# Seven words and a full stop; no name and no code word.
_FILLERS = (
    "The sky is blue over the hills.",
    "A small dog sleeps by the door.",
    "The old clock stands on the shelf.",
    "Some birds sing early in the morning.",
    "The train to the city is late.",
    "There is fresh bread on the table.",
    "The river runs slowly to the sea.",
    "A red car stops at the corner.",
    "The children play ball in the garden.",
    "It rains a little in the evening.",
    "The shop on the square sells apples.",
    "A cold wind comes from the north.",
    "The teacher writes slowly on the board.",
    "Two cats sit on the garden wall.",
    "The bus waits at the next stop.",
    "The book lies under the old chair.",
    "A farmer walks home from the field.",
    "The lamp in the kitchen is bright.",
    "The boat lies quietly in the harbour.",
    "Many people walk along the wide street.",
)
_QUESTIONS = (
    "What is the code word of {name}?",
    "Tell me the code word of {name}.",
    "Which code word does {name} have?",
)


@dataclass(frozen=True)
class Fact:
    """That a person has a code word: what no text of another split may state."""

    name: str
    word: str

    def __str__(self) -> str:
        return f"The code word of {self.name} is {self.word}."

    @property
    def split(self) -> Split:
        """The split that the pair of name and code word belongs to."""
        return split_of(f"recall {self.name} {self.word}")


@dataclass(frozen=True)
class Passage:
    """A text with a fact, and the code words of other people that it also states."""

    text: str
    fact: Fact
    rivals: tuple[Fact, ...]


class Recall(Task):
    """The code word of a person, stated up to `max_distance` tokens before the question.

    max_distance: a document states its fact again after as much at most: what a model has seen no
        nearer, it does not find farther off.
    rivals: how many other people's code words the passage states, before the fact and after it. A
        model of 1M parameters finds an only code word after 0.5M tokens of documents; after 1.1M it
        still took the nearest of two.
    """

    name = "recall"
    version = 4
    kind = "skill"
    summary = "a person's code word, stated some sentences before the question"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 16
    document_stop = ("\n", ".")
    group_unit = "tokens between statement and question"

    def __init__(self, max_distance: int = 64, rivals: int = 0) -> None:
        if max_distance not in _DISTANCES:
            raise ValueError(
                f"max_distance is one of {', '.join(map(str, _DISTANCES))}, not {max_distance}"
            )
        if not 0 <= rivals <= _MAX_RIVALS:
            raise ValueError(f"rivals is 0 to {_MAX_RIVALS}, not {rivals}")
        self.distances = tuple(each for each in _DISTANCES if each <= max_distance)
        self.rivals = rivals

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield each pair of name and code word at three distances; these take turns."""
        rng = random.Random(f"recall {split}")
        facts = _facts(split)
        rng.shuffle(facts)
        # No pair meets a distance twice: of few, it meets each.
        step = max(1, len(self.distances) // _PASSAGES)
        for turn in range(min(_PASSAGES, len(self.distances))):
            for index, fact in enumerate(facts):
                distance = self.distances[(index + turn * step) % len(self.distances)]
                yield _example(self._passage(fact, distance, rng), distance, rng)

    def documents(self, seed: int) -> Iterator[str]:
        """Yield each training fact in a text that states it, and those of others, again and again.

        What is said again could have been known: that is what teaches a model to look back.
        """
        rng = random.Random(f"recall documents {seed}")
        facts = _facts("train")
        rng.shuffle(facts)
        for fact in facts:
            yield self._repetitive(fact, rng)

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a first sentence that names the code word and no other one."""
        if reference not in _WORDS:
            return Verdict(None, None, f"the reference `{reference[:80]}` is no code word")
        found = find_names(leading_sentence(response), _WORDS)
        if not found:
            return Verdict(0.0, None, "no code word in the response")
        answer = ", ".join(found)
        if found == (reference,):
            return Verdict(1.0, answer, "the expected code word")
        if reference in found:
            return Verdict(0.0, answer, "more than one code word")
        return Verdict(0.0, answer, f"expected {reference}")

    def _passage(self, fact: Fact, distance: int, rng: random.Random) -> Passage:
        """Return a passage with `distance` tokens after the fact; at most one sentence before it.

        Only the sentence before makes the place of the fact uncertain: more would cost positions.
        """
        num_after = distance // _SENTENCE_TOKENS
        rivals = _rivals(fact, min(self.rivals, num_after + 1), rng)
        after = _fillers(num_after + 1, rng)
        for place, rival in zip(rng.sample(range(num_after + 1), len(rivals)), rivals, strict=True):
            after[place] = str(rival)
        before = after.pop()
        lead = [before] if rng.random() < _SHARE_LEAD or before.startswith("The code word") else []
        return Passage(" ".join([*lead, str(fact), *after]), fact, rivals)

    def _repetitive(self, fact: Fact, rng: random.Random) -> str:
        """Return a text in which a fact, its rivals and other things take turns.

        For distances beyond such a text, every second one states its facts once more far off.
        """
        stated = [fact, *_rivals(fact, self.rivals, rng)]
        most = self.distances[-1] // _SENTENCE_TOKENS
        if most > _SENTENCES_BETWEEN[1] and rng.random() < _SHARE_FAR:
            return self._far_apart(stated, most, rng)
        fillers = iter(_fillers(len(_FILLERS), rng))
        said = [
            str(rng.choice(stated)) if rng.random() < _SHARE_STATED else next(fillers)
            for _ in range(rng.randint(*_SENTENCES_BETWEEN))
        ]
        return " ".join([str(fact), *said, str(fact)])

    def _far_apart(self, stated: list[Fact], most: int, rng: random.Random) -> str:
        """Return a text that states facts and, after up to `most` sentences, states them again.

        How many lie between is uniform in its logarithm: near and far are met equally often.
        """
        between = round((most + 1) ** rng.random()) - 1
        said = [*map(str, stated), *_fillers(between, rng), *map(str, stated)]
        return " ".join(said)


def _shuffled(sentences: tuple[str, ...], rng: random.Random) -> list[str]:
    return rng.sample(sentences, len(sentences))


def _fillers(number: int, rng: random.Random) -> list[str]:
    """Return so many sentences about other things, each again only after all the others."""
    rounds = -(-number // len(_FILLERS))
    return [each for _ in range(rounds) for each in _shuffled(_FILLERS, rng)][:number]


def _facts(split: Split) -> list[Fact]:
    facts = [Fact(name, word) for name in _NAMES for word in _WORDS]
    return [fact for fact in facts if fact.split == split]


def _rivals(fact: Fact, number: int, rng: random.Random) -> tuple[Fact, ...]:
    """Return other people's code words, all different, of the same split."""
    chosen: list[Fact] = []
    names = [name for name in _NAMES if name != fact.name]
    for name in rng.sample(names, number):
        taken = {fact.word, *(other.word for other in chosen)}
        own = [rival for rival in _facts_by_name(fact.split)[name] if rival.word not in taken]
        chosen.append(rng.choice(own))
    return tuple(chosen)


@cache
def _facts_by_name(split: Split) -> dict[str, list[Fact]]:
    facts = _facts(split)
    return {name: [fact for fact in facts if fact.name == name] for name in _NAMES}


def _example(passage: Passage, distance: int, rng: random.Random) -> Example:
    fact = passage.fact
    wrong = _wrong_words(passage, rng)
    return Example(
        id=f"{fact.name} {fact.word} {distance}",
        prompt=f"{passage.text} {rng.choice(_QUESTIONS).format(name=fact.name)}",
        response=str(fact),
        reference=fact.word,
        document=f"{passage.text} {str(fact).removesuffix(f' {fact.word}.')}",
        continuation=f" {fact.word}",
        distractors=tuple(f" {word}" for word in wrong),
        flawed=_flawed(passage, wrong),
        group=str(distance),
    )


def _wrong_words(passage: Passage, rng: random.Random) -> list[str]:
    """Return three wrong code words: those of the other people first."""
    others = [rival.word for rival in passage.rivals]
    candidates = dict.fromkeys([*others, *_shuffled(_WORDS, rng)])
    return [word for word in candidates if word != passage.fact.word][:3]


def _flawed(passage: Passage, wrong: list[str]) -> tuple[FlawedResponse, ...]:
    fact = passage.fact
    flawed = [
        FlawedResponse(str(Fact(fact.name, wrong[0])), "wrong code word"),
        FlawedResponse(f"It is {wrong[1]} or {fact.word}.", "does not decide"),
        FlawedResponse(f"I do not know the code word of {fact.name}.", "no answer"),
    ]
    if passage.rivals:
        flawed.append(FlawedResponse(str(passage.rivals[-1]), "about another person"))
    return tuple(flawed)
