"""An endpoint asked through real sockets on this machine: what is sent, and how it is read."""

import asyncio
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from reward.judges.endpoint import Endpoint
from reward.judges.exchange import NoReply, Request
from reward.judges.ledger import Ledger, Limits
from reward.judges.secret import Secret
from reward.judges.transport import Elsewhere, Transport

pytestmark = pytest.mark.enable_socket
KEY = "sk-secret-0123456789abcdef"
QUESTION = Request((("user", "A or B?"),), options=("A", "B"))


def completion(content, **changes) -> dict:
    return {
        "model": "tiny",
        "choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
    } | changes


@contextmanager
def server(answer):
    """Serve `answer(body, headers) -> (status, JSON)`; yields the URL and what was received."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.append((body, {name.lower(): text for name, text in self.headers.items()}))
            status, content = answer(body, self.headers)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", received
    finally:
        running.shutdown()
        running.server_close()


def ask(endpoint: Endpoint, *requests: Request):
    return asyncio.run(endpoint.reply(requests))


def test_options_are_asked_for_by_a_schema_and_read_back() -> None:
    numbers = Request((("user", "How good?"),), options=("1", "2", "3"), wants_reason=True)

    def answer(body, headers):
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        kind = properties["answer"]["type"]
        said = {"answer": "B"} if kind == "string" else {"reason": "well", "answer": 3}
        assert list(properties) == list(said)
        return 200, completion(json.dumps(said))

    ledger = Ledger()
    with server(answer) as (url, received):
        endpoint = Endpoint(url, "tiny", key=KEY, prices=(1.0, 10.0), ledger=ledger)
        plain, scored = ask(endpoint, QUESTION, numbers)
    assert (plain.answer, plain.prompt_tokens, plain.completion_tokens) == ("B", 10, 2)
    assert (scored.answer, scored.reason) == ("3", "well")
    assert [headers["authorization"] for _, headers in received] == [f"Bearer {KEY}"] * 2
    assert received[0][0]["model"] == "tiny"
    assert (ledger.sent, ledger.prompt_tokens, ledger.completion_tokens) == (2, 20, 4)
    assert ledger.cost == pytest.approx((20 * 1.0 + 4 * 10.0) / 1e6)
    assert ledger.notices == []


def test_nothing_of_this_machine_or_its_environment_is_sent(monkeypatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "of-another-host")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: of-another-host")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server(lambda body, headers: (200, completion('{"answer": "A"}'))) as (url, received):
        (reply,) = ask(Endpoint(url, "tiny"), QUESTION)
    assert reply.answer == "A"
    ((_, headers),) = received
    assert set(headers) == {
        "host", "content-length", "content-type", "accept", "accept-encoding", "user-agent",
    }  # fmt: skip
    assert headers["user-agent"] == "posttrain"


def test_a_server_that_knows_no_schema_is_asked_in_words_and_this_is_told_once() -> None:
    def answer(body, headers):
        if "response_format" in body:
            return 400, {"error": {"message": "unknown field `response_format`"}}
        assert body["messages"][-1]["content"].endswith("one of these and nothing else: A, B.")
        return 200, completion(" A. ")

    with server(answer) as (url, received):
        endpoint = Endpoint(url, "tiny")
        assert [reply.answer for reply in ask(endpoint, QUESTION)] == ["A"]
        assert [reply.answer for reply in ask(endpoint, QUESTION, QUESTION)] == ["A", "A"]
    assert len(received) == 4
    assert len(endpoint.ledger.notices) == 1
    assert "response_format" in endpoint.ledger.notices[0]


def test_a_budget_stops_before_the_next_request() -> None:
    with server(lambda body, headers: (200, completion('{"answer": "A"}'))) as (url, received):
        for limits, sent in [
            (Limits(requests=3), 3),
            (Limits(tokens=24), 2),
            (Limits(cost=3e-5), 3),
        ]:
            received.clear()
            endpoint = Endpoint(url, "tiny", at_once=1, limits=limits, prices=(1.0, 0.0))
            replies = ask(endpoint, *[QUESTION] * 5)
            causes = [reply.cause for reply in replies if isinstance(reply, NoReply)]
            assert causes == ["budget"] * (5 - sent)
            assert len(received) == sent


def test_no_more_than_allowed_are_under_way_at_once() -> None:
    under_way, most = 0, 0
    lock = threading.Lock()
    release = threading.Event()

    def answer(body, headers):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                release.set()
        release.wait(5)
        with lock:
            under_way -= 1
        return 200, completion('{"answer": "A"}')

    with server(answer) as (url, _):
        endpoint = Endpoint(url, "tiny", at_once=3)

        async def in_two_calls():
            await asyncio.gather(endpoint.reply([QUESTION] * 6), endpoint.reply([QUESTION] * 6))

        asyncio.run(in_two_calls())
    assert most == 3


def test_a_server_that_is_down_is_not_asked_ten_thousand_times() -> None:
    with server(lambda body, headers: (401, {"error": {"message": "no"}})) as (url, received):
        endpoint = Endpoint(url, "tiny", at_once=4, retries=0)
        replies = ask(endpoint, *[QUESTION] * 500)
    assert {reply.cause for reply in replies} == {"refused_key"}
    assert len(received) < 30
    assert "not asked" in replies[-1].detail


def test_the_key_is_in_no_message_or_representation() -> None:
    def answer(body, headers):
        key = headers["authorization"].removeprefix("Bearer ")
        return 401, {"error": {"message": f"wrong key {key}, {key[:12]}***, {key[3:]}\n"}}

    with server(answer) as (url, _):
        endpoint = Endpoint(url, "tiny", key=KEY, retries=0)
        (reply,) = ask(endpoint, QUESTION)
    assert reply.cause == "refused_key"
    assert "[key], [key]***, [key]" in reply.detail
    shown = repr(endpoint) + repr(reply) + repr(endpoint.ledger)
    assert not any(KEY[at : at + 8] in shown for at in range(len(KEY) - 7))


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "trailing ", "", "k\u00e9y"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Endpoint("http://127.0.0.1:9/v1", "tiny", key=key)
    assert not key or key not in str(caught.value)


def test_answers_that_cannot_be_read_do_not_stop_the_asking() -> None:
    with server(lambda body, headers: (200, completion("well, it depends"))) as (url, received):
        replies = ask(Endpoint(url, "tiny", at_once=4), *[QUESTION] * 40)
    assert len(received) == 40
    assert {reply.cause for reply in replies} == {"not_json"}


@pytest.mark.parametrize(
    "elsewhere",
    ["http://127.0.0.1:{other}/v1", "http://localhost:{port}/v1", "https://127.0.0.1:{port}/v1"],
)
def test_the_transport_sends_to_its_own_place_only(elsewhere: str) -> None:
    async def send(url: str, place: str) -> None:
        transport = Transport(
            httpx2.URL(place),
            Secret(KEY),
            timeout_s=5,
            at_once=1,
            proxy=None,
            tls=ssl.create_default_context(),
            ledger=Ledger(),
            limits=Limits(),
        )
        async with httpx2.AsyncClient(transport=transport) as client:
            await client.post(url, content=b"{}")

    answer = (200, {})
    with server(lambda *_: answer) as (url, here), server(lambda *_: answer) as (other, there):
        asyncio.run(send(url, url))
        ports = {"port": httpx2.URL(url).port, "other": httpx2.URL(other).port}
        with pytest.raises(Elsewhere):
            asyncio.run(send(elsewhere.format(**ports), url))
        assert (len(here), len(there)) == (1, 0)


def test_a_proxy_of_the_users_own_is_used() -> None:
    with server(lambda body, headers: (200, completion('{"answer": "A"}'))) as (proxy, received):
        endpoint = Endpoint("http://judge.invalid/v1", "tiny", proxy=proxy.removesuffix("/v1"))
        (reply,) = ask(endpoint, QUESTION)
    assert reply.answer == "A"
    assert received[0][1]["host"] == "judge.invalid"


def test_a_key_over_http_to_another_machine_is_told() -> None:
    for url in ("https://10.0.0.1/v1", "http://127.0.0.1:1/v1", "http://localhost/v1"):
        assert Endpoint(url, "tiny", key=KEY).ledger.notices == []
    (notice,) = Endpoint("http://10.0.0.1/v1", "tiny", key=KEY).ledger.notices
    assert "others can read it" in notice
    assert KEY not in notice
