"""The card of exported rows: what is in them, how they were made, what was left out.

Everything that a recipe or a data file can name is escaped, as on a model's card.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from pipeline.commands.export_rows import FILE
from pipeline.report.card import lineage_row, stages_behind, text, versions_text
from pipeline.report.card_data import datasets_of
from pipeline.report.made_rows import describe_made, made_headline
from pipeline.store.fingerprint import SHORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.commands.export_rows import RowsExport

_TEMPLATE = Path(__file__).with_name("rows_card.md.j2")
_WHAT = {
    "prompt_completion": "Responses of a language model to prompts",
    "preference": "Pairs of a better and a worse response to one prompt",
    "unpaired_preference": "Responses to prompts, each with whether it was wanted",
}
_MEANING = {
    "prompt": "what was asked: a text, or messages",
    "completion": "the response: a text that continues the prompt, or a message",
    "chosen": "the response with the higher score",
    "rejected": "the response with the lower score",
    "label": "whether the response is wanted",
    "score": "the weighted sum of the rewards",
    "scores": "what each reward says",
    "score_chosen": "of the better response",
    "score_rejected": "of the worse response",
    "probability": "how likely the chosen response is the better one, by the judge",
    "principle": "by which principle of the constitution it was judged",
    "judge": "which model compared the two",
    "original": "the response before it was criticised and revised",
    "critique": "what was found wrong with it",
    "revised_by": "by which principle it was revised",
    "source": "where the prompt is from",
    "sample": "which of the responses to the prompt this is, from 0",
    "finish": "how the response ended: eos, stop (a stop string), length (cut off)",
    "num_tokens": "tokens of the response",
    "reference": "what the task's verifier compares a response with",
    "out_of": "how many responses it was chosen from",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def rows_card(export: RowsExport, *, repository: str | None) -> str:
    """Return README.md. repository: its name on the hub, where it goes there."""
    from huggingface_hub import DatasetCard, DatasetCardData

    artifact, summary = export.artifact, export.summary
    chain = stages_behind(export.plan, export.planned.name)
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["text"] = text
    body = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=export.planned.name,
        kind=artifact.kind,
        recipe=export.plan.recipe.name,
        fingerprint=artifact.fingerprint[:SHORT],
        what=_WHAT.get(summary["form"], "Rows"),
        num_rows=summary["rows"],
        columns=[(name, _MEANING.get(name, "of the prompt's row")) for name in summary["columns"]],
        headline=made_headline(artifact.metrics),
        account=describe_made(artifact.metrics),
        repository=repository,
        lineage=[lineage_row(each) for each in chain],
        versions=versions_text(artifact.provenance),
    )
    data = DatasetCardData(
        tags=["posttrain", artifact.kind.replace("_", "-"), "synthetic"],
        task_categories=["text-generation"],
        size_categories=[_size(summary["rows"])],
        source_datasets=list(dict.fromkeys(datasets_of(chain))) or None,
        configs=[_config()],
    )
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _config() -> Mapping[str, Any]:
    return {"config_name": "default", "data_files": [{"split": "train", "path": FILE}]}


def _size(num_rows: int) -> str:
    return next((name for limit, name in _SIZES if num_rows < limit), "n>1M")
