"""What a stage on rollouts asks: its prompts as token ids, encoded once and read from files.

Where a row has a value that no text has (a picture, say), all are encoded in memory, every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.data.encoding.lengths import prompt_limit
from pipeline.data.encoding.prompts import PromptsReport, encode_prompts
from pipeline.data.encoding.row_table import EncodedRow
from pipeline.data.kept_rows import Reading
from pipeline.data.mixing import share_metrics
from pipeline.data.row_kinds import PARTED_ANSWERS, prompts_asked
from pipeline.data.screening.screen import Screen
from pipeline.data.training_sources import Mixture
from pipeline.rewards.responses import ORIGIN
from pipeline.rl.kept_prompts import KeptAnswers, KeptPrompts
from pipeline.rl.prompts import Prompt
from pipeline.stages.rl.unseen import evaluated_prompts, held_out_prompts
from pipeline.training.kept import read_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form
    from pipeline.config.field_types import DataForm
    from pipeline.config.stage import Stage, StageContext
    from pipeline.data.encoding.answers import PartedAnswer
    from pipeline.data.encoding.lengths import Limit, RowCounts
    from pipeline.data.encoding.prompts import EncodedPrompt
    from pipeline.data.kept_rows import KeptRows, RowKind
    from pipeline.data.reading.records import Record
    from pipeline.rl.config.base import RolloutConfig

Row = TypeVar("Row", bound=EncodedRow)


@dataclass(frozen=True)
class Asked:
    """Prompts of a stage.

    trained: what it learns at, as its trainer takes a data set. held_out: a few that it never
    trains on; evaluated: those that it is evaluated on while it trains. metrics: what became of
    all rows.
    """

    trained: Any
    held_out: list[Prompt]
    evaluated: Any
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Asking:
    """Reads a stage's prompts. config: a RolloutStage. args: its trainer's.

    positions: of what reads the rows, None for no limit. form, told: as `encode_prompts` has them.
    """

    config: Any
    context: StageContext
    stage: Stage
    args: RolloutConfig
    tokenizer: PreTrainedTokenizerBase
    positions: int | None
    form: Form
    told: str

    def read(self) -> Asked:
        """Return the prompts, encoded.

        What leaves no room for a response is dropped and counted, unless the recipe says more.
        Raises PosttrainError for rows that cannot be asked.
        """
        return self._prompts() if "prompt" in self._forms else self._answers()

    @property
    def _forms(self) -> Sequence[DataForm]:
        return self.stage.forms_of(self.config)

    @property
    def _limit(self) -> Limit:
        room = None if self.positions is None else self.positions - self.args.max_completion_length
        return prompt_limit(self.config.too_long, self.args.max_prompt_length, room)

    def _prompts(self) -> Asked:
        screen = self.context.screen
        found = screen.found() if isinstance(screen, Screen) else {}
        kept = self._kept(prompts_asked(self.form, self.told), self._limit, self._evaluated)
        metrics = _metrics(kept, kept.held_out_report, "prompts")
        if not (_is_plain(kept.report) and _is_plain(kept.held_out_report)):
            if isinstance(screen, Screen):
                screen.recall(found)  # it sees all rows again
            trained, _ = self._encode(self._mixture(), may_be_none=False)
            evaluated, _ = self._encode(self._evaluated())
            held_out = self._held_out() if self.config.eval_data else evaluated
            return Asked(_rows(trained), _apart(held_out), _rows(evaluated), metrics)
        has_own = bool(self.config.eval_data)
        held_out = self._held_out() if has_own else [row.prompt() for row in kept.held_out]
        trained, evaluated = KeptPrompts(kept.trained), KeptPrompts(kept.held_out)
        return Asked(trained, _apart(held_out), evaluated, metrics)

    def _answers(self) -> Asked:
        whole = prompt_limit(self.config.too_long, None, self.positions)
        kept = self._kept(PARTED_ANSWERS, whole, list)
        is_given = self.args.sampled_share < 1
        trained = KeptAnswers(kept.trained, self.tokenizer) if is_given else _answered(kept.trained)
        evaluated, left_out = self._encode(self._evaluated())
        held_out = self._held_out() if self.config.eval_data else evaluated
        return Asked(trained, _apart(held_out), _rows(evaluated), _metrics(kept, left_out, "rows"))

    def _kept(
        self, kind: RowKind[Row], limit: Limit, unseen: Callable[[], Sequence[Record]]
    ) -> KeptRows[Row]:
        """Return the rows of a kind from files, made now if need be."""
        reading = Reading(self._mixture(), unseen, self._forms, self.context.keeping)
        return read_kept(kind, reading, self.tokenizer, limit, self.context, may_be_none=True)

    def _mixture(self) -> Mixture:
        config, context = self.config, self.context
        sources, screen, seed = config.sources, context.screen, context.seed
        return Mixture(sources, context.places, self._forms, screen, seed=seed)

    def _evaluated(self) -> list[Record]:
        return evaluated_prompts(self.config, self.context.places, self.stage)

    def _held_out(self) -> list[EncodedPrompt]:
        return self._encode(held_out_prompts(self.config, self.context.places))[0]

    def _encode(
        self, records: Iterable[Record], *, may_be_none: bool = True
    ) -> tuple[list[EncodedPrompt], RowCounts]:
        return encode_prompts(
            records,
            self.tokenizer,
            limit=self._limit,
            form=self.form,
            told=self.told,
            may_be_none=may_be_none,
        )


def _is_plain(report: RowCounts) -> bool:
    assert isinstance(report, PromptsReport)
    return not report.num_not_plain


def _metrics(kept: KeptRows[Any], left_out: RowCounts, noun: str) -> dict[str, Any]:
    counts = {**kept.report.metrics(), **left_out.held_out_metrics()}
    return {**counts, **share_metrics(kept.shares, noun)}


def _rows(encoded: Sequence[EncodedPrompt]) -> list[dict[str, Any]]:
    return [
        {**_columns(prompt), "input_ids": prompt.ids, "prompt": prompt.prompt} for prompt in encoded
    ]


def _apart(encoded: Sequence[EncodedPrompt]) -> list[Prompt]:
    return [Prompt(prompt.ids, prompt.prompt, _columns(prompt)) for prompt in encoded]


def _columns(prompt: EncodedPrompt) -> dict[str, Any]:
    """Return what reward functions are handed of a prompt, and where that is from."""
    return {**prompt.columns, ORIGIN: prompt.source}


def _answered(answers: Sequence[PartedAnswer]) -> list[dict[str, Any]]:
    return [
        {
            "input_ids": answer.prompt_ids,
            "completion_ids": answer.completion_ids,
            "completion_mask": [bool(flag) for flag in answer.is_learnt],
        }
        for answer in answers
    ]
