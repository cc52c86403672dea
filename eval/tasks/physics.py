"""Speed and distance, falling stones, levers: laws put to small whole numbers. A skill task.

The products and quotients that the laws need stand in bare tables, which are always training
material; a test asks for a law put to numbers that no text has put it to. All questions about the
same numbers under the same law are one family and so in one split: 6 m/s for 7 s, 42 m at 6 m/s
and 42 m in 7 s. Bodies fall without air, 10 m/s faster each second.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from eval.task import Example, FlawedResponse, Metric, Split, Task, split_of
from eval.tasks.asked_for_steps import ask_for_steps
from eval.tasks.lists import in_lists
from eval.tasks.physics_wordings import LAWS, THINGS, WORDINGS, Sign, Step, Wording
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric

_NUM_TOLD = 2  # times that one pass of documents states a problem, and works it out
_NUM_TABLES = 3  # times that it lists each table


@dataclass(frozen=True)
class Problem:
    """A wording with numbers.

    id: shared by problems with one answer by the same reasoning (6 m/s for 7 s, 7 m/s for 6 s).
    family: shared by all problems with the same numbers under the same law.
    """

    id: str
    family: str
    asked: str
    known: dict[str, int]

    @property
    def wording(self) -> Wording:
        """How the quantity is asked for."""
        return WORDINGS[self.asked]

    @property
    def answer(self) -> int:
        """The quantity that is asked for."""
        return self.worked[1]

    @property
    def worked(self) -> tuple[str, int]:
        """The steps, as `distance = speed * time = 6 * 7 = 42.`, and their result."""
        return _worked(self.wording.steps, self.known)

    @property
    def split(self) -> Split:
        """The split of the family."""
        return split_of(f"physics {self.family}", validation=0.12, test=0.3)


class Physics(Task):
    """Questions about three laws, with factors up to `max_number`, one of them at most 9."""

    name = "physics"
    version = 2
    kind = "skill"
    summary = "speed and distance, falling stones and levers in small whole numbers"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 72
    document_stop = ("\n", ".")

    def __init__(self, max_number: int = 15) -> None:
        if not 12 <= max_number <= 25:
            raise ValueError(f"max_number is 12 to 25, not {max_number}")
        self.max_number = max_number

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield each problem once for each question wording in train, else once."""
        rng = random.Random(f"physics {split}")
        examples: list[Example] = []
        for twins in self._problems(split):
            questions = rng.choice(twins).wording.questions
            if split != "train":
                questions = (rng.choice(questions),)
            examples += [_example(rng.choice(twins), question, rng) for question in questions]
        rng.shuffle(examples)
        yield from examples

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples, some of them asked for step by step."""
        return ask_for_steps(super().demonstrations(split))

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of each training problem stated and worked out, the laws and the tables."""
        rng = random.Random(f"physics documents {seed}")
        stated: list[str] = []
        worked: list[str] = []
        for twins in self._problems("train"):
            for _ in range(_NUM_TOLD):
                stated.append(_stated(rng.choice(twins), rng))
                problem = rng.choice(twins)
                title = _filled(problem.wording.title, problem, _thing(problem, rng))
                worked.append(f"{title}\n{_response(problem)}")
        documents = in_lists(stated, rng) + in_lists(worked, rng, separator=self.worked_stop[0])
        documents += self._tables(rng)
        for law, laws in LAWS.items():
            for size in (2, 2, 3, 3, 4):
                documents.append(f"{law.capitalize()}\n{' '.join(rng.sample(laws, size))}")
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the response's final number with the reference; units are not read."""
        return numeric(response, reference)

    def _problems(self, split: Split) -> list[list[Problem]]:
        """Return the problems of the split, those with one id together."""
        problems = [*_motions(self._pairs()), *_falls(self.max_number), *_levers(self._pairs())]
        twins_by_id: dict[str, list[Problem]] = {}
        for problem in problems:
            if problem.split == split:
                twins_by_id.setdefault(problem.id, []).append(problem)
        return list(twins_by_id.values())

    def _pairs(self) -> list[tuple[int, int]]:
        """Return the pairs of factors, the smaller one first."""
        return [
            (small, large)
            for small in range(2, 10)
            for large in range(max(small, 2), self.max_number + 1)
        ]

    def _tables(self, rng: random.Random) -> list[str]:
        """Return products, quotients, and the sums and differences of tens that falls need."""
        others = range(2, self.max_number + 1)
        gains = [10 * time for time in others]
        tables: list[list[str]] = []
        for factor in range(2, 11):
            tables.append([f"{factor} * {other} = {factor * other}" for other in others])
            tables.append([f"{other} * {factor} = {factor * other}" for other in others])
            tables.append([f"{factor * other} / {factor} = {other}" for other in others])
            tables.append([f"{factor * other} / {other} = {factor}" for other in others])
        for start in range(1, 10):
            tables.append([f"{start} + {gain} = {start + gain}" for gain in gains])
            tables.append([f"{start + gain} - {start} = {gain}" for gain in gains])
            tables.append([f"{start + gain} - {gain} = {start}" for gain in gains])
        tables.append([f"5 * {time * time} = {5 * time * time}" for time in range(2, 11)])
        copies = [table for table in tables for _ in range(_NUM_TABLES)]
        return [text for table in copies for text in in_lists(table, rng)]


def _motions(pairs: Sequence[tuple[int, int]]) -> Iterator[Problem]:
    for pair in pairs:
        family = "motion {} * {}".format(*pair)
        for speed, time in dict.fromkeys((pair, pair[::-1])):
            distance = speed * time
            known = {"speed": speed, "time": time}
            yield Problem(family, family, "distance", known)
            known = {"distance": distance, "speed": speed}
            yield Problem(f"motion {distance} m, {speed} m/s", family, "time", known)
            known = {"distance": distance, "time": time}
            yield Problem(f"motion {distance} m, {time} s", family, "speed", known)


