"""Over a hundred ways for a judge's server to misbehave: no number is made up, each is counted.

All are asked at once, through real sockets (misbehaving_judges.py has the table).
"""

import asyncio
import io
import logging
import resource
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from reward.judges.endpoint import Endpoint
from reward.judges.exchange import NoReply
from reward.judges.judge import Judge, Pair
from reward.judges.ledger import Ledger
from tests.unit.reward.misbehaving_judges import KEY, ROWS
from tests.unit.reward.misbehaving_server import Misbehaviour, Servers

pytestmark = pytest.mark.enable_socket


ESTIMATED = {"usage missing", "usage below zero", "usage of 10^18 tokens", "usage as text"}
TOLD = {
    "400 for response_format": "takes no `response_format`",
    "422 for response_format": "takes no `response_format`",
    "another model": "answered as huge",
}


@dataclass(frozen=True)
class Outcome:
    found: object
    ledger: Ledger
    requests: int
    written: int


@dataclass(frozen=True)
class Outcomes:
    by_name: dict[str, Outcome]
    read: bytes
    read_elsewhere: bytes
    logged: str
    took_s: float
    grew_bytes: int


def judge_at(url: str, row: Misbehaviour) -> Judge:
    ledger = Ledger()
    endpoint = Endpoint(
        url, "tiny", key=KEY, timeout_s=row.timeout_s, retries=row.retries, ledger=ledger
    )
    return Judge(endpoint, "any", ledger=ledger)


async def judged(judge: Judge, row: Misbehaviour) -> object:
    if row.is_pair:
        return (await judge.prefer([Pair("Why?", "Because.", "No.", "1")]))[0]
    return (await judge.score([("Why?", "Because.")]))[0]


@pytest.fixture(scope="module")
def outcomes():
    """Every misbehaviour met once, all at the same time, with all loggers open."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    try:
        with Servers(ROWS) as servers, pytest.MonkeyPatch.context() as patch:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
                patch.setenv(name, f"http://127.0.0.1:{servers.elsewhere_port}")
            judges = [judge_at(servers.url(row), row) for row in ROWS]

            async def at_once(are_patient):
                rows = [n for n, row in enumerate(ROWS) if (row.timeout_s > 5) == are_patient]
                said = await asyncio.gather(*(judged(judges[n], ROWS[n]) for n in rows))
                return dict(zip(rows, said, strict=True))

            # Those that run into a short timeout come after the crowd, so that they get there.
            found = asyncio.run(at_once(True)) | asyncio.run(at_once(False))
            took_s = time.monotonic() - start
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    log = servers.log
    by_name = {
        row.name: Outcome(
            found[number],
            judge.ledger,
            log.requests[str(number)],
            log.written[f"{servers.url(row)}"],
        )
        for number, (row, judge) in enumerate(zip(ROWS, judges, strict=True))
    }
    grew = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    read_elsewhere = bytes(servers.elsewhere_log.read)
    return Outcomes(by_name, bytes(log.read), read_elsewhere, stream.getvalue(), took_s, grew)


@pytest.mark.parametrize("row", [row for row in ROWS if row.cause], ids=lambda row: row.name)
def test_no_number_is_made_up_and_each_is_counted_by_its_cause(outcomes, row: Misbehaviour) -> None:
    outcome = outcomes.by_name[row.name]
    assert isinstance(outcome.found, NoReply), outcome.found
    assert outcome.found.cause == row.cause, outcome.found
    ledger = outcome.ledger
    asked = 2 if row.is_pair else 1
    assert ledger.failures == Counter({row.cause: asked})
    assert (ledger.asked, ledger.pairs, ledger.cached) == (asked, 0, 0)
    assert ledger.sent == row.sent * asked
    if row.cause != "timeout":  # on a busy machine it may come before the server has heard
        assert outcome.requests == row.sent * asked


@pytest.mark.parametrize("row", [row for row in ROWS if row.answer], ids=lambda row: row.name)
def test_what_was_really_said_is_taken(outcomes, row: Misbehaviour) -> None:
    outcome = outcomes.by_name[row.name]
    assert not isinstance(outcome.found, NoReply), outcome.found
    assert (outcome.found.answer, outcome.found.value) == (row.answer, float(row.answer))
    assert outcome.ledger.failures == Counter()
    assert (outcome.requests, outcome.ledger.sent) == (row.sent, row.sent)
    assert outcome.ledger.without_usage == (row.name in ESTIMATED)
    assert 1 <= outcome.ledger.prompt_tokens < 10_000
    assert 1 <= outcome.ledger.completion_tokens < 1_000
    told = outcome.ledger.notices
    assert [TOLD[row.name] in notice for notice in told] == [True] * (row.name in TOLD)


def test_there_are_forty_and_more() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) >= 40
    assert all(bool(row.cause) != bool(row.answer) for row in ROWS)


def test_no_byte_goes_to_another_host(outcomes) -> None:
    assert KEY.encode() in outcomes.read
    assert outcomes.read_elsewhere == b""


def test_the_key_is_in_no_result_count_or_log(outcomes) -> None:
    shown = repr(outcomes.by_name) + outcomes.logged
    pieces = [KEY[at : at + 8] for at in range(len(KEY) - 7)]
    assert [piece for piece in pieces if piece in shown] == []
    assert "receive_response_headers" in outcomes.logged
    assert "[key]" in outcomes.by_name["the key in an error"].found.detail


@pytest.mark.parametrize("name", ["a body of 1 GB", "chunks of 1 GB", "an error of 1 GB"])
def test_a_body_without_end_is_left_after_a_few_megabytes(outcomes, name: str) -> None:
    assert outcomes.by_name[name].written < 50_000_000
    assert outcomes.grew_bytes < 500_000_000


def test_nothing_waits_longer_than_its_attempts_may(outcomes) -> None:
    """The longest row: two attempts of a second each, and the wait between them."""
    assert outcomes.took_s < 45


def test_a_closed_port_and_tls_on_a_plain_one_are_unreachable() -> None:
    with Servers(ROWS) as servers:
        port = servers.port
        tls_on_a_plain_port = ask_at(f"https://127.0.0.1:{port}/0/v1")
    nobody_listens = ask_at(f"http://127.0.0.1:{port}/0/v1")
    assert [tls_on_a_plain_port.cause, nobody_listens.cause] == ["unreachable"] * 2
    assert KEY.encode() not in servers.log.read


def ask_at(url: str) -> object:
    row = Misbehaviour("none", b"", timeout_s=10)
    return asyncio.run(judged(judge_at(url, row), row))
