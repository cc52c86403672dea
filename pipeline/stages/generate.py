"""Stage `generate`: samples responses of a model to prompts, as rows that other stages learn from.

Any model answers: a stage's, a folder's, one on the hub. The rows have TRL's columns `prompt` and
`completion` and all columns of the prompt's row; `label` judges them, and every `data:` and
`prompts:` reads them by `$name`. Not `evaluate`, which asks held-out prompts and keeps scores.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from pipeline.config.blocks import DataBlock, DataBlocks
from pipeline.config.field_types import OR_ONE, ModelRef, Precision, TooLong
from pipeline.config.marks import EXECUTION
from pipeline.config.measuring_stage import Form
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import Makes, WithTemplate
from pipeline.data.encoding.lengths import Limit
from pipeline.data.making.rows import COMPLETION, SAMPLED, SCORED, tasks_behind, write_rows
from pipeline.errors import InterruptedRunError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.asking.sampler import Generation
    from eval.model import LanguageModel
    from pipeline.data.encoding.prompts import EncodedPrompt
    from pipeline.data.making.pieces import Pieces

_MAKES = Makes("prompt_completion", (*COMPLETION, *SAMPLED))
_OF_EARLIER_STAGES = frozenset({*SAMPLED, *SCORED}) - {"source"}


class GenerateConfig(WithTemplate):
    """model: what answers. form: how it is asked, when its own stage does not say or says it wrong.

    prompts: what it is asked; tasks, files, the hub or rows of a stage, as `data` elsewhere; on the
    side that may be trained on.
    num_samples: responses to each prompt. temperature: 0 is greedy. max_new_tokens: of a response,
    at most. stop_strings: texts that end a response, and do not stand in it.
    too_long: what becomes of a prompt that leaves no room for a response: drop it, truncate it at
    its beginning, or make it an error.
    cut: whether responses that were cut off after `max_new_tokens` are kept or dropped. Empty
    responses never are: nothing can be learnt from them. All are counted.
    precision: of the arithmetic. batch_size: responses that are written together; memory and speed
    only.
    """

    stage: Literal["generate"]
    model: ModelRef
    form: Form | None = None
    prompts: DataBlocks
    num_samples: Annotated[PositiveInt, Field(le=4096)] = 1
    temperature: NonNegativeFloat = 1.0
    max_new_tokens: PositiveInt = 256
    stop_strings: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], OR_ONE] = ()
    too_long: TooLong = "drop"
    cut: Literal["keep", "drop"] = "keep"
    precision: Precision = "fp32"
    batch_size: Annotated[PositiveInt, EXECUTION] = 64

    @model_validator(mode="after")
    def _samples_differ(self) -> GenerateConfig:
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError(
                "`num_samples` of greedy responses are all the same; set `temperature` above 0"
            )
        return self

    @property
    def sources(self) -> tuple[DataBlock, ...]:
        """The prompts that it asks."""
        return self.prompts

    @property
    def makes(self) -> Makes:
        """What rows it makes."""
        return _MAKES

    def prompt_limit(self, positions: int | None) -> Limit:
        """Return how long a prompt may be. positions: of the model; None where there is no end."""
        room = None if positions is None else positions - self.max_new_tokens
        return Limit(room, self.too_long, "left", "lower `max_new_tokens`")


def check_columns(where: str, columns: Mapping[str, Any]) -> None:
    """Raise PosttrainError for a prompt's row that has a column which this stage writes."""
    taken = next((name for name in SAMPLED if name != "source" and name in columns), None)
    if taken is not None:
        message = f"there is a column `{taken}`, and `generate` writes one of that name"
        raise PosttrainError(where, message, "rename it in the data, or take it out")


@dataclass(frozen=True)
class _Job:
    """num_samples: responses to each prompt; sample s of prompt p is row p * num_samples + s."""

    config: GenerateConfig
    context: StageContext
    model: LanguageModel
    prompts: Sequence[EncodedPrompt]

    @property
    def num_rows(self) -> int:
        return len(self.prompts) * self.config.num_samples


def run(config: GenerateConfig, context: StageContext) -> StageResult:
    """Sample, and write one row a response, in the order of the prompts."""
    from pipeline.data.making.pieces import Pieces
    from pipeline.models.chat_templates import give_known_template
    from pipeline.models.language import language_model

    source = context.model(config.model)
    prepare = partial(give_known_template, config=config, context=context)
    model = language_model(source, form=config.form, precision=config.precision, prepare=prepare)
    prompts, metrics = _read_prompts(config, context, model)
    job = _Job(config, context, model, prompts)
    pieces = Pieces(context, job.num_rows)
    _sample(job, pieces)
    return _finish(job, pieces.rows, metrics)


