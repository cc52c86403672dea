"""Responses to one prompt compared by a judge, two by two and in both orders, and made into pairs.

Pairs by scores are made in scoring.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.making.comparisons import (
    Outcome,
    choose_comparisons,
    count_verdicts,
    key,
    make_judged_pairs,
)
from reward.judges.exchange import NoReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.judge import JudgeBlock
    from pipeline.config.stage import StageContext
    from pipeline.data.making.choices import Chosen
    from pipeline.data.making.comparisons import Comparison
    from pipeline.data.reading.responses import ResponseRow
    from pipeline.stages.labelling.chunks import Chunks
    from pipeline.stages.labelling.config import PairsBlock
    from reward.judges.judge import Judge


def compare_and_make(
    block: JudgeBlock,
    pairs: PairsBlock,
    context: StageContext,
    chunks: Chunks,
    rows: Sequence[ResponseRow],
    tasks: Sequence[str],
) -> tuple[Chosen, dict[str, Any]]:
    """Return the pairs that the judge's verdicts make, and their metrics. tasks: of the prompts."""
    from pipeline.rewards.exams import examine_comparing
    from pipeline.rewards.judge import load_judge
    from pipeline.stages.labelling.agreeing import agree_with_gold
    from pipeline.stages.labelling.probing import probe_comparing

    chosen, made = choose_comparisons(rows, at_most=pairs.compared, seed=context.seed)
    if not chosen:
        return made, count_verdicts([])
    judge = load_judge(block.label, block, context)
    licences = examine_comparing(block, judge, tasks, context)
    where = f"{context.name}: judge `{block.label}`"
    judged = chunks.do(
        "comparison",
        chosen,
        lambda some: _compare(some, rows, judge, where, context),
        {block.label: judge.ledger},
    )
    probes = chunks.do_again(
        lambda: probe_comparing(judge, rows, context), {block.label: judge.ledger}
    )
    outcomes = [
        Outcome(one["verdict"], one["probability"], one["principle"], tuple(one["orders"]))
        for one in judged
    ]
    by_pair = dict(zip(chosen, outcomes, strict=True))
    make_judged_pairs(
        rows,
        by_pair,
        made,
        which=pairs.which,
        margin=pairs.margin,
        soft=pairs.soft,
    )
    for row in made.rows:
        row["judge"] = block.label
    agreement = agree_with_gold(block.label, by_pair, rows, tasks, context)
    metrics = {"pairs": len(made.rows), **count_verdicts(outcomes), **licences, **agreement}
    return made, {**metrics, **({"probes": {block.label: probes}} if probes else {})}


def _compare(
    chunk: Sequence[Comparison],
    rows: Sequence[ResponseRow],
    judge: Judge,
    where: str,
    context: StageContext,
) -> list[dict[str, Any]]:
    """Return the outcomes of some comparisons, as JSON."""
    from pipeline.data.reading.shown_prompts import show_prompt
    from pipeline.rewards import event_loop
    from pipeline.rewards.judge import refuse_failures
    from reward.judges.judge import Pair

    asked = [
        Pair(
            show_prompt(rows[pair.first].prompt),
            rows[pair.first].text,
            rows[pair.second].text,
            key(rows, pair),
        )
        for pair in chunk
    ]
    said = event_loop.run(judge.prefer(asked), context.should_stop)
    refuse_failures(where, said)
    return [
        {"verdict": None, "probability": 0.5, "principle": None, "orders": [None, None]}
        if isinstance(one, NoReply)
        else {
            "verdict": one.verdict,
            "probability": one.probability,
            "principle": one.principle,
            "orders": [one.first_order, one.second_order],
        }
        for one in said
    ]
