"""The chat as a page on this machine: one page, two calls, no state but the models.

The page keeps the conversations and sends them along. It can be reached from this machine alone,
by whoever has the token in its address; other sites in the same browser are kept out by the token
and by the Host and Origin headers. What a model writes goes to the page as it is, which shows it as
text.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import secrets
import sys
import threading
import time
import webbrowser
from base64 import b64encode
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.chat.session import Exchange, begin_answer
from pipeline.chat.settings import Settings, said
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.chat.session import Session
    from pipeline.chat.writing import Answer

MAX_BODY_BYTES = 1 << 20
MAX_CONNECTIONS = 16
ANSWER_LIMIT_S = 600.0
_WAIT_S = 10.0  # for a model that is still answering, and for a client that is silent
_FIRST_PORT, _NUM_PORTS = 8000, 20
_PAGE = Path(__file__).with_name("page.html")
_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Asked(BaseModel):
    """What the page sends: which model, what was said before, and the text to answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[int, Field(ge=0)]
    earlier: Annotated[list[tuple[str, str]], Field(max_length=1000)]
    prompt: str
    settings: Settings
    attempt: Annotated[int, Field(ge=0)] = 0


class ChatServer(ThreadingHTTPServer):
    """Serves the page and the models' answers on the loopback interface.

    token: what a request must bring. address: of the page, the token in it, which a browser sends
    to nobody, since it stands behind `#`.
    """

    daemon_threads = True

    def __init__(self, session: Session, *, port: int) -> None:
        self.sides = session.sides
        self.settings = session.settings
        self.token = secrets.token_urlsafe(24)
        self.is_closing = False
        self.page, self.policy = _page()
        self.turns = [threading.Lock() for _ in session.sides]
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(("127.0.0.1", port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.address = f"http://127.0.0.1:{self.server_port}/#{self.token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or hang up where there are too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client go that hung up; anything else is a bug of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Close the port and wait for answers that are being written."""
        self.is_closing = True
        super().server_close()
        for turn in self.turns:
            turn.acquire(timeout=_WAIT_S)


def serve(session: Session, *, port: int | None, opens: bool, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C; port: None for the first free one from 8000 on."""
    with _bound(session, port) as server:
        say(f"the chat is at {server.address}\nCtrl-C ends it")
        if opens:
            webbrowser.open(server.address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _bound(session: Session, port: int | None) -> ChatServer:
    ports = range(_FIRST_PORT, _FIRST_PORT + _NUM_PORTS) if port is None else (port,)
    for each in ports:
        try:
            return ChatServer(session, port=each)
        except PermissionError as error:
            raise PosttrainError("--port", f"{each} is for administrators only") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PosttrainError("--port", f"{each} cannot be used ({error})") from error
    message = f"{ports[0]} is taken" if port else f"{ports[0]} to {ports[-1]} are all taken"
    raise PosttrainError("--port", message, "name another")


def _page() -> tuple[bytes, str]:
    """Return the page and the policy that lets its own script and style run and nothing else."""
    page = _PAGE.read_text(encoding="utf-8")
    hashes: dict[str, str] = {}
    for tag in ("script", "style"):
        inner = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        hashes[tag] = b64encode(hashlib.sha256(inner.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def _require(holds: bool, status: HTTPStatus, message: str) -> None:
    if not holds:
        raise _RefusedError(status, message)


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = _WAIT_S

    def do_GET(self) -> None:
        self._unless_refused(self._get)

    def do_POST(self) -> None:
        self._unless_refused(self._post)

    def _unless_refused(self, act: Callable[[], None]) -> None:
        try:
            act()
        except _RefusedError as refused:
            self._send_json(refused.status, {"error": str(refused)})

    def _get(self) -> None:
        self._check_host()
        path = urlsplit(self.path).path
        if path == "/":
            policy = {"Content-Security-Policy": self.server.policy}
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page, policy)
            return
        _require(path == "/api/chat", HTTPStatus.NOT_FOUND, "there is no such page")
        self._check_token()
        self._send_json(HTTPStatus.OK, self._description())

    def _post(self) -> None:
        body = self._body()
        self._check_host()
        origin = self.headers.get("Origin", "").removeprefix("http://")
        _require(origin in self.server.hosts, HTTPStatus.FORBIDDEN, "another site asked for this")
        self._check_token()
        is_json = self.headers.get_content_type() == "application/json"
        _require(is_json, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "this is no JSON")
        path = urlsplit(self.path).path
        _require(path == "/api/answer", HTTPStatus.NOT_FOUND, "there is no such call")
        self._answer(_asked(body, len(self.server.sides)))

    def _check_host(self) -> None:
        """Keep out a site whose name was made to lead here (DNS rebinding)."""
        given = self.headers.get_all("Host", [])
        is_ours = len(given) == 1 and given[0] in self.server.hosts
        _require(is_ours, HTTPStatus.MISDIRECTED_REQUEST, "this is another host")

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        is_right = hmac.compare_digest(given, f"Bearer {self.server.token}".encode())
        message = "the address is not complete: open the one that the terminal shows"
        _require(is_right, HTTPStatus.UNAUTHORIZED, message)

    def _body(self) -> bytes:
        given = self.headers.get("Content-Length", "")
        is_number = given.isascii() and given.isdigit() and len(given) < 16
        _require(is_number, HTTPStatus.LENGTH_REQUIRED, "how long is it?")
        length = int(given)
        body = b""
        with suppress(OSError):  # it did not come in time
            # Some of what is too long as well: a client that is cut short never sees the answer.
            body = self.rfile.read(min(length, 4 * MAX_BODY_BYTES))
        is_short = length <= MAX_BODY_BYTES
        message = "the conversation is too long to send"
        _require(is_short, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        _require(len(body) == length, HTTPStatus.REQUEST_TIMEOUT, "it did not come in time")
        return body

    def _description(self) -> dict[str, Any]:
        return {
            "models": [
                {
                    "name": side.name,
                    "source": side.model.name,
                    "form": side.model.form,
                    "parameters": side.size,
                    "positions": side.model.max_length,
                }
                for side in self.server.sides
            ],
            "settings": self.server.settings.model_dump(),
        }

    def _answer(self, asked: Asked) -> None:
        side, turn = self.server.sides[asked.model], self.server.turns[asked.model]
        is_free = turn.acquire(timeout=_WAIT_S)
        message = f"{side.name} is still answering something else"
        _require(is_free, HTTPStatus.SERVICE_UNAVAILABLE, message)
        try:
            earlier = [Exchange(prompt, reply) for prompt, reply in asked.earlier]
            answer = begin_answer(
                side.model, earlier, asked.prompt, asked.settings, attempt=asked.attempt
            )
            self._stream(answer)
        except PosttrainError as error:
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        finally:
            turn.release()

    def _stream(self, answer: Answer) -> None:
        """Send a JSON object a line, the text of a token in each, and at last how it ended."""
        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        self._send_head(HTTPStatus.OK, "application/x-ndjson", {"Transfer-Encoding": "chunked"})
        self._send_line({"left_out": answer.left_out})
        try:
            for piece in answer:
                self._send_line({"text": piece})
                if self.server.is_closing or time.monotonic() > deadline_s:
                    break
        except PosttrainError as error:
            self._send_line({"error": str(error)})
        took = {"tokens": answer.num_tokens, "seconds": answer.seconds}
        self._send_line({"ended": answer.ended or "stopped", **took})
        self.wfile.write(b"0\r\n\r\n")

    def _send_line(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _send_json(self, status: HTTPStatus, record: Mapping[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(record).encode(), {})

    def _send(self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._send_head(status, kind, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def _send_head(self, status: HTTPStatus, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": kind, **_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the user."""


def _asked(body: bytes, num_models: int) -> Asked:
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(said(error))) from error
    is_there = asked.model < num_models
    _require(is_there, HTTPStatus.UNPROCESSABLE_ENTITY, f"there is no model {asked.model}")
    return asked
