"""Questions with lettered options, as MMLU asks them (Hendrycks et al. 2021).

A row is `question`, `choices` (a list of texts) and `answer` (the right one's index, or its
letter); a `subject` becomes the item's group. Scored by which letter is likeliest, and by which
letter a response settles on.
"""

from collections.abc import Mapping
from typing import ClassVar

from eval.task import Example, Metric, Split
from eval.tasks.benchmark import BenchmarkTask, Row, Rows, RowsError, digest
from reward.verdict import Verdict
from reward.verifiers.choice import choice

_LETTERS = "ABCDEFGHIJ"


class MultipleChoice(BenchmarkTask):
    """Anybody's questions in a file. options: the most that a question has."""

    name = "multiple_choice"
    version = 1
    summary = "questions with lettered options"
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 32

    def __init__(self, _rows: Mapping[Split, Rows], options: int = 4) -> None:
        super().__init__(_rows)
        if not 2 <= options <= len(_LETTERS):
            raise ValueError(f"options is from 2 to {len(_LETTERS)}, not {options}")
        self.letters = _LETTERS[:options]

    def example(self, row: Row) -> Example:
        """Read one question; RowsError where its answer is none of its choices."""
        question, choices = row.text("question").strip(), row.texts("choices")
        if not 2 <= len(choices) <= len(self.letters):
            raise RowsError(
                f"{row.where}: {len(choices)} choices; `{self.name}` takes 2 to "
                f"{len(self.letters)} (see its setting `options`)"
            )
        letters = self.letters[: len(choices)]
        right = _letter(row, letters)
        listed = [f"{one}. {text.strip()}" for one, text in zip(letters, choices, strict=True)]
        asked = "\n".join([question, *listed])
        subject = row.text("subject") if row.fields.get("subject") else ""
        return Example(
            id=f"{self.name} {digest(question, *choices)}",
            prompt=f"{asked}\nAnswer with the letter of the right option.",
            response=right,
            reference=right,
            document=f"{asked}\nAnswer:",
            continuation=f" {right}",
            distractors=tuple(f" {letter}" for letter in letters if letter != right),
            group=subject,
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the letter that the response settles on."""
        return choice(response, reference, letters=self.letters)


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


def _letter(row: Row, letters: str) -> str:
    """Return the letter of the right choice, given by its index or as a letter."""
    answer = row.fields.get("answer")
    if isinstance(answer, str) and answer.strip() in letters and answer.strip():
        return answer.strip()
    index = row.value("answer", int, f"an index or one of {letters}")
    if not 0 <= index < len(letters):
        raise RowsError(f"{row.where}: `answer` {index} is none of the {len(letters)} choices")
    return letters[index]
