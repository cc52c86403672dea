"""Sums and products, some too long to be done in the head: what a calculator is for. A skill task.

Half of the problems take a tool: products of numbers of several digits, sums of longer ones. The
other half need none, however long the number: times one, plus or minus nothing. So whether to call
has to be read from both numbers. Demonstrations come from several writers: one in
ten never calls (and is right, which no model can learn of long numbers), half of them call for easy
problems too. When to call is left to training on rewards. Graded is the answer, not how it was
found. 483 * 17 and 17 * 483 share an id and so a split; no training text calculates a test item.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from eval.task import Example, FlawedResponse, Split, Task, ToolStep, split_of
from eval.tasks.arithmetic import Problem
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric

# As the tool `calculator` describes itself; written out, since that takes transformers.
CALCULATOR: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Compute the value of an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "description": (
                        "Numbers with + - * / // % ** and brackets, such as 12*(34+5)."
                    ),
                }
            },
            "required": ["expression"],
        },
        "return": {"type": "string"},
    },
}
_QUESTIONS = ("What is {}?", "Calculate {}.", "How much is {}?", "Work out {}.")
# How a document comes to a call, and goes on: in many ways, so that copying is learnt, not a form.
_ASKED = (
    "{}:",
    "To work out {} type",
    "Somebody who is asked for {} may write",
    "How much {} is can be looked up:",
    "The problem {} is long. So",
)
_TOLD = (", so {problem} = {answer}", ". The answer is {answer}.", ": it is {answer}.")
_DOCUMENTS = 4_000  # of a pass
_SHARE_PRODUCTS = 0.6  # of the long problems
_SHARE_CALLING = {True: 0.9, False: 0.5}  # of the writers, where a tool is needed or not


class ToolArithmetic(Task):
    """Products of numbers of up to `max_digits` digits, sums of one or two digits more, easy ones.

    tools: whether the demonstrations have a calculator; without, all are answered in the head.
    """

    name = "tool_arithmetic"
    version = 1
    kind = "skill"
    summary = "sums and products, half of them too long to be done without a calculator"
    max_new_tokens = 48
    document_stop = ("\n", ".")

    def __init__(self, max_digits: int = 3, tools: bool = True) -> None:
        if max_digits not in (2, 3, 4):
            raise ValueError(f"max_digits is 2, 3 or 4, not {max_digits}")
        self.max_digits = max_digits
        self.tools = (CALCULATOR,) if tools else ()

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield problems that need a tool and problems that do not, by turns."""
        rng = random.Random(f"tool arithmetic {split}")
        easy = [problem for problem in self._easy() if _split(problem) == split]
        rng.shuffle(easy)
        seen: set[str] = set()
        for problem in easy:
            long = self._long(rng, split)
            while _family(long) in seen:
                long = self._long(rng, split)
            seen.add(_family(long))
            yield _example(long, rng, needs_tool=True)
            yield _example(_either_way(problem, rng), rng, needs_tool=False)

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples; most writers, by the prompt, call the calculator first."""
        for example in super().demonstrations(split):
            share = _SHARE_CALLING[bool(example.needs_tool)]
            if self.tools and _fraction(f"writer of {example.prompt}") < share:
                expression = example.document.removesuffix(" =")
                step = ToolStep("calculator", {"expression": expression}, example.reference)
                yield replace(example, tool_steps=(step,))
            else:
                yield example

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of problems of the training split, worked out with a calculator.

        An easy one is as often just stated.
        """
        rng = random.Random(f"tool arithmetic documents {seed}")
        easy = [problem for problem in self._easy() if _split(problem) == "train"]
        for _ in range(_DOCUMENTS):
            lines: list[str] = []
            for _ in range(rng.randint(2, 4)):
                if rng.random() < 0.5:
                    lines.append(_logged(self._long(rng, "train"), rng))
                else:
                    problem = _either_way(rng.choice(easy), rng)
                    lines.append(_logged(problem, rng) if rng.random() < 0.5 else _stated(problem))
            yield "\n".join(lines)

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the response's final number with the reference."""
        return numeric(response, reference)

    def _long(self, rng: random.Random, split: Split) -> Problem:
        """Draw a problem of a split that is too long for the head."""
        while True:
            if rng.random() < _SHARE_PRODUCTS:
                sizes = [rng.randint(2, self.max_digits) for _ in range(2)]
                left, right = (rng.randint(10 ** (size - 1) + 1, 10**size - 1) for size in sizes)
                problem = Problem(left, "*", right)
                is_long = sum(sizes) > self.max_digits + 1 and left % 10 > 0 and right % 10 > 0
            else:
                size = self.max_digits + rng.randint(1, 2)
                left, right = (rng.randint(10 ** (size - 1), 10**size - 1) for _ in range(2))
                problem, is_long = Problem(left, "+", right), True
            if is_long and _split(problem) == split:
                return problem

    def _easy(self) -> list[Problem]:
        """Return all problems that can be done by looking, the longer number first."""
        return [
            problem
            for number in range(11, 10**self.max_digits)
            for problem in (
                Problem(number, "*", 1),
                Problem(number, "+", 0),
                Problem(number, "-", 0),
            )
        ]


def _split(problem: Problem) -> Split:
    return split_of(f"tool arithmetic {_family(problem)}")


def _family(problem: Problem) -> str:
    """Return the id that twins share, which are the same two numbers the other way round."""
    low, high = sorted((problem.left, problem.right))
    return f"{low} {problem.sign} {high}"


def _either_way(problem: Problem, rng: random.Random) -> Problem:
    """Return the problem, or its twin with the other number first; nothing goes below zero."""
    if rng.random() < 0.5 or problem.sign == "-":
        return problem
    return Problem(problem.right, problem.sign, problem.left)


def _example(problem: Problem, rng: random.Random, *, needs_tool: bool) -> Example:
    right = problem.answer
    wrong = [right + off for off in (-100, -10, -1, 1, 10, 100) if right + off > 0]
    first, second = rng.sample(wrong, 2)
    return Example(
        id=_family(problem),
        prompt=rng.choice(_QUESTIONS).format(problem),
        response=_response(right),
        reference=str(right),
        document=f"{problem} =",
        continuation=f" {right}",
        flawed=(
            FlawedResponse(_response(first), "wrong answer"),
            FlawedResponse(_response(second), "another wrong answer"),
            FlawedResponse("That is too long for me.", "no answer"),
        ),
        group="long" if needs_tool else "easy",
        needs_tool=needs_tool,
    )


def _response(answer: int) -> str:
    return f"The answer is {answer}."


def _stated(problem: Problem) -> str:
    return f"{problem} = {problem.answer}"


def _logged(problem: Problem, rng: random.Random) -> str:
    """Write what somebody works out with a calculator; a call in a chat looks the same."""
    asked = rng.choice(_ASKED).format(problem)
    call = f'calculator(expression="{problem}")'
    told = rng.choice(_TOLD).format(problem=problem, answer=problem.answer)
    return f"{asked} {call} gives {problem.answer}{told}"


def _fraction(key: str) -> float:
    """Return a number in [0, 1) by the hash of the key: the same on every machine, forever."""
    return int.from_bytes(hashlib.sha256(f"tool arithmetic {key}".encode()).digest()[:6]) / 2**48
