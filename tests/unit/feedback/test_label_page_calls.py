"""The labelling page's calls: what is told, who is refused, and what two tabs do to one another."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from pipeline.feedback.decisions import decisions_path, read_decisions
from tests.label_page import HOSTILE, RunningLabels, hard_rows, write_lines

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def page(tmp_path: Path, socket_enabled: None) -> Iterator[RunningLabels]:
    rows = write_lines(tmp_path / "secret-model.jsonl", hard_rows())
    with RunningLabels(rows) as running:
        yield running


def call(page: RunningLabels, path: str, body: Any = None, **headers: str | None) -> Any:
    """Return (status, JSON) of a call as the page makes it; None takes a header away."""
    place = f"http://127.0.0.1:{page.port}"
    given = {
        "Authorization": f"Bearer {page.token}",
        "Content-Type": "application/json",
        "Origin": place,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(place + path, data, {k: v for k, v in given.items() if v is not None})
    try:
        with urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def decide(page: RunningLabels, verdict: str = "first", **changes: Any) -> Any:
    name = call(page, "/api/pair")[1]["pair"]["name"]
    return call(page, "/api/decide", {"name": name, "verdict": verdict, "seconds": 2.5, **changes})


def test_thirty_pairs_and_their_repeats_are_decided_one_after_the_other(
    page: RunningLabels,
) -> None:
    _, state = call(page, "/api/pair")
    assert (state["done"], state["total"], state["last"]) == (0, 33, None)
    shown: dict[str, tuple[str, str]] = {}
    for number in range(33):
        pair = state["pair"]
        shown[pair["name"]] = (pair["first"], pair["second"])
        status, state = decide(page, ("first", "second", "tie")[number % 3])
        assert (status, state["done"]) == (200, number + 1)
    assert state["pair"] is None
    assert len(shown) == 33
    decisions = read_decisions(decisions_path(page.work.preferences))
    assert len(decisions) == 33
    again = [one for one in decisions if one.showing == 2]
    assert len(again) == 3
    before = {one.pair: one for one in decisions if one.showing == 1}
    for one in again:
        assert (one.first, one.second) == (before[one.pair].second, before[one.pair].first)
    kept = [json.loads(line) for line in page.work.preferences.read_text().splitlines()]
    assert len(kept) == sum(one.verdict != "tie" for one in before.values())


def test_nothing_that_the_page_gets_says_where_a_response_is_from(
    tmp_path: Path, socket_enabled: None
) -> None:
    rows = [
        {"prompt": f"q{n}", "completion": f"a{m}", "source": "the-task", "score": m, "model": "gpt"}
        for n in range(4)
        for m in range(3)
    ]
    with RunningLabels(write_lines(tmp_path / "policy-dpo.jsonl", rows)) as page:
        told = [json.dumps(call(page, "/api/pair")[1])]
        told += [json.dumps(decide(page)[1]) for _ in range(12)]
        place = f"http://127.0.0.1:{page.port}/"
        with urlopen(place, timeout=30) as response:
            told.append(response.read().decode())
        for text in told:
            assert not re.search("policy-dpo|the-task|gpt|score", text)
        fields = {"name", "prompt", "first", "second"}
        assert set(json.loads(told[0])["pair"]) == fields


def test_a_late_tab_changes_nothing_and_a_second_undo_neither(page: RunningLabels) -> None:
    _, state = call(page, "/api/pair")
    late = {"name": state["pair"]["name"], "verdict": "second", "seconds": 1}
    assert decide(page)[0] == 200
    assert call(page, "/api/decide", late)[0] == 409
    _, now = call(page, "/api/pair")
    assert now["done"] == 1
    status, undone = call(page, "/api/undo", {"name": now["last"]})
    assert (status, undone["done"], undone["pair"]["name"]) == (200, 0, state["pair"]["name"])
    assert call(page, "/api/undo", {"name": now["last"]})[0] == 409
    assert call(page, "/api/decide", late)[0] == 200
    (only,) = read_decisions(decisions_path(page.work.preferences))
    assert only.verdict == "second"


def test_a_pair_that_was_skipped_does_not_come_again(page: RunningLabels) -> None:
    state = call(page, "/api/pair")[1]
    while state["pair"] is not None:
        state = decide(page, "skip")[1]
    assert (state["done"], state["total"]) == (30, 30)
    assert not page.work.preferences.exists()


def test_hostile_texts_are_told_as_they_are(page: RunningLabels) -> None:
    told: set[str] = set()
    state = call(page, "/api/pair")[1]
    while state["pair"] is not None:
        told |= {state["pair"]["first"], state["pair"]["second"]}
        state = decide(page)[1]
    assert HOSTILE in told
    assert "" in told
    assert any(len(text) > 100_000 for text in told)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": None}, 403),
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer guess"}, 401),
        ({"Content_Type": "text/plain"}, 415),
        ({"body": b"{"}, 422),
        ({"body": b"[" * 900}, 422),
        ({"body": {"verdict": "third"}}, 422),
        ({"body": {"seconds": -1}}, 422),
        ({"body": {"seconds": "3"}}, 422),
        ({"body": {"more": 1}}, 422),
        ({"body": {"name": 7}}, 422),
        ({"body": {"name": "x" * 2000}}, 413),
        ({"body": {"name": "unknown"}}, 409),
    ],
)
def test_what_is_not_the_pages_own_call_changes_nothing(
    page: RunningLabels, changed: dict[str, Any], status: int
) -> None:
    name = call(page, "/api/pair")[1]["pair"]["name"]
    body: Any = {"name": name, "verdict": "first", "seconds": 1.0}
    other = changed.pop("body", {})
    body = other if isinstance(other, bytes) else {**body, **other}
    found, answer = call(page, "/api/decide", body, **changed)
    assert (found, bool(answer["error"])) == (status, True)
    assert page.record.decisions == []
    for path in ("/api/pair", "/api/undo"):
        sent = None if path == "/api/pair" else {"name": "x"}
        assert call(page, path, sent, Authorization=None)[0] == 401


def test_a_decision_that_cannot_be_saved_is_said_and_the_pair_stays(page: RunningLabels) -> None:
    assert decide(page)[0] == 200
    before = call(page, "/api/pair")[1]
    with page.work.preferences.open("a") as stream:
        stream.write("mine\n")
    status, answer = decide(page)
    assert status == 507
    assert "was changed while `posttrain label` runs" in answer["error"]
    assert call(page, "/api/pair")[1] == before
