"""Stories over several days, in which who is there and who has what must hold. A skill task.

Where `stories` asks for five sentences of one kind, these have four to twenty-two, so that a curve
over their length shows where a plot breaks. Creative writing of which a program can say everything:
the world and its rules are `plot_world`'s. Not a measure of style: the world has ten sentences.
"""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from eval.task import Example, FlawedResponse, FurtherScore, Split, Task, split_of
from eval.tasks.plot_world import (
    DAYS,
    KINDS,
    LOST,
    NAMES,
    PER_DAY,
    THINGS,
    Break,
    Cast,
    Deed,
    Event,
    State,
    ending,
    find_breaks,
    kinds_of_deeds,
    sentences_of,
    tell,
)
from reward.verdict import Verdict

_NUM_PEOPLE, _NUM_THINGS = 3, 2
_NUM_STORIES: dict[Split, int] = {"train": 2400, "validation": 350, "test": 1050}
_TOKENS_A_DAY = 30  # at most; and as many for the end
_WHOLE, _DEEDS = "whole_plots", "kinds_of_deeds"
_HOLD = {kind: f"{kind}_hold" for kind in KINDS}

# How often what may happen does: things go from hand to hand more often than people come and go.
_WEIGHTS: dict[Deed, float] = {
    "gives": 3.0, "loses": 1.0, "finds": 2.0, "seeks": 1.0, "plays": 2.0, "talks": 1.5,
    "leaves": 0.7, "returns": 1.5,
}  # fmt: skip
_REQUESTS = (
    "Write a story {days} about {people}, a {thing} and a {other}.",
    "Tell me a story about {people}, a {thing} and a {other}, {days}.",
)
_TITLE = "A story about {people}, a {thing} and a {other}, {days}"
_REFERENCE = re.compile(r"(\w+), (\w+), (\w+); (\w+), (\w+); ([1-7])")


class Plots(Task):
    """Three people and two things over 1 to `days` days, three sentences a day and one at the end.

    days: of the longest stories. A cast belongs to one split, however long its stories are.
    """

    name = "plots"
    version = 3
    kind = "skill"
    summary = "stories over days: who is there, who has what, and what comes after what"
    further_metrics: ClassVar[tuple[str, ...]] = (_WHOLE, _DEEDS, *_HOLD.values())
    document_stop = ("\n\n", "\nA story")
    group_unit = "sentences asked for"

    def __init__(self, days: int = 2) -> None:
        if not 1 <= days <= len(DAYS):
            raise ValueError(f"days is 1 to {len(DAYS)}, not {days}")
        self.days = days
        self.max_new_tokens = _TOKENS_A_DAY * (days + 1)

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield stories, each about another cast; their lengths take turns."""
        rng = random.Random(f"plots {split} {self.days}")
        for index, cast in enumerate(_casts(split, _NUM_STORIES[split], self.days, rng)):
            yield _example(cast, rng, rng.choice(_REQUESTS), index)

    def documents(self, seed: int) -> Iterator[str]:
        """Yield stories about training casts under a title, as many as there are in train.

        How many days they have is uniform in its logarithm: whom a title names is soonest learnt
        from short ones.
        """
        rng = random.Random(f"plots documents {seed} {self.days}")
        for each in _casts("train", _NUM_STORIES["train"], self.days, rng):
            cast = replace(each, days=int((self.days + 1) ** rng.random()))
            events, state = _events(cast, rng)
            yield f"{_fill(_TITLE, cast)}\n{tell(events, state.holder_by_thing)}"

    def verify(self, response: str, reference: str) -> Verdict:
        """Return the share of the story before its first break: 1 for a plot that holds.

        Of as many sentences as were asked for or written, whichever is more.
        """
        cast = _cast(reference)
        if cast is None:
            return Verdict(None, None, f"the reference `{reference[:80]}` names no story")
        sentences = sentences_of(response)
        found = find_breaks(sentences, cast)
        answer = response.strip()[:200] or None
        if not found:
            return Verdict(1.0, answer, "the plot holds")
        kept = found[0].sentence / max(cast.num_sentences, len(sentences))
        return Verdict(kept, answer, _say(found))

    def further_scores(self, response: str, reference: str) -> Mapping[str, FurtherScore]:
        """Return whether all of it holds, and the share of sentences without a break of each kind.

        And how many kinds of deeds are told: where people only talk, little can break. Shares weigh
        as many sentences as there are, so that their mean is of sentences.
        """
        cast = _cast(reference)
        if cast is None:
            return dict.fromkeys(self.further_metrics, FurtherScore(None))
        sentences = sentences_of(response)
        found = find_breaks(sentences, cast)
        number = max(cast.num_sentences, len(sentences))
        scores = {
            _WHOLE: FurtherScore(float(not found)),
            _DEEDS: FurtherScore(float(kinds_of_deeds(sentences))),
        }
        for kind, metric in _HOLD.items():
            broken = {each.sentence for each in found if each.kind == kind}
            scores[metric] = FurtherScore(1 - min(1.0, len(broken) / number), number)
        return scores


def _say(found: list[Break]) -> str:
    """Return the first break, and how many there are of each kind."""
    first = found[0]
    numbers = {kind: sum(each.kind == kind for each in found) for kind in KINDS}
    told = ", ".join(f"{kind} {number}" for kind, number in numbers.items() if number)
    return f"sentence {first.sentence + 1}: {first.reason}; breaks: {told}"


def _casts(split: Split, number: int, days: int, rng: random.Random) -> Iterator[Cast]:
    """Yield so many casts of a split, no two of the same people and things."""
    seen: set[str] = set()
    while len(seen) < number:
        people = tuple(rng.sample(NAMES, _NUM_PEOPLE))
        things = tuple(rng.sample(THINGS, _NUM_THINGS))
        identity = f"{', '.join(sorted(people))}; {', '.join(sorted(things))}"
        if identity not in seen and split_of(f"plots {identity}") == split:
            yield Cast(people, things, 1 + len(seen) % days)
            seen.add(identity)


def _cast(reference: str) -> Cast | None:
    """Read what `_reference` writes; None if it is something else."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    people, things = match.group(1, 2, 3), match.group(4, 5)
    is_known = set(people) <= set(NAMES) and set(things) <= set(THINGS)
    return Cast(people, things, int(match[6])) if is_known else None


