"""Adding, subtracting and multiplying small numbers, digit by digit. A skill task.

Documents mostly state results; demonstrations work them out column by column, which is what
fine-tuning adds. 47 + 35, 35 + 47, 82 - 35 and 82 - 47 are one family: they share an id and so a
split. The single columns that worked steps consist of are always training material.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.task import Example, FlawedResponse, Metric, Split, split_of
from eval.tasks.asked_for_steps import ask_for_steps
from eval.tasks.lists import in_lists
from eval.tasks.small_talk import SmallTalkTask, add_small_talk
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric

Sign = Literal["+", "-", "*"]

# Sums of three digits are too many to list: this many are drawn.
_NUM_LONG_SUMS = 10_000
_SHARE_WORKED = 0.35
_SHARE_STORIES = 0.25
_SHARE_FORMS = 0.2
_SHARE_SPOKEN = 0.15


@dataclass(frozen=True)
class Problem:
    """`left sign right`, with a whole number above zero as its result."""

    left: int
    sign: Sign
    right: int

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"

    @property
    def spoken(self) -> str:
        """The problem in words: `47 plus 35`."""
        return f"{self.left} {_SPOKEN[self.sign]} {self.right}"

    @property
    def answer(self) -> int:
        """The right result."""
        match self.sign:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right

    @property
    def family(self) -> str:
        """The id that twins share: both orders, and the subtractions that undo a sum."""
        low, high = self._pair
        return f"{low} {'*' if self.sign == '*' else '+'} {high}"

    @property
    def is_column(self) -> bool:
        """Whether it can be one step of a longer calculation."""
        return max(self._pair) <= 10

    @property
    def split(self) -> Split:
        """The split of the family."""
        return "train" if self.is_column else split_of(f"arithmetic {self.family}")

    @property
    def _pair(self) -> tuple[int, int]:
        first = self.answer if self.sign == "-" else self.left
        return min(first, self.right), max(first, self.right)


@dataclass(frozen=True)
class Story:
    """A word problem about {name}, {left}, {right} and {things}.

    told: what happens. question: what a chat user then asks. closing: what a document says before
    the result. things: what is counted, once it is chosen.
    """

    sign: Sign
    told: str
    question: str
    closing: str
    things: str = ""


_SPOKEN: dict[Sign, str] = {"+": "plus", "-": "minus", "*": "times"}
_PLACES = ("Ones", "Tens", "Hundreds")
_QUESTIONS = ("What is {sum}?", "Calculate {sum}.", "How much is {spoken}?", "Work out {sum}.")
_NAMES = ("Tom", "Anna", "Ben", "Mia", "Sam", "Lea", "Max", "Eva")
_THINGS = ("apples", "books", "coins", "pens", "stones", "cards", "eggs", "shells")
_STORIES = (
    Story(
        "+",
        "{name} has {left} {things} and gets {right} more.",
        "How many {things} does {name} have now?",
        "Now {name} has",
    ),
    Story(
        "+",
        "There are {left} {things} in a box and {right} in a bag.",
        "How many {things} are there together?",
        "Together there are",
    ),
    Story(
        "-",
        "{name} has {left} {things} and gives away {right}.",
        "How many {things} does {name} have left?",
        "Now {name} has",
    ),
    Story(
        "-",
        "There are {left} {things} and {name} takes {right}.",
        "How many {things} are left?",
        "Now there are",
    ),
    Story(
        "*",
        "{name} buys {left} bags with {right} {things} each.",
        "How many {things} are there together?",
        "Together there are",
    ),
)


class Arithmetic(SmallTalkTask):
    """Sums, differences and products in which no number has more than `max_digits` digits."""

    name = "arithmetic"
    version = 3
    kind = "skill"
    summary = "sums, differences and small products, worked out digit by digit"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 100  # small talk and three columns
    document_stop = ("\n", ".")

    def __init__(self, max_digits: int = 2) -> None:
        if max_digits not in (2, 3):
            raise ValueError(f"max_digits is 2 or 3, not {max_digits}")
        self.max_digits = max_digits

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield one example of each family of the split."""
        rng = random.Random(f"arithmetic {split}")
        families = [family for family in self._families() if family.split == split]
        rng.shuffle(families)
        for family in families:
            yield _example(rng.choice(_forms(family)), rng)

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples, some asked for step by step, some answered after small talk."""
        return ask_for_steps(super().demonstrations(split))

    def documents(self, seed: int) -> Iterator[str]:
        """Yield each training family once: stated, in a story, in all its forms or worked out.

        The tables of single columns come with it: everything else is made of them.
        """
        rng = random.Random(f"arithmetic documents {seed}")
        stated: list[str] = []
        worked: list[str] = []
        documents: list[str] = []
        for family in self._families():
            if family.split != "train":
                continue
            problem = rng.choice(_forms(family))
            draw = rng.random()
            if draw < _SHARE_WORKED:
                told = _story(problem, rng) if rng.random() < _SHARE_STORIES else None
                worked.append("".join(_worked(problem, told, rng)))
            elif draw < _SHARE_WORKED + _SHARE_STORIES:
                stated.append(_told(problem, rng))
            elif draw < _SHARE_WORKED + _SHARE_STORIES + _SHARE_FORMS:
                documents.append(_all_forms(family, rng))
            else:
                stated.append(_stated(problem, rng))
        documents += in_lists(stated, rng) + in_lists(worked, rng, separator=self.worked_stop[0])
        documents += _tables(rng)
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the response's final number with the reference."""
        return numeric(response, reference)

    def _families(self) -> list[Problem]:
        """Return one sum or product of each family, the greater number first."""
        sums = [
            Problem(left, "+", right) for left in range(1, 99) for right in range(1, 100 - left)
        ]
        if self.max_digits == 3:
            rng = random.Random("arithmetic long sums")
            for _ in range(_NUM_LONG_SUMS):
                left = rng.randint(100, 998)
                sums.append(Problem(left, "+", rng.randint(1, 999 - left)))
        limit = 10**self.max_digits
        products = [
            Problem(left, "*", right)
            for right in range(2, 10)
            for left in range(right, limit)
            if left < 10 or left * right < limit
        ]
        return list({problem.family: problem for problem in sums + products}.values())


