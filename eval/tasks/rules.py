"""Lists about a question that is never put: only a prompt's examples tell it. A knowledge task.

    bem red
    dax iron
    fep blue
    wug

Each thing has a colour, an animal, a metal and so on. A list is about one of these relations, but
two lines in five stray to others, so that one example often misleads, and 16 do not. What a thing
has is known from all lists; what a list is about is not: no list of a test stands in any text.
`held_out` asks in lists about relations that only ever occur as strays. A thing must not be kept
out of the lists about one relation: that it stands in a list then says that this is not it.
After Xie et al. 2022: in-context learning as finding out what a text is about.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from eval.task import Example, FlawedResponse, Split, Task
from reward.verdict import Verdict
from reward.verifiers.text import find_names

RELATIONS = {
    "animal": ("cat", "dog", "fox", "hen"),
    "city": ("bern", "lima", "oslo", "rome"),
    "colour": ("blue", "green", "red", "white"),
    "drink": ("cola", "milk", "tea", "wine"),
    "fruit": ("fig", "lime", "pear", "plum"),
    "metal": ("gold", "iron", "lead", "tin"),
    "month": ("april", "july", "june", "may"),
    "tool": ("axe", "drill", "rake", "saw"),
}
HELD_OUT = ("city", "metal")  # no list of a training text is about these
THINGS = (
    *("bem", "cag", "dax", "dov", "fep", "gaz", "gub", "hib", "jep", "kiv", "lom", "luk"),
    *("mib", "nar", "nol", "pid", "pog", "rak", "sef", "sul", "tov", "vam", "wug", "zet"),
)
WORDS = tuple(word for words in RELATIONS.values() for word in words)
_MOST_SHOWN = 16  # examples before a question
_SHOWN_IN_CHAT = (4, 8)
_NUM_EXAMPLES: dict[Split, int] = {"train": 2_000, "validation": 300, "test": 1_200}
_NUM_DOCUMENTS = 2_500
_SHARE_SHORT = 0.2  # of the documents: up to four lines, the others nine or more


@dataclass(frozen=True)
class Pair:
    """A thing with what it has of a relation."""

    relation: str
    thing: str

    @property
    def word(self) -> str:
        """What the thing has: the same in every text."""
        return _words()[self.relation][self.thing]

    @property
    def plain(self) -> Example:
        """It as an example that others are shown before."""
        return Example(
            id=f"{self.relation} of {self.thing}",
            prompt=f"What is {self.thing.capitalize()}?",
            response=self.word,
            reference=self.word,
            document=self.thing,
            continuation=f" {self.word}",
        )


class Rules(Task):
    """Lists of which a share `strays`; `held_out` asks in lists about two unseen relations."""

    name = "rules"
    version = 3
    kind = "knowledge"
    summary = "what a thing has, where only examples in the prompt tell what is asked for"
    max_new_tokens = 6
    document_stop: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(self, strays: float = 0.4, held_out: bool = False) -> None:
        if not 0 <= strays <= 0.75:
            raise ValueError(f"strays is 0 to 0.75, not {strays}")
        self.strays = strays
        self.held_out = held_out

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield questions with 16 siblings each; every pair as often as the others."""
        rng = random.Random(f"rules {split} {self.strays} {self.held_out}")
        asks_held_out = self.held_out and split == "test"
        relations = _relations(held_out=asks_held_out)
        pairs = [Pair(relation, thing) for relation in relations for thing in THINGS]
        seen: set[str] = set()
        while len(seen) < _NUM_EXAMPLES[split]:
            rng.shuffle(pairs)
            for pair in pairs[: _NUM_EXAMPLES[split] - len(seen)]:
                others = [thing for thing in THINGS if thing != pair.thing]
                things = rng.sample(others, _MOST_SHOWN)
                example = _question(pair, self._stated(pair.relation, things, rng), rng)
                if example.id not in seen:
                    seen.add(example.id)
                    yield example

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of one to 17 things, each about one relation that is not held out."""
        rng = random.Random(f"rules documents {seed}")
        relations = _relations(held_out=False)
        for number in range(_NUM_DOCUMENTS):
            is_short = rng.random() < _SHARE_SHORT
            size = rng.randint(1, 4) if is_short else rng.randint(9, _MOST_SHOWN + 1)
            relation = relations[number % len(relations)]
            pairs = self._stated(relation, rng.sample(THINGS, size), rng)
            yield "\n".join(f"{pair.thing} {pair.word}" for pair in pairs)

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a response that names the word and no other one."""
        if reference not in WORDS:
            return Verdict(None, None, f"`{reference[:80]}` is nothing that a thing has")
        found = find_names(response, WORDS)
        answer = ", ".join(found) or None
        if found == (reference,):
            return Verdict(1.0, answer, "the expected word")
        if not found:
            return Verdict(0.0, None, "no word of a list in the response")
        why = "more than one word" if reference in found else f"expected {reference}"
        return Verdict(0.0, answer, why)

    def _stated(self, relation: str, things: Sequence[str], rng: random.Random) -> list[Pair]:
        """Return what a list about a relation states of things: some lines stray to another one."""
        others = [each for each in RELATIONS if each != relation]
        return [
            Pair(rng.choice(others) if rng.random() < self.strays else relation, thing)
            for thing in things
        ]


def _relations(*, held_out: bool) -> list[str]:
    return [relation for relation in RELATIONS if (relation in HELD_OUT) == held_out]


@cache
def _words() -> dict[str, dict[str, str]]:
    """Return what each thing has, by relation: every word as often as the others."""
    words: dict[str, dict[str, str]] = {}
    for relation, known in RELATIONS.items():
        things = random.Random(f"rules words {relation}").sample(THINGS, len(THINGS))
        words[relation] = {thing: known[place % len(known)] for place, thing in enumerate(things)}
    return words


def _question(pair: Pair, shown: Sequence[Pair], rng: random.Random) -> Example:
    # In a chat things are names with a capital: there no question is the beginning of a document.
    told = ", ".join(
        f"{each.thing.capitalize()} is {each.word}" for each in shown[: rng.choice(_SHOWN_IN_CHAT)]
    )
    plain = pair.plain
    others = [word for word in RELATIONS[pair.relation] if word != pair.word]
    elsewhere = Pair(rng.choice([each for each in RELATIONS if each != pair.relation]), pair.thing)
    return Example(
        id=f"{plain.id} after {', '.join(each.plain.id for each in shown)}",
        prompt=f"If {told}, what is {pair.thing.capitalize()}?",
        response=plain.response,
        reference=plain.reference,
        document=plain.document,
        continuation=plain.continuation,
        flawed=(
            FlawedResponse(rng.choice(others), "another word of the relation"),
            FlawedResponse(elsewhere.word, "of another relation"),
        ),
        siblings=tuple(each.plain for each in shown),
    )
