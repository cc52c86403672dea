"""Free-form prompts: a measured model answers them, and rewards judge the answers.

A chat model is asked through its template; one without reads a conversation as a transcript and
stops where the user would speak again (see data/encoding/passages.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eval.asking.conversations import (
    calls_as_json,
    generate_with_tools,
    num_written,
    tool_results,
)
from eval.asking.passages import passage_id
from eval.comparison.free_form import judged_task
from eval.results import REWARD, WRITTEN, ItemResult
from pipeline.data.encoding.passages import write_transcript
from pipeline.data.encoding.prompts import encode_prompts
from pipeline.data.reading.data_blocks import read_held_out_chats, tasks_of
from pipeline.data.reading.records import PromptRow
from pipeline.data.reading.shown_prompts import show_prompt
from pipeline.measuring.answer_rewards import AnswerRewards, Answers
from pipeline.measuring.tool_use import told_tools
from pipeline.rewards.spending import with_all_spent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.asking.question import Progress
    from eval.asking.sampler import Generation
    from eval.model import LanguageModel
    from pipeline.config.blocks import DataBlock
    from pipeline.config.measuring_stage import MeasuringStage
    from pipeline.config.stage import StageContext

_NEXT_TURN = ("\nUser:", "\n\nUser")  # where a transcript continues with another speaker


class FreeForm:
    """The prompts of a stage that measures, and its judges, for one model after another."""

    def __init__(self, config: MeasuringStage, context: StageContext) -> None:
        self._config = config
        self._context = context
        self._rows: dict[str, list[PromptRow]] = {}
        self._notes: list[str] = []
        for block in config.prompts:
            self._rows[block.label] = self._read(block)
        tasks = tasks_of(config.prompts, context.places)
        self._rewards = AnswerRewards(config.rewards, tasks, context)

    def judges(self) -> dict[str, Any]:
        """Return what the judges of all models' answers were asked and what they took, as metrics.

        {} where no judge was asked.
        """
        counts = {name: ledger.metrics() for name, ledger in self._rewards.ledgers.items()}
        return {"judges": with_all_spent(counts, self._context)} if counts else {}

    def ask(self, model: LanguageModel, show: Progress) -> tuple[list[ItemResult], list[str]]:
        """Return results by prompt, sample and reward, and notes for people."""
        results: list[ItemResult] = []
        notes = list(self._notes)
        for source, rows in self._rows.items():
            is_transcribed = model.form == "document" and any(row.text is None for row in rows)
            if is_transcribed:
                notes.append(
                    f"`{model.name}` has no chat template: it was asked the chats of `{source}` as "
                    "transcripts (User: ... Assistant: ...)."
                )
            results += self._ask_source(model, source, rows, show)
        return results, notes

    def _read(self, block: DataBlock) -> list[PromptRow]:
        records = read_held_out_chats(block, self._context.places, at_most=self._config.limit)
        rows = [row for row in records if isinstance(row, PromptRow)]
        if len(rows) < len(records):
            left = len(records) - len(rows)
            self._notes.append(f"`{block.label}`: {left} of {len(records)} rows were unusable.")
        return rows

    def _ask_source(
        self, model: LanguageModel, source: str, rows: Sequence[PromptRow], show: Progress
    ) -> list[ItemResult]:
        config = self._config
        prompts = [_as_text(row) for row in rows] if model.form == "document" else list(rows)
        encoded, _ = encode_prompts(
            prompts, model.tokenizer, form=model.form, told=told_tools(model)
        )
        room = None if model.max_length is None else model.max_length - config.max_new_tokens
        fits = [room is None or len(prompt.ids) <= room for prompt in encoded]
        kept = [number for number, fit in enumerate(fits) if fit] * config.samples
        written = generate_with_tools(
            model,
            [encoded[number].ids for number in kept],
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            batch_size=config.batch_size,
            seed=self._context.seed,
            stop=_NEXT_TURN if model.form == "document" else (),
            on_progress=lambda done: show(f"{source}, answers", done, len(kept)),
            should_stop=self._context.should_stop,
        )
        answers = Answers(
            source,
            [rows[number] for number in kept],
            [encoded[number].prompt for number in kept],
            [response.text for response in written],
            [encoded[number].ids for number in kept],
            [list(response.token_ids) for response in written],
            [response.ended != "length" for response in written],
        )
        judged = self._rewards.score(answers)
        items = [_item(model, source, number, row) for number, row in enumerate(rows)]
        results: list[ItemResult] = []
        for reward in judged or {"": []}:
            task, metric = (judged_task(source, reward), REWARD) if reward else (source, WRITTEN)
            for place, number in enumerate(kept):
                item = replace(items[number], task=task, metric=metric)
                sample = place // (len(kept) // config.samples)
                score = judged[reward][place] if reward else None
                results.append(self._result(item, written[place], sample, score))
            for number, prompt in enumerate(encoded):
                if not fits[number]:
                    item = replace(items[number], task=task, metric=metric)
                    why = f"not asked: {len(prompt.ids)} tokens leave no room for an answer"
                    results += [
                        replace(item, sample=sample, reason=why) for sample in range(config.samples)
                    ]
        return [*results, *self._tool_results(source, results)]

    def _tool_results(self, source: str, results: Sequence[ItemResult]) -> list[ItemResult]:
        """Return how the answers used tools, once for each answer, however many judge it."""
        if not self._config.tools:
            return []
        first = results[0].task if results else ""
        answers = [replace(one, task=source) for one in results if one.task == first]
        return [used for answer in answers for used in tool_results(answer, None)]

    def _result(
        self, item: ItemResult, answer: Generation, sample: int, score: float | None
    ) -> ItemResult:
        is_cut = answer.ended == "length"
        return replace(
            item,
            response=answer.text,
            sample=sample,
            score=score,
            gold_score=score,
            num_tokens=num_written(answer),
            calls=None if answer.conversation is None else calls_as_json(answer.conversation),
            reason=f"cut off after {self._config.max_new_tokens} tokens" if is_cut else "",
        )


def _as_text(row: PromptRow) -> PromptRow:
    """Return a prompt as the text that a model of documents continues."""
    if row.text is not None or row.ids is not None:
        return row
    return replace(row, text=write_transcript(row.messages))


def _item(model: LanguageModel, source: str, number: int, row: PromptRow) -> ItemResult:
    """Return what is known of a prompt before it is answered; its name is that for every model."""
    shown = show_prompt(row)
    return ItemResult(
        task=source,
        item=passage_id(str(number), shown),
        metric=WRITTEN,
        style="zero-shot",
        form=model.form,
        prompt=shown,
        gold="",
    )
