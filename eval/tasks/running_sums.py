"""Sums of many digits, said at once or with a running total: what steps are worth. A skill task.

Documents state the same question in two ways, `Sum a3 b8 c5 =` and `Add a3 b8 c5 :`, and only the
second one goes on with steps: the words of a prompt choose. Each step rewrites a label with its
digit and gives the total so far, so that it needs one small sum and the place of the next label.
Documents have sums of two digits on, so that a label's digit is first found among few others.
Sums of the same digits in any order are twins. Not a test of columns and carries: see `arithmetic`.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from eval.task import STEP_BY_STEP, Example, FlawedResponse, Split, Task, split_of
from eval.tasks.lists import in_lists
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric

_LABELS = "abcdefghijk"  # eleven digits: their total has no more than two
_FEWEST = 6  # digits, so that there are sums enough of each length without twins
_FEWEST_LENGTHS = 3
_FEWEST_DOCUMENTED = 2  # without the short ones copying is learnt later or, in some runs, never
_NUM_EXAMPLES: dict[Split, int] = {"train": 3_000, "validation": 300, "test": 1_500}
_NUM_DOCUMENTED = 4_000  # sums that one pass of documents states, and as many that it works out
_SHARE_ASKED = 0.5  # of demonstrations are asked for step by step
_SHARE_DIRECT = 0.75  # of the writers of the others, who say only the result
# Here as in documents ` :` follows the last digit: models find a digit by the token after it, too.
_QUESTIONS = ("{} : what is the sum?", "{} : sum them up.", "{} : how much is it together?")


@dataclass(frozen=True)
class Sum:
    """Digits to be added, each with a label: the first is a, the second b."""

    digits: tuple[int, ...]

    def __str__(self) -> str:
        return " ".join(
            f"{label}{digit}" for label, digit in zip(_LABELS, self.digits, strict=False)
        )

    @property
    def id(self) -> str:
        """The digits in order of size."""
        return " ".join(map(str, sorted(self.digits)))

    @property
    def split(self) -> Split:
        """The split of all sums of these digits."""
        return split_of(f"running_sums {self.id}")

    @property
    def steps(self) -> str:
        """Each label and digit with the total up to it: `a3 03 b8 11 c5 16`."""
        return self.steps_off(len(self.digits), 0)

    def steps_off(self, place: int, error: int) -> str:
        """Return the steps with an error in the total from a place on."""
        parts: list[str] = []
        total = 0
        for number, (label, digit) in enumerate(zip(_LABELS, self.digits, strict=False)):
            total += digit + (error if number == place else 0)
            parts.append(f"{label}{digit} {total:02}")
        return " ".join(parts)


class RunningSums(Task):
    """Sums of `fewest` to `most` digits, at least three lengths."""

    name = "running_sums"
    version = 3
    kind = "skill"
    summary = "sums of many digits, at once or with a running total"
    max_new_tokens = 80
    document_stop: ClassVar[tuple[str, ...]] = ("\n",)
    worked_stop: ClassVar[tuple[str, ...]] = ("\n",)
    group_unit: ClassVar[str] = "digits"

    def __init__(self, fewest: int = 6, most: int = 9) -> None:
        if not (fewest >= _FEWEST and fewest + _FEWEST_LENGTHS <= most + 1 <= len(_LABELS) + 1):
            raise ValueError(
                f"fewest is at least {_FEWEST}, most at most {len(_LABELS)}, with "
                f"{_FEWEST_LENGTHS} lengths or more between them; not {fewest} and {most}"
            )
        self.fewest, self.most = fewest, most
        self.max_new_tokens = 8 * most + 8

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield sums of the split, no two of them twins, as many of each length."""
        rng = random.Random(f"running_sums {split}")
        seen: set[str] = set()
        while len(seen) < _NUM_EXAMPLES[split]:
            drawn = self._drawn(split, rng, length=self.fewest + len(seen) % self._num_lengths)
            if drawn.id not in seen:
                seen.add(drawn.id)
                yield _example(drawn, rng)

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples; half of them, by their id, are asked for step by step.

        Of the others most writers say only the result, and some work it out unasked.
        """
        for example in super().demonstrations(split):
            drawn = hashlib.sha256(f"writer of {example.id}".encode()).digest()
            if drawn[0] / 256 < _SHARE_ASKED:
                yield replace(example, prompt=f"{example.prompt}\n{STEP_BY_STEP}")
            elif drawn[1] / 256 < _SHARE_DIRECT:
                yield replace(example, response=example.reference)
            else:
                yield example

    def documents(self, seed: int) -> Iterator[str]:
        """Yield lists of sums of the training split, all of a list stated or all worked out."""
        rng = random.Random(f"running_sums documents {seed}")
        stated: list[str] = []
        worked: list[str] = []
        for _ in range(_NUM_DOCUMENTED):
            example = _example(self._documented(rng), rng)
            stated.append(example.document + example.continuation)
            example = _example(self._documented(rng), rng)
            worked.append(example.worked_document + example.worked_continuation)
        documents = in_lists(stated, rng) + in_lists(worked, rng)
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the response's final number with the reference."""
        return numeric(response, reference)

    @property
    def _num_lengths(self) -> int:
        return self.most - self.fewest + 1

    def _documented(self, rng: random.Random) -> Sum:
        """Draw a sum of the training split for a document, of any length up to the longest."""
        return self._drawn("train", rng, rng.randint(_FEWEST_DOCUMENTED, self.most))

    def _drawn(self, split: Split, rng: random.Random, length: int) -> Sum:
        """Draw a sum of the split and of a length."""
        while True:
            drawn = Sum(tuple(rng.randint(0, 9) for _ in range(length)))
            if drawn.split == split:
                return drawn


def _example(asked: Sum, rng: random.Random) -> Example:
    answer = sum(asked.digits)
    place = rng.randrange(len(asked.digits))
    error = rng.choice((-1, 1))
    return Example(
        id=asked.id,
        prompt=rng.choice(_QUESTIONS).format(asked),
        response=f"{asked.steps} = {answer}",
        reference=str(answer),
        document=f"Sum {asked} =",
        continuation=f" {answer}",
        flawed=(
            FlawedResponse(f"{asked.steps} = {answer + error}", "right steps, wrong result"),
            FlawedResponse(f"{asked.steps_off(place, error)} = {answer + error}", "a wrong step"),
            FlawedResponse(str(answer - error), "no steps, wrong result"),
        ),
        group=f"{len(asked.digits)}",
        worked_document=f"Add {asked} :",
        worked_continuation=f" {asked.steps} = {answer}",
    )
