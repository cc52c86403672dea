"""Questions with lettered options, as MMLU asks them (Hendrycks et al. 2021).

A row is `question`, its choices and the right one, as `eval.tasks.options` reads them; a `subject`
becomes the item's group. Scored by which letter is likeliest, and by which letter a response
settles on. Where several options are right (`BC`), a response must name all of them and no other,
and the likeliest is looked for among all sets of as many letters.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar

from eval.task import Example, Metric, Split
from eval.tasks.benchmark import BenchmarkTask, Row, Rows, digest
from eval.tasks.options import LETTERS, options_of, right_letters
from reward.verdict import Verdict
from reward.verifiers.choice import choice

_ONE = "Answer with the letter of the right option."
_SEVERAL = "Several options are right. Answer with their letters."


class MultipleChoice(BenchmarkTask):
    """Anybody's questions in a file. options: the most that a question has."""

    name = "multiple_choice"
    version = 3
    summary = "questions with lettered options"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 32

    def __init__(self, _rows: Mapping[Split, Rows], options: int = 4) -> None:
        super().__init__(_rows)
        self.letters = offered(options)

    def example(self, row: Row) -> Example:
        """Read one question; RowsError where its answer is none of its choices."""
        question = row.text("question").strip()
        group = row.text("subject") if row.fields.get("subject") else ""
        return lettered(row, question, self.name, self.letters, group=group)

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the letters that the response settles on, or the options that it names."""
        return choice(response, reference, letters=self.letters)

    def remark(self) -> str:
        """Say how many questions have several right options."""
        examples = [each for split in self.splits for each in self.examples(split)]
        number = sum(len(each.response) > 1 for each in examples)
        return f"{number} with several right options" if number else ""


class Mmlu(MultipleChoice):
    """57 subjects from school to profession; demonstrations are the five published of each."""

    name = "mmlu"
    summary = "multiple choice in 57 subjects"
    hub = "cais/mmlu"
    subset = "all"
    hub_splits: ClassVar[dict[Split, str]] = {
        "train": "dev",
        "validation": "validation",
        "test": "test",
    }


def offered(options: int) -> str:
    """Return the letters of so many options; ValueError for a number that has none."""
    if not 2 <= options <= len(LETTERS):
        raise ValueError(f"options is from 2 to {len(LETTERS)}, not {options}")
    return LETTERS[:options]


def lettered(
    row: Row, question: str, task: str, letters: str, *, answer: str | None = None, group: str = ""
) -> Example:
    """Return a question with its options below it. answer: the column that says what is right."""
    options = options_of(row, most=len(letters), task=task)
    right = right_letters(row, options, answer)
    asked = f"{question}\n{options.listed}"
    others = ("".join(each) for each in combinations(options.letters, len(right)))
    return Example(
        id=f"{task} {digest(question, *options.texts)}",
        prompt=f"{asked}\n{_ONE if len(right) == 1 else _SEVERAL}",
        response=right,
        reference=f"{right}\n{options.listed}",
        document=f"{asked}\nAnswer:",
        continuation=f" {right}",
        distractors=tuple(f" {each}" for each in others if each != right),
        group=group,
    )
