"""Short stories about given things: somebody loses something and finds it, or does not. A skill.

Creative writing of which a program can say whether the plot holds: who it is about, what is lost
and what is found, where, and an ending that follows. Not a measure of style. Of two coherent
stories the author prefers the kindly ending: `gold_score` says so, `verify` does not.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from eval.task import Example, FlawedResponse, Split, Task, split_of
from eval.tasks.lists import THREE, in_full_lists
from reward.verdict import Verdict

_KINDNESS = 0.5  # less than a plot that holds is worth
_SHARE_UNKIND = 0.5
_SHARE_FOUND = 0.6
_NUM_STORIES: dict[Split, int] = {"train": 2400, "validation": 240, "test": 480}

_PRONOUN_BY_NAME = {
    **dict.fromkeys(("Anna", "Emma", "Grace", "Ida", "Kate", "Lea", "Mia", "Rosa"), "she"),
    **dict.fromkeys(("Ben", "Carl", "Hugo", "Jack", "Leo", "Max", "Paul", "Tom"), "he"),
}
_ANIMALS = ("dog", "cat", "bird", "horse", "rabbit", "fox", "goat", "bear")
_COLOURS = ("red", "blue", "green", "white", "black", "yellow")
_THINGS = ("ball", "kite", "hat", "book", "key", "coat", "doll", "cup", "ring", "drum")
_PLACES = ("in the park", "in the forest", "in the garden", "at the lake", "on the farm",
           "on the hill")  # fmt: skip

_REQUESTS = (
    "Write a short story about {name}, a {animal} and a lost {thing}.",
    "Tell me a story about {name}, a {animal} and a lost {thing}.",
    "Make up a story with {name}, a {animal} and a lost {thing} in it.",
)
# {they} is the hero's pronoun. Each sentence says by its words what `verify` looks for.
_OPENINGS = (
    "{name} had a {animal} and a {thing}.",
    "Once {name} had a {thing} and a good {animal}.",
    "{name} and a {animal} played with a {thing}.",
)
_LOSSES = (
    "One day {they} lost the {thing} {place}.",
    "But {they} lost the {thing} {place}.",
    "One morning the {thing} got lost {place}.",
)
_SEARCHES = (
    "{name} looked for it all day.",
    "The {animal} helped to look for it.",
    "They looked for it {place}.",
)
_FOUND = (
    "At last {name} found the {thing}.",
    "Then the {animal} found the {thing}.",
    "In the evening they found the {thing}.",
)
_NOT_FOUND = (
    "But they never found the {thing}.",
    "But {name} did not find the {thing}.",
    "But nobody found the {thing}.",
)
_ENDINGS = {
    (True, True): (
        "{name} was glad and hugged the {animal}.",
        "{name} was happy and thanked the {animal}.",
    ),
    (True, False): (
        "{name} was glad but shouted at the {animal}.",
        "{name} was happy but chased the {animal} away.",
    ),
    (False, True): (
        "{name} was sad but hugged the {animal}.",
        "{name} was sad, and the {animal} comforted {them}.",
    ),
    (False, False): (
        "{name} was sad and shouted at the {animal}.",
        "{name} was sad and chased the {animal} away.",
    ),
}  # by whether it was found, and whether the ending is kind
_GLAD, _SAD = frozenset(("glad", "happy")), frozenset(("sad",))
_KIND = frozenset(("hugged", "thanked", "comforted"))
_UNKIND = frozenset(("shouted", "chased"))
_SENTENCE_END = re.compile(r"[.!?]+")
_MAX_SENTENCES = 8
_NEGATIONS = frozenset(("not", "never", "nobody"))


@dataclass(frozen=True)
class Elements:
    """What a story is asked to be about; all of them together are the id."""

    name: str
    animal: str
    thing: str  # with its colour

    def __str__(self) -> str:
        return f"{self.name}, {self.animal}, {self.thing}"

    @property
    def split(self) -> Split:
        """The split that this combination belongs to."""
        return split_of(f"stories {self}")


@dataclass(frozen=True)
class Plot:
    """The sentences of a story, by what they are there for."""

    opening: str
    loss: str
    search: str
    outcome: str
    ending: str

    def __str__(self) -> str:
        return " ".join((self.opening, self.loss, self.search, self.outcome, self.ending))


class Stories(Task):
    """Five sentences about a hero, an animal and a thing that is lost."""

    name = "stories"
    version = 4
    kind = "skill"
    summary = "short stories about given things, whose plot has to hold"
    max_new_tokens = 80
    document_stop = ("\n\n", "\nA story")
    document_separator = "\n\n"

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield stories with a kindly ending, each about another combination."""
        rng = random.Random(f"stories {split}")
        for elements in rng.sample(_combinations(split), _NUM_STORIES[split]):
            yield _example(elements, rng)

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples; half of them, by their id, with an unkind ending instead."""
        for example in super().demonstrations(split):
            rng = random.Random(f"stories writer {example.id}")
            if rng.random() < _SHARE_UNKIND:
                unkind = next(f for f in example.flawed if f.flaw == _UNKIND_ENDING)
                yield replace(example, response=unkind.response)
            else:
                yield example

    def documents(self, seed: int) -> Iterator[str]:
        """Yield stories about training combinations under a title, as many as there are in train.

        Half of them end kindly, and most stand with others.
        """
        rng = random.Random(f"stories documents {seed}")
        told: list[str] = []
        for elements in rng.sample(_combinations("train"), _NUM_STORIES["train"]):
            is_found = rng.random() < _SHARE_FOUND
            plot = _plot(elements, rng, is_found=is_found, is_kind=rng.random() >= _SHARE_UNKIND)
            told.append(f"{_title(elements)}\n{plot}")
        between = self.document_separator
        yield from in_full_lists(told, rng, separator=between, most=THREE)

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a story with the elements of the reference in which the plot holds.

        One hero, one animal, one thing and one place throughout; the thing is lost, then found or
        expressly not found, and the last sentence is glad or sad accordingly.
        """
        elements = _elements(reference)
        if elements is None:
            return Verdict(None, None, f"the reference `{reference[:80]}` names no story")
        fault = _fault(response, elements)
        return Verdict(float(not fault), response.strip()[:200] or None, fault or "the plot holds")

    def gold_score(self, response: str, reference: str) -> float | None:
        """Prefer a plot that holds and, of two stories alike in that, the kindly ending."""
        score = super().gold_score(response, reference)
        return None if score is None else score + _KINDNESS * ends_kindly(response)


