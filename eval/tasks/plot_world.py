"""The world of the task `plots`: what may happen in it, and where a story breaks its rules.

Three people come to play, things go from hand to hand, are lost and found, and days follow one
another. A story is read sentence by sentence into a state: who is there, who has what, which day it
is. What the state does not allow is a break. Exact, since nothing else is ever said here; a
sentence of other words is a break, too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

NAMES = ("Anna", "Ben", "Carl", "Dora", "Emma", "Finn", "Grace", "Hugo", "Ida", "Jack", "Kate",
         "Leo", "Mia", "Nick", "Olga", "Paul", "Rosa", "Sam", "Tina", "Will")  # fmt: skip
THINGS = ("ball", "kite", "hat", "book", "key", "coat", "doll", "cup", "ring", "drum", "bell",
          "rope")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PER_DAY = 3  # sentences
LOST = "lost"

# people: who is there. things: who has what. order: days, what is said twice, the end. words: no
# sentence of this world, or none that ends.
Kind = Literal["people", "things", "order", "words"]
KINDS: tuple[Kind, ...] = ("people", "things", "order", "words")
Deed = Literal["comes", "brings", "returns", "leaves", "gives", "loses", "seeks", "finds", "plays",
               "talks"]  # fmt: skip

_FORMS: dict[Deed, str] = {
    "comes": "{person} came to play",
    "brings": "{person} came with a {thing}",
    "returns": "{person} came back",
    "leaves": "{person} went home",
    "gives": "{person} gave the {thing} to {other}",
    "loses": "{person} lost the {thing}",
    "seeks": "{person} looked for the {thing}",
    "finds": "{person} found the {thing}",
    "plays": "{person} played with the {thing}",
    "talks": "{person} talked to {other}",
}
_WORD = {"person": r"(?P<person>\w+)", "other": r"(?P<other>\w+)", "thing": r"(?P<thing>\w+)"}
_PATTERNS: dict[Deed, re.Pattern[str]] = {
    deed: re.compile(form.format(**_WORD)) for deed, form in _FORMS.items()
}
_DAY = re.compile(r"On (\w+day) (.+)", re.DOTALL)
_DATED = re.compile(r"^On \w+day ")
_END = "In the end "
_HELD, _GONE = re.compile(r"(\w+) had the (\w+)"), re.compile(r"the (\w+) was lost")
_OUTCOMES = " and "


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about, and over how many days it goes; all but these the id."""

    people: tuple[str, ...]
    things: tuple[str, ...]
    days: int

    @property
    def num_sentences(self) -> int:
        """So many of each day, and one that says how it ends."""
        return PER_DAY * self.days + 1


@dataclass(frozen=True)
class Event:
    """What a sentence tells: who does what, with what, to whom."""

    deed: Deed
    person: str
    thing: str = ""
    other: str = ""

    def __str__(self) -> str:
        return _FORMS[self.deed].format(person=self.person, thing=self.thing, other=self.other)


@dataclass(frozen=True)
class Break:
    """A rule that a sentence breaks. sentence: counted from 0."""

    sentence: int
    kind: Kind
    reason: str


@dataclass
class State:
    """Who is there, who has ever been, and who has what (a person, or LOST)."""

    present: set[str] = field(default_factory=set[str])
    known: set[str] = field(default_factory=set[str])
    holder_by_thing: dict[str, str] = field(default_factory=dict[str, str])

    def problems(self, event: Event) -> Iterator[tuple[Kind, str]]:
        """Yield why this cannot happen now."""
        person, thing, other = event.person, event.thing, event.other
        if event.deed in ("comes", "brings"):
            if person in self.known:
                yield "people", f"{person} has come before"
        elif event.deed == "returns":
            if person not in self.known or person in self.present:
                yield "people", f"{person} is not away"
        elif person not in self.present:
            yield "people", f"{person} is not there"
        if other and (other not in self.present or other == person):
            yield "people", f"{other} is not there" if other != person else f"{other} alone"
        holder = self.holder_by_thing.get(thing)
        if event.deed == "brings" and holder is not None:
            yield "things", f"the {thing} is there already"
        if event.deed in ("gives", "loses", "plays") and holder != person:
            yield "things", f"{person} does not have the {thing}"
        if event.deed in ("seeks", "finds") and holder != LOST:
            yield "things", f"the {thing} is not lost"

    def apply(self, event: Event) -> None:
        """Take an event as told, whether it could happen or not."""
        self.known |= {event.person, event.other} - {""}
        self.present |= {event.person, event.other} - {""}
        if event.deed == "leaves":
            self.present.discard(event.person)
        holder = {"loses": LOST, "gives": event.other}.get(event.deed, event.person)
        if event.thing and event.deed != "seeks":
            self.holder_by_thing[event.thing] = holder