def _forms(family: Problem) -> list[Problem]:
    """Return the problems of a family, given a sum or product of it."""
    left, sign, right = family.left, family.sign, family.right
    forms = [family, Problem(right, sign, left)]
    if sign == "+":
        forms += [Problem(family.answer, "-", right), Problem(family.answer, "-", left)]
    return list(dict.fromkeys(forms))


def _example(problem: Problem, rng: random.Random) -> Example:
    told = _story(problem, rng) if rng.random() < _SHARE_STORIES else None
    if told is None:
        question = rng.choice(_QUESTIONS)
        prompt = question.format(sum=problem, spoken=problem.spoken)
        document, unit = f"{problem} =", ""
    else:
        prompt = f"{told.told} {told.question}"
        document, unit = f"{told.told} {told.closing}", f" {told.things}"
    steps, _ = _steps(problem)
    worked_document, worked_continuation = _worked(problem, told, rng)
    return Example(
        id=problem.family,
        prompt=prompt,
        response=_response(steps, problem.answer),
        reference=str(problem.answer),
        document=document,
        continuation=f" {problem.answer}{unit}",
        distractors=tuple(f" {wrong}{unit}" for wrong in _wrong_answers(problem, rng)),
        flawed=_flawed(problem, rng),
        worked_document=worked_document,
        worked_continuation=worked_continuation,
    )


def _steps(problem: Problem, *, forgets_carry: bool = False) -> tuple[str, int]:
    """Return the columns from the lowest to the highest, and the result that they give.

    `47 + 35. Ones: 7 + 5 = 12. Tens: 4 + 3 + 1 = 8.` and 82; or 72 when the carry out of the ones
    is forgotten.
    """
    left, right = problem.left, problem.right
    if problem.sign == "*" and right > left:
        left, right = right, left
    width = len(str(max(left, right)))
    parts = [f"{problem}."]
    result = carry = 0
    for place, label in enumerate(_PLACES[:width]):
        upper, lower = left // 10**place % 10, right // 10**place % 10
        match problem.sign:
            case "+":
                total, carried = upper + lower + carry, f" + {carry}"
            case "-":
                upper += 10 if upper < lower + carry else 0
                total, carried = upper - lower - carry, f" - {carry}"
            case "*":
                lower = right
                total, carried = upper * lower + carry, f" + {carry}"
        column = f"{upper} {problem.sign} {lower}{carried if place else ''}"
        parts.append(f"{label}: {column} = {total}.")
        result += 10**place * (total if place == width - 1 else total % 10)
        carry = upper // 10 if problem.sign == "-" else total // 10
        if forgets_carry and place == 0:
            carry = 0
    return " ".join(parts), result


