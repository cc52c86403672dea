"""What a judge said of the pairs that a labeller decided: by scores, by thumbs or by pairs.

Read from the rows of a stage `label`, or of a file. Never shown while somebody labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.reading.files import file_rows
from pipeline.data.reading.responses import question_of, response_row
from pipeline.feedback.decisions import text_of
from pipeline.feedback.pairs import digest, pair_key
from pipeline.feedback.sources import halves

if TYPE_CHECKING:
    from pathlib import Path

    from eval.statistics.agreement import Verdict
    from pipeline.feedback.decisions import Decision


class Votes:
    """A judge's verdicts. name: of the stage that made them, or of the file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._chosen: dict[str, str] = {}  # text by key of the pair
        self._scores: dict[str, float] = {}  # by prompt and text
        self._thumbs: dict[str, float] = {}

    def on(self, decision: Decision) -> Verdict | None:
        """Return which response of a decided pair the judge prefers; None where it has no say.

        Two thumbs up are no tie: they do not say that the responses are equally good.
        """
        texts = text_of(decision.first), text_of(decision.second)
        if decision.pair in self._chosen:
            return "first" if self._chosen[decision.pair] == texts[0] else "second"
        question = question_of({"prompt": decision.prompt, **decision.columns})
        for values, can_tie in ((self._scores, True), (self._thumbs, False)):
            first, second = (values.get(_key(question, text)) for text in texts)
            if first is None or second is None:
                continue
            if first != second:
                return "first" if first > second else "second"
            if can_tie:
                return "tie"
        return None

    def take(self, fields: dict[str, Any], question: str, texts: list[str]) -> None:
        """Take what a row says of one response, or of two of which the first is preferred."""
        if len(texts) == 2:
            self._chosen[pair_key(question, *texts)] = texts[0]
            return
        for name, values in (("score", self._scores), ("label", self._thumbs)):
            value = fields.get(name)
            if isinstance(value, bool | int | float):
                values[_key(question, texts[0])] = float(value)

    def __len__(self) -> int:
        """How many things were said."""
        return len(self._chosen) + len(self._scores) + len(self._thumbs)


def read_votes(path: Path, name: str) -> Votes:
    """Return what the rows of a stage or a file say of responses; they may say nothing."""
    votes = Votes(name)
    for row in file_rows(path, name):
        rows = [response_row(half, name) for half in halves(row)]
        votes.take(row.fields, rows[0].question, [half.text for half in rows])
    return votes


def _key(question: str, text: str) -> str:
    return digest(f"{digest(question)}{text}")
