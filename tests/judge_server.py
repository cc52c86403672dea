"""A judge's server in a process of its own, which notes all that it is asked; for whole stages.

It prefers the longer response, gives a point a letter, criticises everything and adds a word.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTED = re.compile(r"<(\w+)((?:-[0-9a-f]{8})?)>\n(.*?)\n</\1\2>", re.DOTALL)
FAILING = "FAIL"  # in a response: the server has no answer to that


@dataclass(frozen=True)
class JudgeServer:
    """url: of the API. asked: a file with a line for every request that came in."""

    url: str
    asked: Path

    def counts(self) -> Counter[str]:
        """Return how often each request came in, by its hash."""
        return Counter(self.asked.read_text().split())

    @property
    def num_asked(self) -> int:
        """How many requests came in."""
        return sum(self.counts().values())


@contextmanager
def judge_server(folder: Path, *, delay_s: float = 0.0) -> Iterator[JudgeServer]:
    """Start it; folder: for what it notes."""
    asked, port = folder / "asked.txt", folder / "port.txt"
    asked.touch()
    arguments = [str(asked), str(port), str(delay_s)]
    process = subprocess.Popen([sys.executable, str(Path(__file__)), *arguments])
    try:
        while not port.exists():
            assert process.poll() is None, "the judge's server has ended"
            time.sleep(0.01)
        yield JudgeServer(f"http://127.0.0.1:{port.read_text()}/v1", asked)
    finally:
        process.terminate()
        process.wait()
        port.unlink(missing_ok=True)


def _answer(body: dict[str, Any]) -> str:
    question = body["messages"][-1]["content"]
    texts = {name: text for name, _, text in _QUOTED.findall(question)}
    if "response_format" not in body:
        return f"{texts['response']} Indeed." if "critique" in texts else "It lacks a word."
    if "A" in texts:
        return json.dumps({"answer": "A" if len(texts["A"]) > len(texts["B"]) else "B"})
    return json.dumps({"answer": min(10, len(texts["response"]))})


def _serve(asked: Path, port: Path, delay_s: float) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
            with asked.open("a") as stream:
                stream.write(f"{digest}\n")
            time.sleep(delay_s)
            fails = FAILING in body["messages"][-1]["content"]
            choice = {"message": {"content": "" if fails else _answer(body)}}
            said = {
                "model": body["model"],
                "choices": [{**choice, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 2},
            }
            text = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # those who ask are killed
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    partial = port.with_suffix(".partial")
    partial.write_text(str(server.server_port))
    partial.rename(port)
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