def _falls(max_number: int) -> Iterator[Problem]:
    for time in range(2, max_number + 1):
        family = f"fall for {time} s"
        yield Problem(f"{family}: speed", family, "drop speed", {"time": time})
        yield Problem(f"{family}: time", family, "drop time", {"speed": 10 * time})
        if time <= 10:
            yield Problem(f"{family}: depth", family, "depth", {"time": time})
        for start in range(1, 10):
            speed = start + 10 * time
            thrown = f"{family} from {start} m/s"
            known = {"start": start, "time": time}
            yield Problem(f"{thrown}: speed", thrown, "thrown speed", known)
            known = {"start": start, "speed": speed}
            yield Problem(f"{thrown}: time", thrown, "thrown time", known)
            known = {"speed": speed, "time": time}
            yield Problem(f"{thrown}: start", thrown, "start", known)


def _levers(pairs: Sequence[tuple[int, int]]) -> Iterator[Problem]:
    """Yield each balance of two different pairs of factors with one product, loaded either way."""
    for one, other in combinations(pairs, 2):
        moment = one[0] * one[1]
        if moment != other[0] * other[1]:
            continue
        family = f"lever {one[0]} * {one[1]} = {other[0]} * {other[1]}"
        for load, effort in ((one, other), (other, one)):
            for weight, arm in dict.fromkeys((load, load[::-1])):
                for given in dict.fromkeys(effort):
                    known = {"weight": weight, "arm": arm}
                    asked = f"lever {load[0]} * {load[1]} / {given}"
                    yield Problem(f"{asked} m", family, "force", {**known, "distance": given})
                    yield Problem(f"{asked} N", family, "arm", {**known, "force": given})


def _worked(steps: Sequence[Step], known: dict[str, int]) -> tuple[str, int]:
    values = dict(known)
    texts: list[str] = []
    result = 0
    for name, left, sign, right in steps:
        one, other = (values[key] if key in values else int(key) for key in (left, right))
        match sign:
            case "+":
                result = one + other
            case "-":
                result = one - other
            case "*":
                result = one * other
            case "/":
                result = one // other
        values[name] = result
        texts.append(f"{name} = {left} {sign} {right} = {one} {sign} {other} = {result}.")
    return " ".join(texts), result


def _example(problem: Problem, question: str, rng: random.Random) -> Example:
    thing = _thing(problem, rng)
    wording = problem.wording
    wrong = _wrong_answers(problem, rng)
    return Example(
        id=problem.id,
        prompt=_filled(question, problem, thing),
        response=_response(problem),
        reference=str(problem.answer),
        document=_filled(wording.document, problem, thing),
        continuation=f" {problem.answer} {wording.unit}",
        distractors=tuple(f" {number} {wording.unit}" for number in wrong),
        flawed=_flawed(problem, wrong[0]),
        group=wording.law,
        worked_document=_filled(wording.title, problem, thing),
        worked_continuation=f"\n{_response(problem)}",
    )


def _response(problem: Problem) -> str:
    steps, answer = problem.worked
    return f"{steps} {_closing(problem, answer)}"


def _closing(problem: Problem, answer: int) -> str:
    return f"The answer is {answer} {problem.wording.unit}."


def _by_wrong_law(problem: Problem) -> tuple[str, int]:
    """Return the steps with the last quantity added instead of multiplied, and so on."""
    *steps, last = problem.wording.steps
    instead: dict[Sign, Sign] = {"+": "*", "-": "+", "*": "+", "/": "-"}
    return _worked([*steps, last._replace(sign=instead[last.sign])], problem.known)


def _wrong_answers(problem: Problem, rng: random.Random) -> list[int]:
    """Return three wrong results, with as many digits as the right one as far as there are."""
    right = problem.answer
    near = [right + off for off in (-20, -10, -3, -2, -1, 1, 2, 3, 10, 20)]
    rng.shuffle(near)
    candidates = dict.fromkeys([_by_wrong_law(problem)[1], *near])
    wrong = [number for number in candidates if number > 0 and number != right]
    return sorted(wrong, key=lambda number: len(str(number)) != len(str(right)))[:3]


def _flawed(problem: Problem, wrong: int) -> tuple[FlawedResponse, ...]:
    steps, right = problem.worked
    miscounted = f"{steps.removesuffix(f'{right}.')}{wrong}."
    wrong_steps, wrong_result = _by_wrong_law(problem)
    flawed = [
        FlawedResponse(f"{steps} {_closing(problem, wrong)}", "right steps, wrong final answer"),
        FlawedResponse(f"{miscounted} {_closing(problem, wrong)}", "wrong result of a step"),
        FlawedResponse(_closing(problem, right), "no steps"),
    ]
    if wrong_result != right:
        by_wrong_law = f"{wrong_steps} {_closing(problem, wrong_result)}"
        flawed.append(FlawedResponse(by_wrong_law, "wrong law"))
    return tuple(flawed)


def _stated(problem: Problem, rng: random.Random) -> str:
    start = _filled(problem.wording.document, problem, _thing(problem, rng))
    return f"{start} {problem.answer} {problem.wording.unit}"


def _thing(problem: Problem, rng: random.Random) -> str:
    return rng.choice(THINGS[problem.wording.law])


def _filled(text: str, problem: Problem, thing: str) -> str:
    blanks = {"a thing": thing, "A thing": thing.capitalize(), **problem.known}
    return text.format(**blanks)