def _response(steps: str, answer: int) -> str:
    return f"{steps} The answer is {answer}."


def _wrong_answers(problem: Problem, rng: random.Random) -> list[int]:
    """Return three wrong results, none of which begins with another or with the right one.

    A result that begins with another, as 82 with 8, can never be the likelier continuation.
    """
    right = problem.answer
    _, slip = _steps(problem, forgets_carry=True)
    near = [right + off for off in (-20, -11, -10, -9, -3, -2, -1, 1, 2, 3, 9, 10, 11, 20)]
    rng.shuffle(near)
    candidates = dict.fromkeys([slip, *near])
    wrong = [x for x in candidates if x > 0 and x != right and len(str(x)) == len(str(right))]
    return wrong[:3]


def _flawed(problem: Problem, rng: random.Random) -> tuple[FlawedResponse, ...]:
    right = problem.answer
    steps, _ = _steps(problem)
    bad_steps, slip = _steps(problem, forgets_carry=True)
    wrong, other = rng.sample(_wrong_answers(problem, rng), 2)
    flawed = [
        FlawedResponse(_response(steps, wrong), "right steps, wrong final answer"),
        FlawedResponse(f"The answer is {right}.", "no steps"),
        FlawedResponse(f"The answer is {other}.", "no steps, wrong answer"),
        FlawedResponse(add_small_talk(_response(steps, right), str(problem)), "small talk first"),
    ]
    if slip != right:
        flawed.append(FlawedResponse(_response(bad_steps, slip), "forgets the carry"))
    if numeric(steps, str(right)).score != 1.0:  # a single column ends with the answer anyway
        flawed.append(FlawedResponse(steps, "no final answer"))
    return tuple(flawed)


def _story(problem: Problem, rng: random.Random) -> Story | None:
    """Return a story with its blanks filled; None where it would read `1 apples`."""
    if 1 in (problem.left, problem.right, problem.answer):
        return None
    story = rng.choice([story for story in _STORIES if story.sign == problem.sign])
    blanks = {
        "name": rng.choice(_NAMES),
        "things": rng.choice(_THINGS),
        "left": str(problem.left),
        "right": str(problem.right),
    }
    told, question, closing = (
        text.format(**blanks) for text in (story.told, story.question, story.closing)
    )
    return Story(story.sign, told, question, closing, blanks["things"])


def _told(problem: Problem, rng: random.Random) -> str:
    story = _story(problem, rng)
    if story is None:
        return _stated(problem, rng)
    return f"{story.told} {story.closing} {problem.answer} {story.things}"


def _stated(problem: Problem, rng: random.Random) -> str:
    if rng.random() < _SHARE_SPOKEN:
        return f"{problem.spoken} is {problem.answer}"
    return f"{problem} = {problem.answer}"


def _all_forms(family: Problem, rng: random.Random) -> str:
    forms = _forms(family)
    rng.shuffle(forms)
    return "\n".join(f"{form} = {form.answer}" for form in forms)


def _worked(problem: Problem, story: Story | None, rng: random.Random) -> tuple[str, str]:
    """Return how a document with steps begins, in a story or under a title, and how it goes on."""
    steps, result = _steps(problem)
    if story is not None:
        return story.told, f" {steps} {story.closing} {result} {story.things}."
    title = rng.choice((problem.spoken, f"{problem} in columns"))
    return title, f"\n{steps} So {problem} = {result}."


def _tables(rng: random.Random) -> list[str]:
    """Return what a number gives with each single digit, as it is learned at school."""
    tables: list[str] = []
    for number in range(1, 11):
        rows = [
            [Problem(number, "+", other) for other in range(1, 11)],
            [Problem(number + other, "-", number) for other in range(1, 11)],
            [Problem(number, "*", other) for other in range(2, 10)],
        ]
        for row in rows:
            rng.shuffle(row)
            tables.append("\n".join(f"{problem} = {problem.answer}" for problem in row))
    return tables