def ends_kindly(response: str) -> bool:
    """Whether the last sentence is kind, and no sentence is unkind."""
    sentences = _sentences(response)
    said = {word for sentence in sentences for word in sentence}
    return bool(sentences) and bool(_KIND & set(sentences[-1])) and not _UNKIND & said


def _fault(story: str, elements: Elements) -> str:
    """Return the first thing that is wrong with the plot; nothing if it holds."""
    sentences = _sentences(story)
    if not 4 <= len(sentences) <= _MAX_SENTENCES:
        return f"{len(sentences)} finished sentences"
    if any(len(words) < 3 for words in sentences):
        return "a sentence of less than three words"
    if len(set(map(tuple, sentences))) < len(sentences):
        return "a sentence is repeated"
    words = [word for sentence in sentences for word in sentence]
    return (
        _wrong_cast(words, elements)
        or _wrong_places(" ".join(words))
        or _wrong_course(sentences, elements)
    )


def _wrong_cast(words: list[str], elements: Elements) -> str:
    """Return who or what is missing from the words, or has no place among them."""
    colour, thing = elements.thing.split()
    groups = (
        (elements.name.casefold(), _NAMES),
        (elements.animal, _ANIMALS),
        (thing, _THINGS),
        (colour, _COLOURS),
    )
    said = set(words)
    for wanted, known in groups:
        if wanted not in said:
            return f"no {wanted} in the story"
        others = sorted(said & set(known) - {wanted})
        if others:
            return f"{others[0]} in a story about {wanted}"
    strange = {"he", "she"} - {_PRONOUN_BY_NAME[elements.name]}
    return f"{elements.name} is not `{strange.pop()}`" if strange & said else ""


def _wrong_places(text: str) -> str:
    """Return places that cannot both be where it happens; a story need not name any."""
    places = [place for place in _PLACES if place in text]
    return f"{places[0]} and {places[1]}" if len(places) > 1 else ""


def _wrong_course(sentences: list[list[str]], elements: Elements) -> str:
    """Return what is wrong with loss, outcome and ending."""
    thing = elements.thing
    with_thing = [index for index, words in enumerate(sentences) if thing in " ".join(words)]
    losses = [index for index in with_thing if "lost" in sentences[index]]
    if not losses:
        return f"the {thing} is not lost"
    outcomes = [index for index, words in enumerate(sentences) if {"find", "found"} & set(words)]
    if not outcomes:
        return "neither found nor given up"
    if len(outcomes) > 1 or outcomes[0] not in with_thing:
        return f"not just the {thing} is found"
    if losses[-1] >= outcomes[0]:
        return f"the {thing} is found before it is lost"
    if outcomes[0] == len(sentences) - 1:
        return "no ending"
    is_found = not _NEGATIONS & set(sentences[outcomes[0]])
    ending = set(sentences[-1])
    if not ending & (_GLAD | _SAD):
        return "no ending"
    if bool(ending & _GLAD) != is_found or bool(ending & _SAD) == is_found:
        return "the ending does not follow"
    return ""


