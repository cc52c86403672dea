"""The chat's page with tiny models, in a thread of the test's process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.chat import web
from pipeline.chat.session import Session
from pipeline.chat.settings import Settings
from pipeline.web.connections import bind_socket, make_server


class Running:
    """A page in a thread, on a port of its own; links: what the terminal was told."""

    def __init__(self, models) -> None:
        self.links: list[str] = []
        bound = bind_socket(0)
        self.port = bound.getsockname()[1]
        self.page = web.ChatPage(Session(models, Settings()), port=self.port, say=self.links.append)
        self.token = self.page.door.token
        self.model = models[0]
        self.uvicorn = make_server(self.page.app)
        self.page.is_closing = lambda: self.uvicorn.should_exit
        self.thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [bound]})
        self.thread.start()

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join()

    def is_free(self, within_s: float) -> bool:
        """Whether the first model's turn comes within so long."""
        deadline_s = time.monotonic() + within_s
        while self.page.voices[0].turn.locked() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return not self.page.voices[0].turn.locked()


@contextmanager
def running_page() -> Iterator[web.ChatPage]:
    """Serve a page with two models."""
    from tests.unit.chat.conftest import tiny_model

    running = Running([tiny_model(), tiny_model(name="other", seed=1)])
    try:
        yield running.page
    finally:
        running.stop()
