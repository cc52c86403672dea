"""Rows with responses, parted: the prompt, the completion after it, and what of it is learnt.

Encoded as examples.py does, so that a completion's tokens are those that `sft` trains on. Imports
no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data.encoding.examples import IGNORED, encode_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

    from pipeline.data.encoding.examples import EncodingReport
    from pipeline.data.encoding.lengths import Limit
    from pipeline.data.reading.records import Record


@dataclass(frozen=True)
class EncodedAnswer:
    """A row: the ids before the first token that is learnt, those up to the last, and which are.

    A chat of several turns has its earlier answers in the completion, the user's turns between
    them not learnt.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    is_learnt: list[bool]


def encode_answers(
    records: Iterable[Record], tokenizer: PreTrainedTokenizerBase, *, limit: Limit
) -> tuple[list[EncodedAnswer], EncodingReport]:
    """Encode the rows of a source, and part them. limit: of a whole row.

    Raises PosttrainError as encode_records does.
    """
    examples, report = encode_records(records, tokenizer, limit=limit)
    answers: list[EncodedAnswer] = []
    for example in examples:
        # The first token does not count: nothing predicts it.
        learnt = [n for n, label in enumerate(example.labels) if n and label != IGNORED]
        part = slice(learnt[0], learnt[-1] + 1)
        answers.append(
            EncodedAnswer(
                example.input_ids[: learnt[0]],
                example.input_ids[part],
                [label != IGNORED for label in example.labels[part]],
            )
        )
    return answers, report
