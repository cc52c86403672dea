"""Answers that are kept: nothing is asked twice, and what is broken is asked anew."""

import asyncio
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from reward.judges.cache import Cached
from reward.judges.exchange import NoReply, Reply, Request
from reward.judges.ledger import Ledger


def question(text: str, **changes) -> Request:
    return replace(Request((("user", text),), options=("A", "B")), **changes)


class Counting:
    """Answers, and remembers what it was asked."""

    at_a_time = 2

    def __init__(
        self, answer=lambda request: Reply("A", "so", {"A": 0.7, "B": 0.3}, 5, 1), name="x"
    ):
        self.identity = {"name": name}
        self.answer = answer
        self.asked: list[Request] = []

    async def reply(self, requests):
        assert len(requests) <= self.at_a_time
        self.asked += requests
        return [self.answer(request) for request in requests]


def ask(cached: Cached, *requests: Request):
    return asyncio.run(cached.reply(requests))


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_asked_once_is_known(tmp_path: Path) -> None:
    respondent = Counting()
    requests = [question(str(number)) for number in range(5)]
    first = ask(Cached(respondent, tmp_path, Ledger()), *requests)
    again = ask(
        Cached(Counting(lambda request: NoReply("unreachable", "gone")), tmp_path, Ledger()),
        *requests,
    )
    assert again == [replace(reply, is_cached=True) for reply in first]
    assert respondent.asked == requests
    assert len(entries(tmp_path)) == 5


def test_one_question_twice_in_a_batch_is_sent_once(tmp_path: Path) -> None:
    respondent = Counting()
    replies = ask(
        Cached(respondent, tmp_path, Ledger()), question("a"), question("b"), question("a")
    )
    assert len(respondent.asked) == 2
    assert [reply.is_cached for reply in replies] == [False, False, True]


@pytest.mark.parametrize(
    "change",
    [{"options": ("A", "B", "C")}, {"temperature": 0.5}, {"max_tokens": 9}, {"draw": 1},
     {"wants_reason": True}, {"messages": (("system", "a"),)}, {"options": None}],
)  # fmt: skip
def test_another_request_is_another_question(tmp_path: Path, change: dict) -> None:
    respondent = Counting()
    cached = Cached(respondent, tmp_path, Ledger())
    ask(cached, question("a"))
    ask(cached, replace(question("a"), **change))
    assert len(respondent.asked) == 2


def test_another_respondent_is_asked_itself(tmp_path: Path) -> None:
    ask(Cached(Counting(), tmp_path, Ledger()), question("a"))
    other = Counting(lambda request: Reply("B"), name="y")
    (reply,) = ask(Cached(other, tmp_path, Ledger()), question("a"))
    assert reply.answer == "B"


def test_a_failure_is_asked_again(tmp_path: Path) -> None:
    failing = Counting(lambda request: NoReply("timeout", "late"))
    assert ask(Cached(failing, tmp_path, Ledger()), question("a")) == [NoReply("timeout", "late")]
    assert entries(tmp_path) == []
    (reply,) = ask(Cached(Counting(), tmp_path, Ledger()), question("a"))
    assert reply.answer == "A"


def _of_another_kind(text: str) -> str:
    return json.dumps(json.loads(text) | {"reply": {"answer": "B"}})


@pytest.mark.parametrize(
    "broken",
    [lambda text: "", lambda text: text[:-20], lambda text: "\x00" * len(text), lambda text: "[]",
     lambda text: text.replace('"answer": "A"', '"answer": "B"'), _of_another_kind,
     lambda text: "[" * 100_000, lambda text: "null"],
)  # fmt: skip
def test_a_broken_entry_is_counted_and_asked_again(tmp_path: Path, broken) -> None:
    ask(Cached(Counting(), tmp_path, Ledger()), question("a"))
    (path,) = entries(tmp_path)
    whole = path.read_text()
    path.write_text(broken(whole))
    respondent, ledger = Counting(), Ledger()
    (reply,) = ask(Cached(respondent, tmp_path, ledger), question("a"))
    assert (reply.answer, reply.is_cached, len(respondent.asked)) == ("A", False, 1)
    assert ledger.broken_entries == 1
    assert [entry.read_text() for entry in entries(tmp_path)] == [whole]


def test_an_entry_under_a_wrong_name_is_not_believed(tmp_path: Path) -> None:
    cached = Cached(Counting(), tmp_path, Ledger())
    ask(cached, question("a"))
    key = cached.key(question("b"))
    (tmp_path / key[:2]).mkdir(exist_ok=True)
    (tmp_path / key[:2] / f"{key}.json").write_text(entries(tmp_path)[0].read_text())
    respondent = Counting(lambda request: Reply("B"))
    assert ask(Cached(respondent, tmp_path, Ledger()), question("b"))[0].answer == "B"


def test_an_answer_is_on_disk_before_the_next_one_comes(tmp_path: Path) -> None:
    """A run killed while the third call is under way has the answers of the first two."""

    class Killed(Exception):
        pass

    class Dying(Counting):
        async def reply(self, requests):
            if len(self.asked) == 4:
                raise Killed
            return await super().reply(requests)

    requests = [question(str(number)) for number in range(6)]
    with pytest.raises(Killed):
        ask(Cached(Dying(), tmp_path, Ledger()), *requests)
    respondent = Counting()
    replies = ask(Cached(respondent, tmp_path, Ledger()), *requests)
    assert respondent.asked == requests[4:]
    assert [reply.is_cached for reply in replies] == [True] * 4 + [False] * 2


def _ask_many(folder: Path, answer: str, answers) -> None:
    respondent = Counting(lambda request: Reply(answer))
    requests = [question(str(number)) for number in range(200)]
    replies = ask(Cached(respondent, folder, Ledger()), *requests)
    answers.put([reply.answer for reply in replies])


def test_several_processes_take_whichever_answer_came_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [
        context.Process(target=_ask_many, args=(tmp_path, "AB"[number % 2], answers))
        for number in range(4)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    gone = Counting(lambda request: NoReply("unreachable", "gone"))
    kept = ask(Cached(gone, tmp_path, Ledger()), *(question(str(n)) for n in range(200)))
    assert all(answer == [reply.answer for reply in kept] for answer in found)
    assert len(entries(tmp_path)) == 200
