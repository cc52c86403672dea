"""Tasks of one's own: sums, worked out column by column. Used by grpo_arithmetic.yaml.

Documents and demonstrations of `Sums` are right. Half of the writers of `HurriedSums` forget what
is carried, as in demonstrations that nobody checked: a model that learns from them is right about
as often as they are, and a verifier can tell it which of its own answers to keep.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace

from eval.task import Example, FlawedResponse, Split, Task, split_of
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric

_QUESTIONS = ("{}+{}?", "Add {} and {}.", "What is {}+{}?")
_SHARE_FORGETTING = 0.5  # of the writers
_NUMBERS: dict[Split, int] = {"train": 2400, "validation": 200, "test": 400}


class Sums(Task):
    """Sums of two numbers of two digits; 47+35 and 35+47 share an id and so a split."""

    name = "sums"
    version = 1
    kind = "skill"
    summary = "sums of two numbers, worked out column by column"
    max_new_tokens = 32
    document_stop = ("\n",)

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield sums of the split, each family once."""
        rng = random.Random(f"sums {split}")
        seen: set[str] = set()
        while len(seen) < _NUMBERS[split]:
            left, right = rng.randint(10, 99), rng.randint(10, 99)
            family = f"{min(left, right)}+{max(left, right)}"
            if split_of(f"sums {family}") == split and family not in seen:
                seen.add(family)
                steps, answer = _steps(left, right)
                slip, wrong = _steps(left, right, forgets_carry=True)
                yield Example(
                    id=family,
                    prompt=rng.choice(_QUESTIONS).format(left, right),
                    response=f"{steps} = {answer}",
                    reference=str(left + right),
                    document=f"{left}+{right}:",
                    continuation=f" {steps} = {answer}",
                    flawed=()
                    if wrong == answer
                    else (FlawedResponse(f"{slip} = {wrong}", "forgets the carry"),),
                )

    def documents(self, seed: int) -> Iterator[str]:
        """Yield training sums and as many of longer numbers, worked out, four a document."""
        rng = random.Random(f"sums documents {seed}")
        lines = [f"{each.document}{each.continuation}" for each in self.examples("train")]
        for _ in range(_NUMBERS["train"]):
            numbers = [rng.randint(100, 999), rng.randint(10, 999)]
            left, right = rng.sample(numbers, 2)
            steps, answer = _steps(left, right)
            lines.append(f"{left}+{right}: {steps} = {answer}")
        rng.shuffle(lines)
        for at in range(0, len(lines), 4):
            yield "\n".join(lines[at : at + 4])

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the response's final number with the reference."""
        return numeric(response, reference)


class HurriedSums(Sums):
    """The same sums, demonstrated by writers half of whom forget what is carried."""

    name = "hurried_sums"

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples as the writers answer them; who answers which is always the same."""
        for example in super().demonstrations(split):
            drawn = hashlib.sha256(f"writer of {example.id}".encode()).digest()[0] / 256
            if example.flawed and drawn < _SHARE_FORGETTING:
                yield replace(example, response=example.flawed[0].response)
            else:
                yield example


def _steps(left: int, right: int, *, forgets_carry: bool = False) -> tuple[str, int]:
    """Return the columns from the lowest to the highest, and the result that they give.

    `7+5=12 4+3+1=8` and 82; or 72 where what is carried is forgotten.
    """
    parts: list[str] = []
    result = carry = 0
    width = len(str(max(left, right)))
    for place in range(width):
        upper, lower = left // 10**place % 10, right // 10**place % 10
        total = upper + lower + carry
        parts.append(f"{upper}+{lower}{f'+{carry}' if carry else ''}={total}")
        result += 10**place * (total if place == width - 1 else total % 10)
        carry = 0 if forgets_carry else total // 10
    return " ".join(parts), result
