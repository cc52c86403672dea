"""Responses criticised and revised by principles, as the first phase of Constitutional AI.

Bai et al. 2022, section 3. What a revision is worth is judged in scoring.py and comparing.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from reward.judges.exchange import NoReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.stage import StageContext
    from pipeline.data.reading.responses import ResponseRow
    from pipeline.stages.labelling.chunks import Chunks
    from pipeline.stages.labelling.config import ReviseBlock
    from reward.judges.constitution import Constitution, Revision
    from reward.judges.exchange import Respondent
    from reward.judges.ledger import Ledger

NOT_REVISED = "without a revision"
REVISERS: Literal["revisers"] = "revisers"  # also before their names where spending is kept


def revise_responses(
    block: ReviseBlock, context: StageContext, chunks: Chunks, rows: Sequence[ResponseRow]
) -> list[tuple[ResponseRow, ResponseRow]]:
    """Return responses with their revisions, without those that got none."""
    from pipeline.config.judge_principles import read_principles
    from pipeline.rewards.judge import load_respondent, new_ledger
    from reward.judges.constitution import Constitution

    ledger = new_ledger()
    name = f"{REVISERS}/{block.label}"
    reviser = _Reviser(
        block,
        load_respondent(name, block, context, ledger),
        Constitution(read_principles(block.principles, context.places), context.seed),
        ledger,
        context,
    )
    revised = chunks.do("revision", rows, reviser.revise, {block.label: ledger}, role=REVISERS)
    return [
        _both(row, one, number)
        for number, (row, one) in enumerate(zip(rows, revised, strict=True))
        if one["text"] is not None
    ]


class _Reviser:
    """Who writes critiques and revisions, and by which principles."""

    def __init__(
        self,
        block: ReviseBlock,
        respondent: Respondent,
        constitution: Constitution,
        ledger: Ledger,
        context: StageContext,
    ) -> None:
        self._block = block
        self._respondent = respondent
        self._constitution = constitution
        self._ledger = ledger
        self._context = context

    def revise(self, rows: Sequence[ResponseRow]) -> list[dict[str, Any]]:
        """Return what becomes of each response after all rounds, as JSON; text None for nothing."""
        from pipeline.rewards.judge import refuse_failures

        made: list[dict[str, Any]] = [{"text": row.text} for row in rows]
        for round_number in range(self._block.rounds):
            places = [place for place, one in enumerate(made) if one["text"] is not None]
            said = self._ask([(rows[place], made[place]["text"]) for place in places], round_number)
            refuse_failures(f"{self._context.name}: `{self._block.label}`", said)
            for place, one in zip(places, said, strict=True):
                made[place] = (
                    {"text": None}
                    if isinstance(one, NoReply)
                    else {"text": one.text, "critique": one.critique, "principle": one.principle}
                )
        return made

    def _ask(
        self, asked: Sequence[tuple[ResponseRow, str]], round_number: int
    ) -> list[Revision | NoReply]:
        from pipeline.data.reading.shown_prompts import show_prompt
        from pipeline.rewards import event_loop
        from reward.judges.constitution import revise

        items = [
            (show_prompt(row.prompt), text, f"{row.question}\n{text}\n{round_number}")
            for row, text in asked
        ]
        revisions = revise(
            self._respondent,
            self._constitution,
            items,
            max_tokens=self._block.max_tokens,
            temperature=self._block.temperature,
            ledger=self._ledger,
        )
        return event_loop.run(revisions, self._context.should_stop)


def _both(
    row: ResponseRow, revised: dict[str, Any], number: int
) -> tuple[ResponseRow, ResponseRow]:
    """Return a response and its revision, apart from the other responses to their prompt."""
    written = {
        "original": row.text,
        "critique": revised["critique"],
        "revised_by": revised["principle"],
    }
    text, before = revised["text"], row.fields["completion"]
    completion = text if isinstance(before, str) else [{"role": "assistant", "content": text}]
    fields = {name: value for name, value in row.fields.items() if name != "num_tokens"}
    fields |= {"completion": completion, **({"finish": "eos"} if "finish" in fields else {})}
    apart = f"\n{number}"
    return (
        replace(row, fields={**row.fields, **written}, apart=apart),
        replace(row, text=text, fields={**fields, **written}, apart=apart),
    )
