"""Stage `judgements`: pairs that people labelled, as questions to a judge with the right answers.

What a model learns by `sft` to become a judge: it is asked which of two responses is better, in the
words that `judge:` of the same rubric asks in, each pair in both orders. A reward model learns from
such pairs without a word (reward_model). Not the judging itself (label).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pipeline.config.blocks import DataBlock, DataBlocks
from pipeline.config.judge import HELPFUL, Principles
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import Makes, StageConfig
from pipeline.data.making.rows import COMPLETION, tasks_behind, write_rows
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.data.reading.records import PreferenceRow
    from reward.judges.constitution import Constitution

_MAKES = Makes("prompt_completion", (*COMPLETION, "source"))


class JudgementsConfig(StageConfig):
    """data: pairs of a chosen and a rejected response, of which is known which is better.

    rubric: what makes a response good, in the words that the judge will be asked with.
    principles: a constitution in its place, one principle of which is drawn for each pair; a list,
    or a YAML file with one.
    """

    stage: Literal["judgements"]
    data: DataBlocks
    rubric: Annotated[str, Field(min_length=1)] = HELPFUL
    principles: Principles = ()

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The pairs that it reads."""
        return self.data

    @property
    def makes(self) -> Makes:
        """What rows it makes."""
        return _MAKES


def run(config: JudgementsConfig, context: StageContext) -> StageResult:
    """Write two rows a pair, one for each order."""
    from pipeline.config.judge_principles import read_principles
    from pipeline.data.mixing import mix_rows, share_metrics
    from pipeline.data.reading.records import DroppedRow, PreferenceRow
    from pipeline.data.training_sources import row_sources
    from reward.judges.constitution import Constitution

    sources = row_sources(config.data, context.places, STAGE.data_forms, context.screen)
    records, shares = mix_rows(sources, seed=context.seed)
    labels = [share.label for share in shares for _ in range(share.num_rows)]
    principles = read_principles(config.principles, context.places)
    criterion = Constitution(principles, context.seed) if principles else config.rubric
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for record, source in zip(records, labels, strict=True):
        if isinstance(record, PreferenceRow):
            rows += _judgements(record, source, criterion)
        elif isinstance(record, DroppedRow):
            dropped[record.why] += 1
    if not rows:
        message = f"none of {len(records)} rows is a pair"
        raise PosttrainError(context.name, message, "name other `data`")
    write_rows(context.out, rows, form=_MAKES.form)
    return StageResult(
        metrics={
            "judged_pairs": len(rows) // 2,
            "judgements": len(rows),
            **({"left_out": dict(dropped)} if dropped else {}),
            **share_metrics(shares, "pairs"),
        },
        properties={"data_form": _MAKES.form, "tasks": tasks_behind(config.data, context)},
    )


def _judgements(
    pair: PreferenceRow, source: str, criterion: str | Constitution
) -> Iterator[dict[str, Any]]:
    """Yield the question with either response first, each with its answer."""
    from pipeline.data.reading.shown_prompts import show_prompt_of
    from reward.judges.pairwise import FIRST, SECOND, Pair, comparison_requests

    prompt = show_prompt_of(pair)
    asked = Pair(
        prompt, pair.chosen, pair.rejected, key=f"{prompt}\n{pair.chosen}\n{pair.rejected}"
    )
    words = criterion if isinstance(criterion, str) else criterion.draw(asked.key)
    for request, answer in zip(comparison_requests(asked, words), (FIRST, SECOND), strict=True):
        yield {
            "prompt": [{"role": role, "content": content} for role, content in request.messages],
            "completion": [{"role": "assistant", "content": answer}],
            "source": source,
        }


STAGE = Stage(
    config=JudgementsConfig,
    run=run,
    produces="data",
    version=2,
    data_forms=("preference",),
    uses_device=False,
)