def _read_prompts(
    config: GenerateConfig, context: StageContext, model: LanguageModel
) -> tuple[list[EncodedPrompt], dict[str, Any]]:
    """Return the prompts as the model is asked them, and what became of all of them."""
    from pipeline.data.encoding.prompts import encode_prompts
    from pipeline.data.mixing import mix_rows, share_metrics
    from pipeline.data.training_sources import row_sources

    sources = row_sources(config.prompts, context.places, STAGE.data_forms, context.screen)
    rows, shares = mix_rows(sources, seed=context.seed)
    limit = config.prompt_limit(model.max_length)
    if limit.max_length is not None and limit.max_length < 1:
        message = f"`max_new_tokens` {config.max_new_tokens} leaves no room for a prompt"
        hint = f"the model has {model.max_length} positions; lower it"
        raise PosttrainError(context.name, message, hint)
    encoded, report = encode_prompts(rows, model.tokenizer, limit=limit, form=model.form)
    report.refuse(context.name)
    made = {block.stage for block in config.prompts}  # what an earlier sample wrote is replaced
    for prompt in encoded:
        if prompt.source not in made:
            check_columns(prompt.where, prompt.columns)
    return encoded, {**report.metrics(), **share_metrics(shares, "prompts")}


def _sample(job: _Job, pieces: Pieces) -> None:
    """Write all responses that are not there yet.

    Longest prompts first: if a batch does not fit into memory, it is the first one. Batches are
    parts of this one order, whatever was there already, and a row's draw is its own.
    """
    from eval.asking.sampler import generate
    from eval.model import StopRequested

    config, samples = job.config, job.config.num_samples
    by_length = sorted(
        range(len(job.prompts)), key=lambda number: len(job.prompts[number].ids), reverse=True
    )
    order = [number * samples + sample for number in by_length for sample in range(samples)]
    ended: Counter[str] = Counter(row["finish"] for row in pieces.rows)

    def show(done: int) -> None:
        cut = ended["length"]
        note = f"{cut} cut off" if cut else ""
        job.context.progress("response", done, job.num_rows, note)

    while len(pieces.rows) < job.num_rows:
        start = len(pieces.rows)
        batch = order[start : start + config.batch_size]
        show(start)
        try:
            written = generate(
                job.model,
                [job.prompts[row // samples].ids for row in batch],
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                batch_size=len(batch),
                seed=job.context.seed,
                keys=batch,
                stop=config.stop_strings,
                shares_prompts=True,
                on_progress=lambda done, start=start: show(start + done),
                should_stop=job.context.should_stop,
            )
        except StopRequested as stopped:
            pieces.seal()
            done = f"{start} of {job.num_rows} responses are kept"
            raise InterruptedRunError(
                job.context.name, f"stopped on request; {done}", "run again to go on"
            ) from stopped
        ended.update(response.ended for response in written)
        pieces.add([_piece(row, one) for row, one in zip(batch, written, strict=True)])


def _piece(row: int, response: Generation) -> dict[str, Any]:
    return {
        "row": row,
        "text": response.text,
        "finish": response.ended,
        "num_tokens": len(response.token_ids),
    }


def _finish(job: _Job, pieces: Sequence[dict[str, Any]], metrics: dict[str, Any]) -> StageResult:
    """Write the responses beside their prompts, and return what became of them."""
    rows: list[dict[str, Any]] = []
    empty = 0
    for piece in sorted(pieces, key=lambda piece: piece["row"]):
        is_empty = not piece["text"].strip()
        empty += is_empty
        if not is_empty and (job.config.cut == "keep" or piece["finish"] != "length"):
            rows.append(_row(job, piece))
    cut = sum(piece["finish"] == "length" for piece in pieces)
    tokens = sum(piece["num_tokens"] for piece in pieces)
    if not rows:
        what = f"{empty} empty, {cut} cut off after {job.config.max_new_tokens} tokens"
        message = f"none of {len(pieces)} responses can be kept: {what}"
        hint = "raise `max_new_tokens`" if cut else "is it asked in the form that it knows?"
        raise PosttrainError(job.context.name, message, hint)
    write_rows(job.context.out, rows, form=_MAKES.form)
    return StageResult(
        metrics={
            **metrics,
            "responses": len(pieces),
            "responses_kept": len(rows),
            "responses_empty": empty,
            "responses_cut_off": cut,
            "response_tokens": tokens,
            "mean_response_tokens": tokens / len(pieces),
        },
        properties={
            "data_form": _MAKES.form,
            "model": job.model.name,
            "asked_as": job.model.form,
            "tasks": tasks_behind(job.config.prompts, job.context),
        },
    )


def _row(job: _Job, piece: dict[str, Any]) -> dict[str, Any]:
    number, sample = divmod(piece["row"], job.config.num_samples)
    prompt = job.prompts[number]
    text = piece["text"]
    completion = [{"role": "assistant", "content": text}] if prompt.is_chat else text
    columns = {
        name: value for name, value in prompt.columns.items() if name not in _OF_EARLIER_STAGES
    }
    return {
        "prompt": prompt.prompt,
        "completion": completion,
        "source": prompt.source,
        "sample": sample,
        "finish": piece["finish"],
        "num_tokens": piece["num_tokens"],
        **columns,
    }


STAGE = Stage(
    config=GenerateConfig,
    run=run,
    produces="data",
    version=4,
    data_forms=("prompt",),
)
