"""The first rows of a source as a model sees them: what it reads, and what it is trained to write.

`posttrain check --show-mask` prints them and the report shows them: both read this.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.data.encoding.examples import encode_documents, encode_records, mask_segments
from pipeline.data.encoding.pairs import encode_pairs
from pipeline.data.encoding.prompts import encode_prompts
from pipeline.data.encoding.tokens import TextEncoder
from pipeline.data.encoding.unpaired import encode_unpaired
from pipeline.data.reading.data_blocks import read_records
from pipeline.data.reading.formats import PreferenceRow
from pipeline.data.reading.records import DroppedRow, PromptRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.model import Form
    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.references import Places
    from pipeline.data.encoding.examples import EncodingReport
    from pipeline.data.encoding.lengths import Limit
    from pipeline.data.encoding.pairs import PairsReport
    from pipeline.data.encoding.prompts import PromptsReport
    from pipeline.data.encoding.unpaired import AnswersReport

Segment = tuple[str, bool]  # a text, and whether the model is trained to write it
TO_BE_WRITTEN = "..."  # what stands for the response to a prompt that has none yet


@dataclass(frozen=True)
class PreviewRow:
    """One row. counts: its tokens, in words. texts: label and segments of each of its texts.

    flaw: of a pair, what is wrong with the rejected response. columns: of a prompt.
    """

    where: str
    counts: str
    texts: tuple[tuple[str, tuple[Segment, ...]], ...]
    flaw: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """The rows that fit, of those that were read. report: on all of these; None for documents."""

    rows: tuple[PreviewRow, ...]
    report: EncodingReport | PairsReport | AnswersReport | PromptsReport | None = None


def preview_block(
    block: DataBlock,
    places: Places,
    tokenizer: Any,
    forms: Sequence[DataForm],
    *,
    num_read: int,
    limit: Limit,
    form: Form = "document",
) -> Preview:
    """Encode the first rows of a source as a stage that reads these forms does.

    form: of the model, for prompts. Raises PosttrainError for rows that cannot be encoded.
    """
    if "prompt" in forms:
        return _preview_prompts(block, places, tokenizer, num_read, limit, form)
    if "unpaired_preference" in forms:
        return _preview_answers(block, places, tokenizer, forms, num_read, limit)
    if "preference" in forms:
        return _preview_pairs(block, places, tokenizer, num_read, limit)
    if tuple(forms) == ("text",):
        return _preview_documents(block, places, tokenizer, num_read)
    rows = islice(read_records(block, places, tuple(forms)), num_read)
    examples, report = encode_records(rows, tokenizer, limit=limit)
    shown: list[PreviewRow] = []
    for example in examples:
        num_trained = sum(label >= 0 for label in example.labels)
        counts = f"{len(example.input_ids)} tokens, {num_trained} trained"
        segments = tuple(mask_segments(example, tokenizer))
        shown.append(PreviewRow(example.where, counts, (("", segments),)))
    return Preview(tuple(shown), report)


def _preview_pairs(
    block: DataBlock, places: Places, tokenizer: Any, num_read: int, limit: Limit
) -> Preview:
    rows = (r for r in read_records(block, places, ("preference",)) if isinstance(r, PreferenceRow))
    pairs, report = encode_pairs(islice(rows, num_read), tokenizer, limit=limit)
    encoder = TextEncoder(tokenizer)
    shown: list[PreviewRow] = []
    for pair in pairs:
        counts = (
            f"prompt {len(pair.prompt_ids)} tokens, chosen {len(pair.chosen_ids)}, "
            f"rejected {len(pair.rejected_ids)}"
        )
        texts = (
            ("prompt", ((encoder.show(pair.prompt_ids), False),)),
            ("chosen", ((encoder.show(pair.chosen_ids), True),)),
            ("rejected", ((encoder.show(pair.rejected_ids), True),)),
        )
        shown.append(PreviewRow(pair.where, counts, texts, flaw=pair.flaw or ""))
    return Preview(tuple(shown), report)


def _preview_answers(
    block: DataBlock,
    places: Places,
    tokenizer: Any,
    forms: Sequence[DataForm],
    num_read: int,
    limit: Limit,
) -> Preview:
    rows = (r for r in read_records(block, places, forms) if not isinstance(r, DroppedRow))
    answers, report = encode_unpaired(islice(rows, num_read), tokenizer, limit=limit)
    encoder = TextEncoder(tokenizer)
    shown: list[PreviewRow] = []
    for answer in answers:
        prompt, response = answer.prompt_ids, answer.completion_ids
        texts = (
            ("prompt", ((encoder.show(prompt), False),)),
            ("wanted" if answer.is_desirable else "not wanted", ((encoder.show(response), True),)),
        )
        counts = f"prompt {len(prompt)} tokens, response {len(response)}"
        shown.append(PreviewRow(answer.where, counts, texts))
    return Preview(tuple(shown), report)


def _preview_prompts(
    block: DataBlock, places: Places, tokenizer: Any, num_read: int, limit: Limit, form: Form
) -> Preview:
    rows = (r for r in read_records(block, places, ("prompt",)) if isinstance(r, PromptRow))
    prompts, report = encode_prompts(islice(rows, num_read), tokenizer, limit=limit, form=form)
    encoder = TextEncoder(tokenizer)
    shown: list[PreviewRow] = []
    for prompt in prompts:
        counts = f"{len(prompt.ids)} tokens, a {'chat' if prompt.is_chat else 'text to continue'}"
        segments = ((encoder.show(prompt.ids), False), (TO_BE_WRITTEN, True))
        columns = tuple(prompt.columns)
        shown.append(PreviewRow(prompt.where, counts, (("", segments),), columns=columns))
    return Preview(tuple(shown), report)


def _preview_documents(block: DataBlock, places: Places, tokenizer: Any, num_read: int) -> Preview:
    shown: list[PreviewRow] = []
    for ids in encode_documents(
        islice(read_records(block, places, ("text",)), num_read), tokenizer
    ):
        text = str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))
        shown.append(PreviewRow("", f"{len(ids)} tokens, all trained", (("", ((text, True),)),)))
    return Preview(tuple(shown))
