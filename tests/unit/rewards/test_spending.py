"""What judges take is written down as it is spent, and counts in the next attempt at a stage."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config.judge import Budget
from pipeline.errors import CorruptArtifactError
from pipeline.rewards.spending import keep_spending, share_of_budget, with_all_spent
from reward.judges.ledger import Ledger, Limits


def attempt(folder: Path, name: str = "m", rank: int = 0) -> tuple[Ledger, Any]:
    context: Any = SimpleNamespace(spending=folder / "spending", rank=rank, processes=1)
    ledger = Ledger()
    keep_spending(ledger, name, context)
    return ledger, context


def test_what_a_killed_attempt_spent_counts_towards_the_budget_of_the_next(tmp_path: Path) -> None:
    first, _ = attempt(tmp_path)
    first.count_sent()
    first.count_sent()
    first.bill(30, 5, 0.25, is_estimated=False)
    second, context = attempt(tmp_path)  # the first one was killed: nobody told it
    assert second.used_up(Limits(requests=3)) is None
    second.count_sent()
    assert second.used_up(Limits(requests=3)) == "3 requests are sent, and the budget is 3"
    assert second.used_up(Limits(tokens=35)) == "35 tokens are used, and the budget is 35"
    assert second.used_up(Limits(cost=0.25)) == "0.2500 is spent, and the budget is 0.25"
    assert second.sent == 1
    counts = with_all_spent({"m": second.metrics()}, context)
    assert (counts["m"]["sent"], counts["m"]["cost"], counts["m"]["prompt_tokens"]) == (3, 0.25, 30)
    assert counts["m"]["asked"] == 0


def test_processes_have_shares_of_a_budget_and_are_summed_up(tmp_path: Path) -> None:
    budget = Budget(requests=5, tokens=7, cost=1.0)
    shares = [
        share_of_budget(budget, SimpleNamespace(processes=3, rank=rank))  # pyright: ignore[reportArgumentType]
        for rank in range(3)
    ]
    assert [share.requests for share in shares] == [2, 2, 1]
    assert [share.tokens for share in shares] == [3, 2, 2]
    assert sum(share.cost or 0 for share in shares) == pytest.approx(1)
    attempts = [attempt(tmp_path, rank=rank) for rank in range(2)]
    for ledger, _ in attempts:
        ledger.count_sent()
    context = attempts[0][1]
    exam = {"m": {"spent": {"sent": 1}}}
    assert with_all_spent({"m": {"sent": 0}}, context, exam)["m"]["sent"] == 1
    assert with_all_spent({"m": {"sent": 9}, "own": {"sent": 4}}, context) == {
        "m": {**dict.fromkeys(("prompt_tokens", "completion_tokens", "cost", "without_usage"), 0)}
        | {"sent": 2},
        "own": {"sent": 4},
    }


def test_those_who_share_a_name_have_files_of_their_own(tmp_path: Path) -> None:
    judge, context = attempt(tmp_path)
    reviser, _ = attempt(tmp_path, "revisers/m")
    judge.count_sent()
    reviser.bill(4, 1, 0.0, is_estimated=True)
    assert with_all_spent({"m": {}}, context, before="revisers/")["m"]["without_usage"] == 1
    assert with_all_spent({"m": {}}, context)["m"]["sent"] == 1


def test_a_record_that_is_none_is_told_of(tmp_path: Path) -> None:
    attempt(tmp_path)[0].count_sent()
    (path,) = (tmp_path / "spending").iterdir()
    path.write_text(json.dumps({"name": "m"}))
    with pytest.raises(CorruptArtifactError, match="no record of what a judge took; delete it"):
        attempt(tmp_path)
