"""Rows with responses, parted: the prompt, the completion after it, and what of it is learnt.

Encoded as examples.py does, so that a completion's tokens are those that `sft` trains on. Imports
no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data.encoding.examples import IGNORED, ExampleEncoder
from pipeline.data.encoding.parts import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.data.encoding.examples import EncodedExample, EncodingReport
    from pipeline.data.encoding.lengths import Limit
    from pipeline.data.encoding.parts import Totals
    from pipeline.data.reading.records import Record


@dataclass(frozen=True)
class PartedAnswer:
    """A row: the ids before the first token that is learnt, those up to the last, and which are.

    A chat of several turns has its earlier answers in the completion, the user's turns between
    them not learnt. is_learnt: 1 or 0 for each token of the completion. rest: ids after the last
    one that is learnt, which count in the length alone.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    is_learnt: list[int]
    rest: list[int]
    where: str

    @property
    def length(self) -> int:
        """Its tokens."""
        return sum(map(len, (self.prompt_ids, self.completion_ids, self.rest)))

    @classmethod
    def of(cls, example: EncodedExample) -> PartedAnswer:
        """Part a row."""
        # The first token does not count: nothing predicts it.
        learnt = [n for n, label in enumerate(example.labels) if n and label != IGNORED]
        part = slice(learnt[0], learnt[-1] + 1)
        return cls(
            example.input_ids[: learnt[0]],
            example.input_ids[part],
            [int(label != IGNORED) for label in example.labels[part]],
            example.input_ids[part.stop :],
            example.where,
        )


class PartedAnswerEncoder:
    """Encodes rows with responses, and parts them. limit: of a whole row."""

    kind = PartedAnswer

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: Limit) -> None:
        self._examples = ExampleEncoder(tokenizer, limit)

    def part(self, records: Sequence[Record]) -> Part[PartedAnswer]:
        """Encode some rows."""
        whole = self._examples.part(records)
        rows = [PartedAnswer.of(example) for example in whole.rows]
        return Part(rows, whole.lengths, whole.counts, whole.where)

    def report(self, totals: Totals, *, name: str, may_be_none: bool) -> EncodingReport:
        """Return what became of the rows."""
        return self._examples.report(totals, name=name, may_be_none=may_be_none)
