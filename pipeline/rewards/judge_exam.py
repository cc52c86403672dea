"""The exam of a judge: asked as it will be asked, on pairs that people labelled.

Whose pairs they are, and what becomes of the result, is licence.py's subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from eval.comparison.licence import examine
from eval.statistics.agreement import JudgedPair
from pipeline.config.licence import OFF, no_pairs
from pipeline.data.reading.shown_prompts import show_prompt_of
from pipeline.errors import PosttrainError
from pipeline.rewards import event_loop
from pipeline.rewards.judge import refuse_failures
from pipeline.rewards.licence import (
    JUDGE,
    Examined,
    admit,
    higher,
    judged_alike,
    pairs_of_exam,
    whose_pairs,
)
from reward.judges.exchange import NoReply
from reward.judges.judge import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.licence import LicenceBlock
    from pipeline.config.stage import StageContext
    from pipeline.data.reading.labelled_pairs import LabelledPairs
    from reward.judges.judge import Judge


def examine_judge(
    name: str,
    judge: Judge,
    asked: LicenceBlock | Literal["off"] | None,
    tasks: Sequence[str],
    context: StageContext,
    *,
    compares: bool,
) -> Examined:
    """Return the licence of a judge; PosttrainError where it is refused, or has nothing to show.

    compares: whether it will be asked which of two is better, in both orders, or for scores: it is
    examined in the same way. tasks: among the prompts.
    """
    if asked == OFF:
        return Examined(name, JUDGE, "off")
    pairs = pairs_of_exam(asked, tasks, context)
    if pairs is None:
        raise PosttrainError(context.name, *no_pairs(name))
    before = judge.ledger.metrics()
    licence = examine(_ask(judge, pairs, context, compares=compares), has_orders=compares)
    spent = {key: value - before.get(key, 0) for key, value in judge.ledger.metrics().items()}
    spent = {key: value for key, value in spent.items() if value}
    examined = Examined(name, JUDGE, "admitted", whose_pairs(asked, pairs), licence, spent)
    return admit(examined, context)


def _ask(
    judge: Judge, pairs: LabelledPairs, context: StageContext, *, compares: bool
) -> list[JudgedPair]:
    """Return what a judge says of the pairs: in both orders, or by the scores of both responses."""
    where = f"{context.name}: licence"
    prompts = [show_prompt_of(pair.row) for pair in pairs.pairs]
    if compares:
        asked = [
            Pair(prompt, pair.first.content, pair.second.content, pair.key)
            for prompt, pair in zip(prompts, pairs.pairs, strict=True)
        ]
        said = event_loop.run(judge.prefer(asked), context.should_stop)
        refuse_failures(where, said)
        return [
            judged_alike(pair, None)
            if isinstance(one, NoReply)
            else JudgedPair(pair.label, one.first_order, one.second_order, pair.lengths)
            for pair, one in zip(pairs.pairs, said, strict=True)
        ]
    items = [
        (prompt, answer.content)
        for prompt, pair in zip(prompts, pairs.pairs, strict=True)
        for answer in (pair.first, pair.second)
    ]
    said = event_loop.run(judge.score(items), context.should_stop)
    refuse_failures(where, said)
    values = [None if isinstance(one, NoReply) else one.value for one in said]
    return [
        judged_alike(pair, higher(first, second))
        for pair, first, second in zip(pairs.pairs, values[::2], values[1::2], strict=True)
    ]
