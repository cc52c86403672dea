"""Values of `not true or (false and true)`, and syllogisms about made-up things. A skill task.

An expression with a held-out one inside is held out as well, so that no test expression is ever
worked out as a part of another; single operators are always training material. Syllogisms are split
by their three nouns. Test answers are balanced: knowing only how answers look gets 1/2 of the
expressions (true, false) and 1/3 of the syllogisms (yes, no, unknown).
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

from eval.task import Example, FlawedResponse, Split, Task, split_of
from eval.tasks.asked_for_steps import ask_for_steps
from eval.tasks.lists import in_full_lists
from eval.tasks.logic_expressions import TRUTH, Expression, families, truth_table
from reward.verdict import Verdict
from reward.verifiers.text import find_names

Quantifier = Literal["all", "no", "some"]

_CONCLUSIONS = ("yes", "no", "unknown")
_NUM_TABLES = 12  # times that one pass of documents lists each table
_NUM_ORDERS = 4  # of its parts in which a training expression is asked at most
# Expressions of one number of operators and one value.
_NUM_FAMILIES: dict[Split, int] = {"train": 120, "validation": 40, "test": 60}
_NUM_CONCLUSIONS = 2  # training syllogisms for each three nouns and answer


@dataclass(frozen=True)
class Form:
    """Two premises about a, b and c, what follows for `Is an a a c?`, and why."""

    premises: tuple[tuple[Quantifier, str, str], tuple[Quantifier, str, str]]
    answer: str
    reason: str


@dataclass(frozen=True)
class Syllogism:
    """A form with its nouns for a, b and c."""

    form: Form
    nouns: tuple[str, str, str]

    @property
    def id(self) -> str:
        """The premises, in which `no a is b` and `no b is a` are the same, and the question."""
        told = [
            f"{quantifier} {' '.join(sorted(two) if quantifier == 'no' else two)}"
            for quantifier, *two in self.facts
        ]
        return f"{', '.join(sorted(told))}: {self.nouns[0]} {self.nouns[2]}"

    @property
    def facts(self) -> list[tuple[Quantifier, str, str]]:
        """The premises with nouns."""
        noun = dict(zip("abc", self.nouns, strict=True))
        return [(how, noun[one], noun[other]) for how, one, other in self.form.premises]

    @property
    def steps(self) -> str:
        """The reason with nouns."""
        return self.form.reason.format(**dict(zip("abc", self.nouns, strict=True)))

    def told(self, rng: random.Random) -> tuple[str, str]:
        """Return the premises in any order, as clauses without capital and full stop."""
        clauses = [rng.choice(_CLAUSES[how]).format(one, other) for how, one, other in self.facts]
        first, second = rng.sample(clauses, 2)
        return first, second


class Logic(Task):
    """Expressions of two to `max_operators` operators, and as many syllogisms."""

    name = "logic"
    version = 3
    kind = "skill"
    summary = "values of and, or and not, and what follows from two premises"
    max_new_tokens = 40
    document_stop = ("\n", ".")

    def __init__(self, max_operators: int = 3) -> None:
        if max_operators not in (3, 4):
            raise ValueError(f"max_operators is 3 or 4, not {max_operators}")
        self.max_operators = max_operators

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield each expression once, in train in several orders and all wordings; syllogisms."""
        rng = random.Random(f"logic {split}")
        examples: list[Example] = []
        for family in self._expressions(split, rng):
            orders = _some_orders(family, rng)
            if split == "train":
                examples += [
                    _expression_example(order, each) for order in orders for each in _QUESTIONS
                ]
            else:
                examples.append(_expression_example(orders[0], rng.choice(_QUESTIONS)))
        for syllogism in _syllogisms(split, rng):
            examples.append(_syllogism_example(syllogism, rng))
        rng.shuffle(examples)
        yield from examples

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples, some of them asked for step by step."""
        return ask_for_steps(super().demonstrations(split))

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of training expressions and syllogisms, stated or worked out, and tables."""
        rng = random.Random(f"logic documents {seed}")
        stated: list[str] = []
        worked: list[str] = []
        for family in self._expressions("train", rng):
            for order in _some_orders(family, rng):
                stated.append(f"The value of {order} is {order.value}")
                worked.append(f"Value of {order}\n{_expression_response(order)}")
        for syllogism in _syllogisms("train", rng):
            start, title = _syllogism_document(syllogism, rng)
            stated.append(f"{start} {syllogism.form.answer}")
            worked.append(f"{title}\n{_syllogism_response(syllogism)}")
        documents = in_full_lists(stated, rng) + in_full_lists(
            worked, rng, separator=self.worked_stop[0]
        )
        for _ in range(_NUM_TABLES):
            documents += in_full_lists(truth_table(), rng)
            documents += [f"{sign}\n{' '.join(rng.sample(said, 2))}" for sign, said in LAWS.items()]
        documents += in_full_lists(_single_premises(), rng)
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Read the one answer after `answer is`, or else the last answer word of all."""
        words = next((words for words in (TRUTH, _CONCLUSIONS) if reference in words), None)
        if words is None:
            return Verdict(None, None, f"`{reference[:80]}` is no answer to a question of logic")
        said = re.findall(r"\banswer is\b([^.\n]*)", response, re.IGNORECASE)
        if said:
            found = tuple(dict.fromkeys(word for part in said for word in find_names(part, words)))
        else:
            found = tuple(re.findall(rf"\b(?:{'|'.join(words)})\b", response.lower())[-1:])
        if not found:
            return Verdict(0.0, None, f"none of {', '.join(words)} in the response")
        answer = ", ".join(found)
        if len(found) > 1:
            return Verdict(0.0, answer, "more than one answer")
        if answer == reference:
            return Verdict(1.0, answer, "the expected answer")
        return Verdict(0.0, answer, f"expected {reference}")

    def _expressions(self, split: Split, rng: random.Random) -> list[Expression]:
        """Return expressions of the split, no two of a family, as many true as false ones."""
        found: dict[tuple[int, str], list[Expression]] = {}
        for family in families(self.max_operators):
            if family.split == split:
                found.setdefault((family.num_operators, family.value), []).append(family)
        chosen: list[Expression] = []
        for size in range(2, self.max_operators + 1):
            by_value = [found[size, value] for value in TRUTH]
            number = min(_NUM_FAMILIES[split], *map(len, by_value))
            chosen += [family for some in by_value for family in rng.sample(some, number)]
        return chosen


NOUNS = ("bip", "dak", "fep", "gub", "kiv", "lom", "mur", "nol", "pid", "rak", "tov", "wug")
FORMS = (
    Form((("all", "a", "b"), ("all", "b", "c")), "yes", "A {a} is a {b}, and a {b} is a {c}."),
    Form((("all", "a", "b"), ("no", "b", "c")), "no", "A {a} is a {b}, and no {b} is a {c}."),
    Form((("all", "a", "b"), ("no", "c", "b")), "no", "A {a} is a {b}, and no {c} is a {b}."),
    Form((("no", "a", "b"), ("all", "c", "b")), "no", "A {c} is a {b}, and no {a} is a {b}."),
    Form(
        (("all", "a", "b"), ("some", "b", "c")),
        "unknown",
        "A {a} is a {b}, but a {b} need not be a {c}.",
    ),
    Form(
        (("all", "a", "b"), ("all", "c", "b")),
        "unknown",
        "A {a} is a {b}, but a {b} need not be a {c}.",
    ),
    Form(
        (("some", "a", "b"), ("all", "b", "c")),
        "unknown",
        "A {b} is a {c}, but a {a} need not be a {b}.",
    ),
    Form(
        (("no", "a", "b"), ("all", "b", "c")),
        "unknown",
        "No {a} is a {b}, but a {c} need not be a {b}.",
    ),
)
LAWS = {
    "Not": (
        "Not makes true false and false true.",
        "Not true is false.",
        "Not false is true.",
    ),
    "And": (
        "And is true when both sides are true.",
        "And is false when a side is false.",
        "The order of the sides does not matter to and.",
    ),
    "Or": (
        "Or is true when a side is true.",
        "Or is false when both sides are false.",
        "The order of the sides does not matter to or.",
    ),
    "Brackets": (
        "What is inside the brackets is worked out first.",
        "Not belongs to what comes right after it.",
        "Each step works out one operator.",
    ),
}
_CLAUSES: dict[Quantifier, tuple[str, ...]] = {
    "all": ("every {} is a {}", "each {} is a {}"),
    "no": ("no {} is a {}",),
    "some": ("some {} is a {}",),
}
_QUESTIONS = (
    "What is the value of {}?",
    "True or false: {}?",
    "Evaluate {}.",
    "Work out {}.",
)
_SYLLOGISM_QUESTIONS = (
    "{First}. {Second}. Is a {a} a {c}?",
    "{First}. {Second}. Is a {a} a {c}? Say yes, no or unknown.",
    "Suppose that {first} and that {second}. Is a {a} a {c}?",
    "Is a {a} a {c}? We know that {first} and that {second}.",
)


def _syllogisms(split: Split, rng: random.Random) -> Iterator[Syllogism]:
    """Yield as many syllogisms with each answer, about nouns of the split."""
    for nouns in combinations(NOUNS, 3):
        if split_of(f"logic {' '.join(nouns)}", validation=0.15, test=0.25) != split:
            continue
        for answer in _CONCLUSIONS:
            possible = [
                Syllogism(form, (a, b, c))
                for form in FORMS
                if form.answer == answer
                for a, b, c in permutations(nouns)
            ]
            yield from rng.sample(possible, _NUM_CONCLUSIONS if split == "train" else 1)


def _some_orders(family: Expression, rng: random.Random) -> list[Expression]:
    orders = family.orders()
    return rng.sample(orders, min(len(orders), _NUM_ORDERS))


def _expression_example(expression: Expression, question: str) -> Example:
    value = expression.value
    steps = expression.steps()
    other = TRUTH[value == "true"]
    return Example(
        id=expression.canonical,
        prompt=question.format(expression),
        response=_expression_response(expression),
        reference=value,
        document=f"The value of {expression} is",
        continuation=f" {value}",
        distractors=(f" {other}",),
        flawed=(
            FlawedResponse(_closed(steps, other), "right steps, wrong final answer"),
            FlawedResponse(
                _closed(f"{steps.removesuffix(f'{value}.')}{other}.", other), "wrong last step"
            ),
            FlawedResponse(_closed("", value), "no steps"),
            FlawedResponse(_closed(steps, "true or false"), "does not decide"),
        ),
        group=f"{expression.num_operators} operators",
        worked_document=f"Value of {expression}",
        worked_continuation=f"\n{_expression_response(expression)}",
    )


def _expression_response(expression: Expression) -> str:
    return _closed(expression.steps(), expression.value)


def _closed(steps: str, answer: str) -> str:
    return f"{steps} The answer is {answer}.".lstrip()


def _syllogism_example(syllogism: Syllogism, rng: random.Random) -> Example:
    first, second = syllogism.told(rng)
    a, b, c = syllogism.nouns
    prompt = rng.choice(_SYLLOGISM_QUESTIONS).format(
        first=first, First=_capitalised(first), second=second, Second=_capitalised(second), a=a, c=c
    )
    answer = syllogism.form.answer
    wrong = [other for other in _CONCLUSIONS if other != answer]
    elsewhere = rng.choice([form for form in FORMS if form.answer != answer])
    document, title = _syllogism_document(syllogism, rng)
    return Example(
        id=syllogism.id,
        prompt=prompt,
        response=_syllogism_response(syllogism),
        reference=answer,
        document=document,
        continuation=f" {answer}",
        distractors=tuple(f" {other}" for other in wrong),
        flawed=(
            FlawedResponse(_closed(syllogism.steps, rng.choice(wrong)), "wrong conclusion"),
            FlawedResponse(
                _syllogism_response(Syllogism(elsewhere, (a, b, c))), "reason of other premises"
            ),
            FlawedResponse(_closed("", answer), "no steps"),
            FlawedResponse(_closed(syllogism.steps, " or ".join(_CONCLUSIONS)), "does not decide"),
        ),
        group="syllogism",
        worked_document=title,
        worked_continuation=f"\n{_syllogism_response(syllogism)}",
    )


def _syllogism_response(syllogism: Syllogism) -> str:
    return _closed(syllogism.steps, syllogism.form.answer)


def _syllogism_document(syllogism: Syllogism, rng: random.Random) -> tuple[str, str]:
    """Return how a document states it, up to the answer, and the title of one with reasons."""
    first, second = syllogism.told(rng)
    a, _, c = syllogism.nouns
    stated = f"{_capitalised(first)}. {_capitalised(second)}. A {a} is a {c}:"
    return stated, f"If {first} and {second}, is a {a} a {c}?"


def _single_premises() -> list[str]:
    """Return what one premise says of a single thing, for any two nouns."""
    lines: list[str] = []
    for one, other in permutations(NOUNS, 2):
        lines += [
            f"Every {one} is a {other}, so a {one} is a {other}",
            f"No {one} is a {other}, so no {other} is a {one}",
            f"Some {one} is a {other}, but a {one} need not be a {other}",
        ]
    return lines


def _capitalised(clause: str) -> str:
    return clause[0].upper() + clause[1:]