def _events(cast: Cast, rng: random.Random) -> tuple[list[Event], State]:
    """Return what happens in a story, and how things stand in the end. All come on the first day.

    Nothing is told twice in a day.
    """
    owners = rng.sample(cast.people, _NUM_THINGS)
    thing_by_owner = dict(zip(owners, cast.things, strict=True))
    events = [
        Event("brings", person, thing_by_owner[person])
        if person in thing_by_owner
        else Event("comes", person)
        for person in rng.sample(cast.people, _NUM_PEOPLE)
    ]
    state = State()
    for event in events:
        state.apply(event)
    while len(events) < PER_DAY * cast.days:
        today = events[len(events) // PER_DAY * PER_DAY :]
        event = _next(state, cast, today, rng)
        state.apply(event)
        events.append(event)
    return events, state


def _next(state: State, cast: Cast, today: list[Event], rng: random.Random) -> Event:
    """Return one of the things that may happen now: what is done first, then by whom with what."""
    while True:  # somebody can always go, come back or talk
        [deed] = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        possible = [
            event
            for event in _all_events(cast, deed)
            if event not in today and not any(state.problems(event))
        ]
        if possible:
            return rng.choice(possible)


def _all_events(cast: Cast, deed: Deed) -> Iterator[Event]:
    things = ("",) if deed in ("returns", "leaves", "talks") else cast.things
    others = cast.people if deed in ("gives", "talks") else ("",)
    for person in cast.people:
        for thing in things:
            for other in others:
                yield Event(deed, person, thing, other)


def _example(cast: Cast, rng: random.Random, request: str, index: int) -> Example:
    events, state = _events(cast, rng)
    story = tell(events, state.holder_by_thing)
    return Example(
        id=_reference(cast),
        prompt=_fill(request, cast),
        response=story,
        reference=_reference(cast),
        document=_fill(_TITLE, cast),
        continuation=f"\n{story}",
        flawed=_flawed(cast, events, state, rng),
        group=str(cast.num_sentences),
    )


def _flawed(
    cast: Cast, events: list[Event], state: State, rng: random.Random
) -> tuple[FlawedResponse, ...]:
    """Return stories of which one thing does not hold."""
    holders = state.holder_by_thing
    thing = rng.choice(cast.things)
    others = [each for each in (*cast.people, LOST) if each != holders[thing]]
    elsewhere = {**holders, thing: rng.choice(others)}
    stranger = rng.choice([name for name in NAMES if name not in cast.people])
    place = rng.randrange(len(events))
    person = events[place].person
    with_stranger = [str(event) for event in events]
    with_stranger[place] = with_stranger[place].replace(person, stranger)
    story = tell(events, holders)
    end = ending(holders)
    return (
        FlawedResponse(tell(events, elsewhere), "a thing is elsewhere in the end"),
        FlawedResponse(tell(with_stranger, holders), "a stranger"),
        FlawedResponse(story.removesuffix(f" {end}"), "no end"),
        FlawedResponse(f"{end} {story.removesuffix(f' {end}')}", "the end comes first"),
    )


def _reference(cast: Cast) -> str:
    return f"{', '.join(cast.people)}; {', '.join(cast.things)}; {cast.days}"


def _fill(wording: str, cast: Cast) -> str:
    *most, last = cast.people
    thing, other = cast.things
    people = f"{', '.join(most)} and {last}"
    days = f"from Monday to {DAYS[cast.days - 1]}" if cast.days > 1 else "on Monday"
    return wording.format(people=people, thing=thing, other=other, days=days)