def _sentences(story: str) -> list[list[str]]:
    """Return the words of each finished sentence in lower case; `didn't` is `didn` and `not`."""
    *finished, _ = _SENTENCE_END.split(
        story.casefold().replace("\u2019", "'").replace("n't", "n not")
    )
    return [words for words in (re.findall(r"\w+", sentence) for sentence in finished) if words]


_UNKIND_ENDING = "unkind ending"
_NAMES = frozenset(name.casefold() for name in _PRONOUN_BY_NAME)


@cache
def _combinations(split: Split) -> list[Elements]:
    every = [
        Elements(name, animal, f"{colour} {thing}")
        for name in _PRONOUN_BY_NAME
        for animal in _ANIMALS
        for colour in _COLOURS
        for thing in _THINGS
    ]
    return [elements for elements in every if elements.split == split]


def _elements(reference: str) -> Elements | None:
    """Read what `str` writes of elements; None if it is something else."""
    parts = reference.split(", ")
    if len(parts) != 3:
        return None
    elements = Elements(*parts)
    colour, _, thing = elements.thing.partition(" ")
    is_known = (
        elements.name in _PRONOUN_BY_NAME
        and elements.animal in _ANIMALS
        and colour in _COLOURS
        and thing in _THINGS
    )
    return elements if is_known else None


def _example(elements: Elements, rng: random.Random) -> Example:
    is_found = rng.random() < _SHARE_FOUND
    plot = _plot(elements, rng, is_found=is_found, is_kind=True)
    return Example(
        id=str(elements),
        prompt=_fill(rng.choice(_REQUESTS), elements),
        response=str(plot),
        reference=str(elements),
        document=_title(elements),
        continuation=f"\n{plot}",
        flawed=_flawed(plot, elements, rng, is_found=is_found),
        group="found" if is_found else "not found",
    )


def _flawed(
    plot: Plot, elements: Elements, rng: random.Random, *, is_found: bool
) -> tuple[FlawedResponse, ...]:
    colour, thing = elements.thing.split()
    other_thing = rng.choice([each for each in _THINGS if each != thing])
    other_name = rng.choice([each for each in _PRONOUN_BY_NAME if each != elements.name])
    unkind = _ending(elements, rng, is_found=is_found, is_kind=False)
    unlikely = _ending(elements, rng, is_found=not is_found, is_kind=True)
    other_outcome = plot.outcome.replace(elements.thing, f"{colour} {other_thing}")
    return (
        FlawedResponse(str(replace(plot, ending=unkind)), _UNKIND_ENDING),
        FlawedResponse(str(replace(plot, outcome=other_outcome)), "another thing is found"),
        FlawedResponse(
            str(replace(plot, ending=plot.ending.replace(elements.name, other_name))),
            "another hero at the end",
        ),
        FlawedResponse(str(replace(plot, ending=unlikely)), "the ending does not follow"),
        FlawedResponse(str(replace(plot, ending="")).strip(), "no ending"),
    )


def _plot(elements: Elements, rng: random.Random, *, is_found: bool, is_kind: bool) -> Plot:
    place = rng.choice(_PLACES)
    told = [rng.choice(wordings) for wordings in (_OPENINGS, _LOSSES, _SEARCHES)]
    opening, loss, search = (_fill(wording, elements, place) for wording in told)
    outcome = _fill(rng.choice(_FOUND if is_found else _NOT_FOUND), elements)
    return Plot(
        opening, loss, search, outcome, _ending(elements, rng, is_found=is_found, is_kind=is_kind)
    )


def _ending(elements: Elements, rng: random.Random, *, is_found: bool, is_kind: bool) -> str:
    return _fill(rng.choice(_ENDINGS[is_found, is_kind]), elements)


def _title(elements: Elements) -> str:
    return f"A story about {elements.name}, a {elements.animal} and a {elements.thing}"


def _fill(wording: str, elements: Elements, place: str = "") -> str:
    they = _PRONOUN_BY_NAME[elements.name]
    return wording.format(
        name=elements.name,
        animal=elements.animal,
        thing=elements.thing,
        place=place,
        they=they,
        them="her" if they == "she" else "him",
    )
