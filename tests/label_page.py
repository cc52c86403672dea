"""The labelling page in a thread of the test's process, on rows that are hard to show."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pipeline.cli.app import store_at
from pipeline.feedback.labelling import find_work
from pipeline.feedback.record import open_record
from pipeline.feedback.session import Session
from pipeline.feedback.web import LabellingPage
from pipeline.web.connections import bind_socket, make_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOSTILE = (
    "<img src=x onerror=window.pwned=1><script>window.pwned=1</script></div>&lt;b&gt;\u202etxet"
)
CODE = "Like this:\n```python\ndef add(a, b):\n\treturn a + b  # <b>\n```\nThat is all."
ARABIC = "الجواب هو 42، وهذا نص من اليمين إلى اليسار. English inside."
LONG = "A long answer goes on. " * 4400  # 100 kB
RESPONSES = ("Paris.", HOSTILE, ARABIC, CODE, "", LONG, "word" * 200)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Do you mean today's?"},
    {"role": "user", "content": "Yes <b>today's</b>.\n\nIn one word."},
]


def hard_rows(number: int = 6) -> list[dict[str, Any]]:
    """Return rows of several prompts, each with every response that is hard to show."""
    rows: list[dict[str, Any]] = []
    for place in range(number):
        prompt: Any = [*CHAT[:-1], {"role": "user", "content": f"{CHAT[-1]['content']} ({place})"}]
        if place % 2:
            prompt = f"Once upon a time, {place},"
        for text in RESPONSES:
            chat = [{"role": "assistant", "content": text}]
            rows.append({"prompt": prompt, "completion": text if place % 2 else chat})
    return rows


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class RunningLabels:
    """A page on a file of rows, in a thread, as the command serves it. stop() is as Ctrl-C."""

    def __init__(
        self, rows: Path, *, pairs: int = 30, repeat: float = 0.1, out: Path | None = None
    ) -> None:
        self.links: list[str] = []
        self.work = find_work([str(rows)], out, store_at(rows.parent / "runs"), {})
        showings, self.lines = self.work.draw(at_most=pairs, repeat=repeat, seed=0)
        self._files = ExitStack()
        self.record = self._files.enter_context(open_record(self.work.preferences, "me"))
        self.session = Session(showings, self.record, labeller="me", seed=0)
        bound = bind_socket(0)
        self.port = bound.getsockname()[1]
        self.page = LabellingPage(self.session, port=self.port, say=self.links.append)
        self.token = self.page.door.token
        self._uvicorn = make_server(self.page.app)
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [bound]})
        self._thread.start()

    def __enter__(self) -> RunningLabels:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the page and let go of its files."""
        self._uvicorn.should_exit = True
        self._thread.join()
        self._files.close()
