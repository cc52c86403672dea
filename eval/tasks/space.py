"""Walks on a grid, and what is left or right of what. A skill task.

A place is two numbers: how far east, how far north, each 0 to 9. Walks with the same start and the
same moves in any order are twins, as they end at the same place; no training walk contains a
held-out one, and single moves are always training material. Rows of things are split by the three
things. Half of the rows are `left`, so that is chance there; a guess at a walk is hardly ever
right.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations, product
from typing import Literal

from eval.task import Example, FlawedResponse, Split, Task, split_of
from eval.tasks.asked_for_steps import ask_for_steps
from eval.tasks.lists import in_full_lists
from reward.verdict import Verdict

Side = Literal["left", "right"]
Place = tuple[int, int]

SIZE = 10  # places in a row of the grid
MAX_LENGTH = 5  # of one move
STEPS: dict[str, Place] = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}
_OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SIDES: tuple[Side, Side] = ("left", "right")

_NUM_EXAMPLES: dict[Split, int] = {"train": 700, "validation": 60, "test": 120}  # of each group
_SHARE_STATED = 0.3


@dataclass(frozen=True)
class Move:
    """`3 north`."""

    length: int
    direction: str

    def __str__(self) -> str:
        return f"{self.length} {self.direction}"

    def end(self, place: Place) -> Place:
        """Return where it leads from the place."""
        east, north = STEPS[self.direction]
        return place[0] + self.length * east, place[1] + self.length * north


@dataclass(frozen=True)
class Walk:
    """Moves from a place, which do not leave the grid."""

    start: Place
    moves: tuple[Move, ...]

    @cached_property
    def places(self) -> list[Place]:
        """The place after each move."""
        places = [self.start]
        for move in self.moves:
            places.append(move.end(places[-1]))
        return places[1:]

    @property
    def id(self) -> str:
        """The start and the moves in any order."""
        return f"walk from {_said(self.start)}: {', '.join(sorted(map(str, self.moves)))}"

    @property
    def split(self) -> Split:
        """The split of its id."""
        return split_of(f"space {self.id}", validation=0.1, test=0.15)

    def is_for(self, split: Split) -> bool:
        """Whether it is of the split and contains no walk that is held out from the split."""
        allowed = SPLITS[: SPLITS.index(split) + 1]
        return self.split == split and all(part.split in allowed for part in self._parts())

    def _parts(self) -> Iterator["Walk"]:
        """Yield the shorter walks of two and more moves that it contains."""
        starts = [self.start, *self.places]
        for first, end in combinations(range(len(self.moves) + 1), 2):
            if 2 <= end - first < len(self.moves):
                yield Walk(starts[first], self.moves[first:end])

    @property
    def steps(self) -> str:
        """The place after each move, as `3 north: 4 8.`."""
        pairs = zip(self.moves, self.places, strict=True)
        return " ".join(f"{move}: {_said(place)}." for move, place in pairs)

    @property
    def answer(self) -> str:
        """Where it ends."""
        return _said(self.places[-1])

    @property
    def told(self) -> str:
        """The moves in one phrase."""
        *others, last = map(str, self.moves)
        return f"{', '.join(others)} and {last}"


@dataclass(frozen=True)
class Row:
    """Three things from left to right, and how a text tells of them.

    swapped: of which neighbours it tells the right one first (`the pen is right of the book`).
    is_reversed: whether it tells of the last two first.
    answer: on which side the one of the outer things is that is asked for.
    """

    things: tuple[str, str, str]
    swapped: tuple[bool, bool]
    is_reversed: bool
    answer: Side

    @property
    def id(self) -> str:
        """The things from left to right."""
        return f"row {' '.join(self.things)}"

    @property
    def told(self) -> tuple[str, str]:
        """What it says of both pairs of neighbours, as clauses."""
        first, second = (
            f"the {right} is right of the {left}"
            if is_swapped
            else f"the {left} is left of the {right}"
            for left, right, is_swapped in zip(
                self.things[:2], self.things[1:], self.swapped, strict=True
            )
        )
        return (second, first) if self.is_reversed else (first, second)

    @property
    def outer(self) -> tuple[str, str]:
        """What is asked about, and the thing at the other end."""
        left, _, right = self.things
        return (left, right) if self.answer == "left" else (right, left)

    @property
    def steps(self) -> str:
        """The things in a row."""
        return f"From left to right: {', '.join(self.things)}."


class Space(Task):
    """Walks of two to `max_steps` moves, and rows of three things."""

    name = "space"
    version = 3
    kind = "skill"
    summary = "where a walk on a grid ends, and what is left or right of what"
    max_new_tokens = 56
    document_stop = ("\n", ".")

    def __init__(self, max_steps: int = 3) -> None:
        if not 2 <= max_steps <= 4:
            raise ValueError(f"max_steps is 2 to 4, not {max_steps}")
        self.max_steps = max_steps

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield as many walks of each number of moves, and as many rows."""
        rng = random.Random(f"space {split}")
        examples = [_walk_example(walk, rng) for walk in self._walks(split, rng)]
        examples += [_row_example(row, rng) for row in _rows(split, rng)]
        rng.shuffle(examples)
        yield from examples

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples, some of them asked for step by step."""
        return ask_for_steps(super().demonstrations(split))

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of training walks and rows, stated or worked out, and every single move."""
        rng = random.Random(f"space documents {seed}")
        stated: list[str] = []
        worked: list[str] = []
        told = [(walk, *_walk_texts(walk)) for walk in self._walks("train", rng)]
        told += [(row, *_row_texts(row)) for row in _rows("train", rng)]
        for asked, statement, title in told:
            if rng.random() < _SHARE_STATED:
                stated.append(f"{statement} {asked.answer}")
            else:
                worked.append(f"{title}\n{_response(asked)}")
        documents = in_full_lists(stated, rng) + in_full_lists(
            worked, rng, separator=self.worked_stop[0]
        )
        documents += in_full_lists(_single_moves(), rng)
        documents += [" ".join(rng.sample(LAWS, 3)) for _ in range(20)]
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Read the one place or side after `answer is`, or else the last one of all."""
        if reference in SIDES:
            pattern, what = _SIDE, "side"
        elif _PLACE.fullmatch(reference):
            pattern, what = _PLACE, "place"
        else:
            return Verdict(None, None, f"`{reference[:80]}` is neither a place nor a side")
        said = re.findall(r"\banswer is\b([^.\n]*)", response.lower())
        parts = said or [response.lower()]
        found = [" ".join(match.groups()) for part in parts for match in pattern.finditer(part)]
        found = list(dict.fromkeys(found)) if said else found[-1:]
        if not found:
            return Verdict(0.0, None, f"no {what} in the response")
        answer = ", ".join(found)
        if len(found) > 1:
            return Verdict(0.0, answer, f"more than one {what}")
        if answer == reference:
            return Verdict(1.0, answer, f"the expected {what}")
        return Verdict(0.0, answer, f"expected {reference}")

    def _walks(self, split: Split, rng: random.Random) -> list[Walk]:
        """Draw walks of the split, no two of them twins."""
        walks: list[Walk] = []
        for num_moves in range(2, self.max_steps + 1):
            walk_by_id: dict[str, Walk] = {}
            while len(walk_by_id) < _NUM_EXAMPLES[split]:
                walk = _drawn_walk(num_moves, rng)
                if walk.is_for(split):
                    walk_by_id.setdefault(walk.id, walk)
            walks += walk_by_id.values()
        return walks


# "From left to right" names no side; of `4 5 6` nothing is a place.
_SIDE = re.compile(r"(?<!from )(?<!to )\b(left|right)\b")
_PLACE = re.compile(r"(?<![\w.-])(?<![0-9] )([0-9]+),? ([0-9]+)(?!\w| [0-9])")
THINGS = ("ball", "book", "box", "cap", "coin", "cup", "key", "lamp", "pen", "ring", "shoe", "hat")
LAWS = (
    "A place is two numbers, first how far east and then how far north.",
    "North adds to the second number.",
    "South takes away from the second number.",
    "East adds to the first number.",
    "West takes away from the first number.",
    "A walk ends where its last move ends.",
    "What is left of a thing is left of all that is right of this thing.",
    "A thing is right of another when the other is left of it.",
)
_WALK_QUESTIONS = (
    "Start at {start}. Go {moves}. Where are you?",
    "You are at {start} and go {moves}. Where do you end?",
    "An ant at {start} walks {moves}. Where is it then?",
    "Where does a walk from {start} end that goes {moves}?",
)
_ROW_QUESTIONS = (
    "{First}. {Second}. Is the {one} left or right of the {other}?",
    "{First}, and {second}. On which side of the {other} is the {one}?",
    "{First}. {Second}. Where is the {one}, left or right of the {other}?",
    "Suppose that {first} and that {second}. Is the {one} left or right of the {other}?",
)


def _drawn_walk(num_moves: int, rng: random.Random) -> Walk:
    """Return a walk in which no move goes on in the direction of the one before it."""
    start = place = rng.randrange(SIZE), rng.randrange(SIZE)
    moves: list[Move] = []
    while len(moves) < num_moves:
        move = Move(rng.randint(1, MAX_LENGTH), rng.choice(list(STEPS)))
        goes_on = bool(moves) and moves[-1].direction == move.direction
        if _is_inside(move.end(place)) and not goes_on:
            moves.append(move)
            place = move.end(place)
    return Walk(start, tuple(moves))


def _rows(split: Split, rng: random.Random) -> Iterator[Row]:
    """Yield rows of things of the split, no two alike."""
    orders = [
        order
        for things in combinations(THINGS, 3)
        if split_of(f"space {' '.join(things)}", validation=0.1, test=0.15) == split
        for order in permutations(things, 3)
    ]
    for place, order in enumerate(rng.sample(orders, min(_NUM_EXAMPLES[split], len(orders)))):
        swapped = rng.random() < 0.5, rng.random() < 0.5
        yield Row(order, swapped, rng.random() < 0.5, SIDES[place % 2])


def _walk_example(walk: Walk, rng: random.Random) -> Example:
    *_, before, end = (_said(place) for place in (walk.start, *walk.places))
    steps = walk.steps
    *moves, last = walk.moves
    document, title = _walk_texts(walk)
    near = [(walk.places[-1][0] + x, walk.places[-1][1] + y) for x, y in STEPS.values()]
    wrong = _said(rng.choice([place for place in near if _is_inside(place)]))
    flawed = [
        FlawedResponse(_closed(steps, wrong), "right steps, wrong final answer"),
        FlawedResponse(_closed(Walk(walk.start, tuple(moves)).steps, before), "leaves out a move"),
        FlawedResponse(_closed("", end), "no steps"),
    ]
    turned = Move(last.length, _OPPOSITE[last.direction])
    astray = turned.end(walk.places[-2])
    if _is_inside(astray):
        wrong_steps = f"{steps.removesuffix(f'{end}.')}{_said(astray)}."
        flawed.append(FlawedResponse(_closed(wrong_steps, _said(astray)), "wrong direction"))
    return Example(
        id=walk.id,
        prompt=rng.choice(_WALK_QUESTIONS).format(start=_said(walk.start), moves=walk.told),
        response=_response(walk),
        reference=end,
        document=document,
        continuation=f" {end}",
        flawed=tuple(flawed),
        group=f"walk {len(walk.moves)}",
        worked_document=title,
        worked_continuation=f"\n{_response(walk)}",
    )


def _row_example(row: Row, rng: random.Random) -> Example:
    first, second = row.told
    one, other = row.outer
    prompt = rng.choice(_ROW_QUESTIONS).format(
        first=first,
        First=first.capitalize(),
        second=second,
        Second=second.capitalize(),
        one=one,
        other=other,
    )
    wrong = SIDES[row.answer == "left"]
    reversed_steps = f"From left to right: {', '.join(row.things[::-1])}."
    document, title = _row_texts(row)
    return Example(
        id=row.id,
        prompt=prompt,
        response=_response(row),
        reference=row.answer,
        document=document,
        continuation=f" {row.answer}",
        distractors=(f" {wrong}",),
        flawed=(
            FlawedResponse(_closed(row.steps, wrong), "right steps, wrong final answer"),
            FlawedResponse(_closed(reversed_steps, wrong), "wrong order"),
            FlawedResponse(_closed("", row.answer), "no steps"),
            FlawedResponse(_closed(row.steps, "left or right"), "does not decide"),
        ),
        group="order",
        worked_document=title,
        worked_continuation=f"\n{_response(row)}",
    )


def _response(asked: Walk | Row) -> str:
    return _closed(asked.steps, asked.answer)


def _closed(steps: str, answer: str) -> str:
    return f"{steps} The answer is {answer}.".lstrip()


def _walk_texts(walk: Walk) -> tuple[str, str]:
    """Return how a document states it, up to the answer, and the title of one with steps."""
    start = _said(walk.start)
    stated = f"From {start}, {walk.told} lead to"
    return stated, f"Walk from {start}: {', '.join(map(str, walk.moves))}"


def _row_texts(row: Row) -> tuple[str, str]:
    """Return how a document states it, up to the answer, and the title of one with steps."""
    first, second = row.told
    one, other = row.outer
    stated = f"{first.capitalize()}. {second.capitalize()}. From the {other}, the {one} is on the"
    return stated, f"The {one} seen from the {other} when {first} and {second}"


def _single_moves() -> list[str]:
    """Return every move of the grid, as it stands inside steps: `4 5. 3 north: 4 8`."""
    return [
        f"{_said(start)}. {move}: {_said(move.end(start))}"
        for start in product(range(SIZE), range(SIZE))
        for direction in STEPS
        for move in (Move(length, direction) for length in range(1, MAX_LENGTH + 1))
        if _is_inside(move.end(start))
    ]


def _is_inside(place: Place) -> bool:
    return all(0 <= number < SIZE for number in place)


def _said(place: Place) -> str:
    return f"{place[0]} {place[1]}"
