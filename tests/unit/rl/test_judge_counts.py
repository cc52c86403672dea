"""What judges were asked in a training: without their exams, and the same after a kill."""

import json
from types import SimpleNamespace
from typing import Any

from pipeline.rl.judging import JudgeCounts
from reward.judges.exchange import NoReply, Reply
from reward.judges.ledger import Ledger


def ask(ledger: Ledger, times: int) -> None:
    ledger.count([Reply("5")] * times)


def test_counts_begin_behind_the_exam_and_go_on_where_a_checkpoint_was_written() -> None:
    ledger = Ledger()
    ask(ledger, 40)  # its exam
    state: Any = SimpleNamespace(notes={})
    counts = JudgeCounts({"wide": ledger}, state)
    ask(ledger, 8)
    counts.note()
    ledger.count([NoReply("empty", "")])
    counts.note()
    assert state.notes["judges"]["wide"]["asked"] == 9
    checkpoint = json.dumps(state.notes)
    ask(ledger, 8)  # of a rollout that is lost in a kill
    assert counts.counts()["wide"]["asked"] == 17

    ledger = Ledger()  # the next attempt takes no second exam
    state = SimpleNamespace(notes={})
    counts = JudgeCounts({"wide": ledger}, state)
    state.notes = json.loads(checkpoint)  # read once training begins
    ask(ledger, 8)
    counts.note()
    ask(ledger, 5)  # of probes, behind the last look
    found = counts.counts()["wide"]
    assert (found["asked"], found["failed"], found["failed/empty"]) == (22, 1, 1)


def test_a_training_without_judges_notes_nothing() -> None:
    state: Any = SimpleNamespace(notes={})
    counts = JudgeCounts({}, state)
    counts.note()
    assert (state.notes, counts.counts()) == ({}, {})
