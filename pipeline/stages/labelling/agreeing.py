"""How far a judge agrees with the gold scores of tasks, on the very pairs that it compared.

Nothing is made of it: the labels stay the judge's. Its exam, on pairs that people labelled and
before it begins, is in pipeline/rewards/exams.py.
"""

from __future__ import annotations

from hashlib import sha256
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from eval.statistics.agreement import JudgedPair, measure_agreement
from pipeline.data.making.comparisons import key
from pipeline.data.reading.responses import REFERENCE
from pipeline.data.reading.tasks import load_task
from pipeline.errors import InfrastructureError
from reward.sandbox import SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.task import Task
    from pipeline.config.stage import StageContext
    from pipeline.data.making.comparisons import Comparison, Outcome
    from pipeline.data.reading.responses import ResponseRow


def agree_with_gold(
    name: str,
    outcomes: Mapping[Comparison, Outcome],
    rows: Sequence[ResponseRow],
    tasks: Sequence[str],
    context: StageContext,
) -> dict[str, Any]:
    """Return, as metrics, how often the judge prefers what the tasks' authors prefer.

    Of the comparisons whose gold scores differ, one a prompt, drawn by their texts: those of one
    prompt share responses, and an interval takes pairs for independent. {} where there are none.
    name: the judge's. Raises InfrastructureError where programs cannot be run confined.
    """
    known = {task: load_task(task, context.places) for task in tasks}
    try:
        gold = {place: _gold(rows[place], known) for pair in outcomes for place in _places(pair)}
    except SandboxUnavailable as error:
        raise InfrastructureError(context.name, str(error)) from error
    drawn: dict[str, tuple[bytes, JudgedPair]] = {}
    for pair, outcome in outcomes.items():
        first, second = (gold[place] for place in _places(pair))
        if first is None or second is None or first == second:
            continue
        lengths = (len(rows[pair.first].text), len(rows[pair.second].text))
        judged = JudgedPair("first" if first > second else "second", *outcome.orders, lengths)
        lot = sha256(key(rows, pair).encode("utf-8", "surrogatepass")).digest()
        question = rows[pair.first].question
        drawn[question] = min(drawn.get(question, (lot, judged)), (lot, judged), key=itemgetter(0))
    pairs = [judged for _, judged in drawn.values()]
    if not pairs:
        return {}
    figures = measure_agreement(pairs).metrics()
    return {"agreement": {name: {"compared": len(outcomes), **figures}}}


def _places(pair: Comparison) -> tuple[int, int]:
    return pair.first, pair.second


def _gold(row: ResponseRow, tasks: Mapping[str, Task]) -> float | None:
    reference = row.fields.get(REFERENCE)
    if row.source not in tasks or not isinstance(reference, str):
        return None
    return tasks[row.source].gold_score(row.text, reference)
