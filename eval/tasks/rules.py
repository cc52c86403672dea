"""Things and colours under a rule that only shown examples tell: in-context learning. Knowledge.

    bem: red
    dax: blue
    wug:

A thing has four kinds, one of each property, and a rule colours the three kinds of one property.
No text says which property counts, what is of which kind, or which colour a kind has: a list of
things with their colours does, the more of them the better, since one pair leaves several rules
possible. Things are known from the lists of other rules; no test pair of rule and thing is in any
training text. `held_out` asks under rules that none of them follows. After Xie et al. 2022 and
Raventos et al. 2023: what is recognised in a prompt, and what is learnt from it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import ClassVar

from eval.task import Example, FlawedResponse, Split, Task
from reward.verdict import Verdict
from reward.verifiers.text import find_names

COLOURS = ("red", "green", "blue")
THINGS = (
    *("bem", "cag", "dax", "dov", "fep", "gaz", "gub", "hib", "jep", "kiv", "lom", "luk"),
    *("mib", "nar", "nol", "pid", "pog", "rak", "sef", "sul", "tov", "vam", "wug", "zet"),
)
_NUM_PROPERTIES = 4
_NUM_HELD_OUT = 5  # of the 24 rules
_NUM_TESTED = 4  # things under each of the others that no text shows under it
_MOST_SHOWN = 16  # examples before a question
_NUM_EXAMPLES: dict[Split, int] = {"train": 2_000, "validation": 300, "test": 1_200}
_NUM_DOCUMENTS = 2_500
_SHARE_SHORT = 0.3  # of the documents: up to four lines, and one in four of them a single one
_FEWEST_IN_CHAT = 2


@dataclass(frozen=True)
class Rule:
    """Which property counts, and the colours of its three kinds."""

    number: int  # of the property
    colours: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number} {' '.join(self.colours)}"

    def colour(self, thing: str) -> str:
        """Return the colour that it gives a thing."""
        return self.colours[_kinds()[self.number][thing]]

    def things(self, split: Split) -> list[str]:
        """Return the things of a split; all are of the test under a rule that is held out."""
        return [thing for thing in THINGS if _pair_split(self, thing) == split]


class Rules(Task):
    """Lists under 19 of 24 rules; `held_out` asks under the other five."""

    name = "rules"
    version = 1
    kind = "knowledge"
    summary = "colours of things under a rule that only examples in the prompt tell"
    max_new_tokens = 6
    document_stop: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(self, held_out: bool = False) -> None:
        self.held_out = held_out

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield questions with 16 siblings each, every pair of the split as often as the others."""
        rng = random.Random(f"rules {split} {self.held_out}")
        is_held_out = self.held_out and split == "test"
        pairs = [
            (rule, thing) for rule in _rules(held_out=is_held_out) for thing in rule.things(split)
        ]
        seen: set[str] = set()
        while len(seen) < _NUM_EXAMPLES[split]:
            rng.shuffle(pairs)
            for rule, thing in pairs[: _NUM_EXAMPLES[split] - len(seen)]:
                others = [each for each in _shown(rule) if each != thing]
                example = _question(rule, thing, rng.sample(others, _MOST_SHOWN), rng)
                if example.id not in seen:
                    seen.add(example.id)
                    yield example

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of one to 17 things with their colours, each list under one rule."""
        rng = random.Random(f"rules documents {seed}")
        rules = _rules(held_out=False)
        for number in range(_NUM_DOCUMENTS):
            rule = rules[number % len(rules)]
            is_short = rng.random() < _SHARE_SHORT
            size = rng.randint(1, 4) if is_short else rng.randint(5, _MOST_SHOWN + 1)
            yield "\n".join(f"{thing}: {rule.colour(thing)}" for thing in _drawn(rule, size, rng))

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a response that names the colour and no other one."""
        if reference not in COLOURS:
            return Verdict(None, None, f"`{reference[:80]}` is no colour of a rule")
        found = find_names(response, COLOURS)
        answer = ", ".join(found) or None
        if found == (reference,):
            return Verdict(1.0, answer, "the expected colour")
        if not found:
            return Verdict(0.0, None, "no colour in the response")
        why = "more than one colour" if reference in found else f"expected {reference}"
        return Verdict(0.0, answer, why)


@cache
def _kinds() -> tuple[dict[str, int], ...]:
    """Return the kind of each thing, by property: as many things of every kind."""
    kinds: list[dict[str, int]] = []
    for number in range(_NUM_PROPERTIES):
        things = random.Random(f"rules property {number}").sample(THINGS, len(THINGS))
        kinds.append({thing: place % len(COLOURS) for place, thing in enumerate(things)})
    return tuple(kinds)


@cache
def _rules(*, held_out: bool) -> tuple[Rule, ...]:
    rules = [
        Rule(number, colours)
        for number in range(_NUM_PROPERTIES)
        for colours in permutations(COLOURS)
    ]
    random.Random("rules held out").shuffle(rules)
    return tuple(rules[:_NUM_HELD_OUT] if held_out else rules[_NUM_HELD_OUT:])


@cache
def _pair_split(rule: Rule, thing: str) -> Split:
    if rule in _rules(held_out=True):
        return "test"
    place = random.Random(f"rules pairs {rule}").sample(THINGS, len(THINGS)).index(thing)
    if place < _NUM_TESTED:
        return "test"
    return "validation" if place == _NUM_TESTED else "train"


def _shown(rule: Rule) -> list[str]:
    """Return the things that stand in lists under a rule: those of a prompt never are asked."""
    return rule.things("test" if rule in _rules(held_out=True) else "train")


def _drawn(rule: Rule, size: int, rng: random.Random) -> list[str]:
    things = _shown(rule)
    return rng.sample(things, min(size, len(things)))


def _question(rule: Rule, thing: str, shown: Sequence[str], rng: random.Random) -> Example:
    told = shown[: rng.randint(_FEWEST_IN_CHAT, len(shown) // 2)]
    examples = ", ".join(f"{each} is {rule.colour(each)}" for each in told)
    plain = _plain(rule, thing)
    return Example(
        id=f"{rule}: {thing} after {' '.join(shown)}",
        prompt=f"If {examples}, what is {thing}?",
        response=plain.response,
        reference=plain.reference,
        document=plain.document,
        continuation=plain.continuation,
        flawed=tuple(
            FlawedResponse(colour, "another colour")
            for colour in COLOURS
            if colour != plain.reference
        ),
        siblings=tuple(_plain(rule, each) for each in shown),
    )


def _plain(rule: Rule, thing: str) -> Example:
    """Return a pair as an example without others: as a prompt shows it."""
    colour = rule.colour(thing)
    return Example(
        id=f"{rule}: {thing}",
        prompt=f"What is {thing}?",
        response=colour,
        reference=colour,
        document=f"{thing}:",
        continuation=f" {colour}",
    )