def ending(holder_by_thing: Mapping[str, str]) -> str:
    """Return the sentence that says where everything is in the end."""
    told = (
        f"the {thing} was lost" if holder == LOST else f"{holder} had the {thing}"
        for thing, holder in holder_by_thing.items()
    )
    return f"{_END}{_OUTCOMES.join(told)}."


def tell(events: Sequence[Event | str], holder_by_thing: Mapping[str, str]) -> str:
    """Return the story of events, PER_DAY of them a day, from Monday on."""
    said = [
        f"{event}." if place % PER_DAY else f"On {DAYS[place // PER_DAY]} {event}."
        for place, event in enumerate(events)
    ]
    return " ".join([*said, ending(holder_by_thing)])


def sentences_of(story: str) -> list[str]:
    """Return the sentences without their full stops; what is left over after the last is one."""
    *finished, rest = (" ".join(part.split()) for part in story.split("."))
    return [*finished, *([f"{rest} ..."] if rest else [])]


def kinds_of_deeds(sentences: Sequence[str]) -> int:
    """Return how many kinds of what may happen are told, whether it could happen or not."""
    told = (_DATED.sub("", sentence) for sentence in sentences)
    return len({event.deed for event in map(_event, told) if event is not None})


def find_breaks(sentences: Sequence[str], cast: Cast) -> list[Break]:
    """Return every break of a story about a cast, in order; none where all of it holds.

    After a break the story is taken as told: a later sentence is judged by what was said.
    """
    return list(_Reading(cast).breaks(sentences))


class _Reading:
    """A story as far as it has been read."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.state = State()
        self.day = -1  # of DAYS
        self.said_today: list[str] = []
        self.has_ended = False

    def breaks(self, sentences: Sequence[str]) -> Iterator[Break]:
        for place, sentence in enumerate(sentences):
            for kind, reason in self._read(sentence):
                yield Break(place, kind, reason)
        if not self.has_ended:
            yield Break(len(sentences), "order", "the story has no end")

    def _read(self, sentence: str) -> Iterator[tuple[Kind, str]]:
        if self.has_ended:
            yield "order", "the story goes on after its end"
        if sentence.startswith(_END):
            yield from self._end(sentence.removeprefix(_END))
            return
        dated = _DAY.fullmatch(sentence)
        yield from self._date(dated[1] if dated else "")
        told = dated[2] if dated else sentence
        if told in self.said_today:
            yield "order", "said twice in one day"
        self.said_today.append(told)
        event = _event(told)
        if event is None:
            yield "words", "no sentence of this world"
            return
        yield from self._strangers({event.person, event.other}, {event.thing})
        yield from self.state.problems(event)
        self.state.apply(event)

    def _date(self, day: str) -> Iterator[tuple[Kind, str]]:
        """Read which day it is, if a sentence says so, and whether it is time for the next one."""
        is_full = self.day < 0 or len(self.said_today) >= PER_DAY
        if not day:
            if is_full:
                yield "order", "no new day begins"
            return
        if not is_full:
            yield "order", f"a new day after {len(self.said_today)} sentences"
        expected = self.day + 1
        if expected >= self.cast.days or day != DAYS[expected]:
            yield "order", f"{day} does not come next"
        self.day = DAYS.index(day) if day in DAYS else expected
        self.said_today = []

    def _strangers(self, people: set[str], things: set[str]) -> Iterator[tuple[Kind, str]]:
        for person in sorted(people - {"", *self.cast.people}):
            yield "people", f"{person} is not in this story"
        for thing in sorted(things - {"", *self.cast.things}):
            yield "things", f"the {thing} is not in this story"

    def _end(self, told: str) -> Iterator[tuple[Kind, str]]:
        is_full = self.day + 1 == self.cast.days and len(self.said_today) == PER_DAY
        if not is_full and not self.has_ended:
            yield "order", f"the story does not end on {DAYS[self.cast.days - 1]}"
        self.has_ended = True
        found: dict[str, str] = {}
        for part in told.split(_OUTCOMES):
            held, gone = _HELD.fullmatch(part), _GONE.fullmatch(part)
            if held is None and gone is None:
                yield "words", "no ending of this world"
                return
            thing, holder = (held[2], held[1]) if held else (gone[1] if gone else "", LOST)
            if thing in found:
                yield "order", f"the {thing} is spoken of twice"
            found[thing] = holder
        yield from self._strangers({*found.values()} - {LOST}, {*found})
        for thing in self.cast.things:
            if found.get(thing) != self.state.holder_by_thing.get(thing, ""):
                yield "things", f"the {thing} is elsewhere in the end"
        missing = [person for person in self.cast.people if person not in self.state.known]
        if missing:
            yield "people", f"{missing[0]} never came"


def _event(sentence: str) -> Event | None:
    for deed, pattern in _PATTERNS.items():
        match = pattern.fullmatch(sentence)
        if match:
            return Event(deed, **match.groupdict())
    return None
