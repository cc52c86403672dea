"""A page on this machine as a web application: its file, who is let in, and its calls.

What the calls answer is their owners' subject: the chat's, a run's, a labeller's. Who is let in is
door.py's, what other sites may do guard.py's, connections are connections.py's.
"""

from __future__ import annotations

import threading
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from pipeline.web.connections import make_server
from pipeline.web.door import Door
from pipeline.web.guard import Guard, answer_refusal, read_page

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from uvicorn import Server


class Site:
    """A page and its calls, on the loopback interface.

    path: of the page's HTML. calls: below /api/, each of which checks `door` itself. what: the page
    is called, in sentences. say: is told when a link was used.
    """

    def __init__(
        self,
        path: Path,
        calls: Sequence[Route],
        *,
        port: int,
        what: str,
        say: Callable[[str], None],
    ) -> None:
        self.door = Door(port, what=what, say=say)
        self._page, policy = read_page(path)
        routes = [
            Route("/", self._get_page),
            Route("/api/enter", self.door.enter, methods=["POST"]),
            *calls,
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: answer_refusal})
        app.router.redirect_slashes = False
        self.app = Guard(app, hosts={f"127.0.0.1:{port}", f"localhost:{port}"}, policy=policy)

    async def _get_page(self, _request: Request) -> Response:
        return Response(self._page, media_type="text/html")


def serve_site(
    site: Site,
    bound: socket.socket,
    *,
    opens: bool,
    on_start: Callable[[Server], None] = lambda server: None,
) -> None:
    """Serve a page on a bound socket until Ctrl-C.

    opens: in the browser, too. on_start: gets the server, whose `should_exit` says that it ends.
    """
    server = make_server(site.app)
    on_start(server)
    if opens:  # some browsers keep whoever opens them waiting
        address = site.door.address
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
