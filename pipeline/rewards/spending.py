"""What asking a stage's judges took, over all attempts at the stage: a file for each of them.

What a killed attempt spent is spent: it counts towards the budget of the next one, and stands in
the metrics. A file is written with every request, since nobody is told of a kill. Judges in this
process cost nothing, and have none.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pipeline.errors import CorruptArtifactError
from pipeline.files.whole_files import write_whole
from reward.judges.ledger import SPENDING, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.config.judge import Budget
    from pipeline.config.stage import StageContext
    from reward.judges.ledger import Ledger


def keep_spending(ledger: Ledger, name: str, context: StageContext) -> None:
    """Let a ledger go on from what earlier attempts spent, and write down what it spends.

    name: of the judge in the stage. Each process of a stage has a file of its own. Raises
    CorruptArtifactError for a file that is not one of these.
    """
    if context.spending is None:
        return
    context.spending.mkdir(parents=True, exist_ok=True)
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path = context.spending / f"{digest}-{context.rank}.json"
    if path.exists():
        ledger.earlier = _read(path)[1]

    def write() -> None:
        text = json.dumps({"name": name, **ledger.spending()})
        write_whole(path, text, is_flushed=False)

    ledger.on_spending = write


def share_of_budget(budget: Budget, context: StageContext) -> Limits:
    """Return what one of the processes that share a stage may spend of its budget."""
    processes = context.processes
    if processes == 1:
        return Limits(budget.requests, budget.tokens, budget.cost)

    def share(whole: int | None) -> int | None:
        return None if whole is None else (whole + processes - 1 - context.rank) // processes

    cost = None if budget.cost is None else budget.cost / processes
    return Limits(share(budget.requests), share(budget.tokens), cost)


def with_all_spent(
    counts: Mapping[str, Mapping[str, float]],
    context: StageContext,
    exams: Mapping[str, Any] | None = None,
    *,
    before: str = "",
) -> dict[str, dict[str, float]]:
    """Return the counts of judges with all that was spent on them, also by killed attempts.

    counts: by judge. exams: the stage's `licences`, where what the exams took stands already.
    before: what stands before a judge's name in `keep_spending`.
    """
    totals = _totals(context)
    found: dict[str, dict[str, float]] = {}
    for name, one in counts.items():
        of_exam: Mapping[str, float] = (exams or {}).get(name, {}).get("spent", {})
        spent = totals.get(f"{before}{name}", {})
        found[name] = {**one, **{key: value - of_exam.get(key, 0) for key, value in spent.items()}}
    return found


def _totals(context: StageContext) -> dict[str, dict[str, float]]:
    """Return what was spent on each judge by all processes."""
    totals: dict[str, dict[str, float]] = {}
    if context.spending is not None and context.spending.is_dir():
        for path in sorted(context.spending.glob("*.json")):
            name, spent = _read(path)
            total = totals.setdefault(name, dict.fromkeys(SPENDING, 0))
            for key, value in spent.items():
                total[key] += value
    return totals


def _read(path: Path) -> tuple[str, dict[str, float]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return str(record["name"]), {key: record[key] + 0 for key in SPENDING}
    except (ValueError, KeyError, TypeError) as error:
        message = "is no record of what a judge took"
        raise CorruptArtifactError(str(path), message, "delete it and run again") from error
