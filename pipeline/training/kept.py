"""A stage's rows as token ids in files, encoded now if need be; where too few are left it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from pipeline.data.encoding.row_table import EncodedRow
from pipeline.data.kept_rows import encode_kept
from pipeline.data.screening.screen import Screen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipeline.config.stage import StageContext
    from pipeline.data.encoding.lengths import Limit
    from pipeline.data.kept_rows import KeptRows, Reading, RowKind

Row = TypeVar("Row", bound=EncodedRow)


def read_kept(
    kind: RowKind[Row],
    reading: Reading,
    tokenizer: PreTrainedTokenizerBase,
    limit: Limit,
    context: StageContext,
    *,
    may_be_none: bool,
) -> KeptRows[Row]:
    """Return the rows to train on and the held-out ones, as `encode_kept` does.

    Raises PosttrainError where the limit leaves too few rows.
    """

    def tell(what: str, done: int, of_about: int) -> None:
        context.stop_if_asked()
        context.progress(what, done, of_about)

    kept = encode_kept(
        kind,
        reading,
        tokenizer,
        limit,
        may_be_none=may_be_none,
        processes=torch.get_num_threads(),
        tell=tell,
        on_wait=context.stop_if_asked,
    )
    kept.report.refuse(context.name)
    if context.is_main and isinstance(context.screen, Screen):
        reading.screen(context.screen, on_row=context.stop_if_asked)
    return kept
