"""A page on this machine that follows a run: its stages, curves and samples, as they come.

One page and one question, asked again every few seconds; nothing can be changed from it. Who is let
in is door.py's subject, connections are connections.py's: the same as of the chat's page.
"""

from __future__ import annotations

import asyncio
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import PosttrainError
from pipeline.web.connections import make_server
from pipeline.web.door import Door
from pipeline.web.guard import Guard, answer_refusal, read_page

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlette.requests import Request

    from pipeline.report.live.state import Follower

_PAGE = Path(__file__).with_name("page.html")
_LONGEST_NAME = 200  # characters


class LivePage:
    """The page as a web application. say: is told when a link was used."""

    def __init__(self, follower: Follower, *, port: int, say: Callable[[str], None]) -> None:
        self.door = Door(port, what="page", say=say)
        self._follower = follower
        self._looking = asyncio.Lock()
        self._page, policy = read_page(_PAGE)
        routes = [
            Route("/", self._get_page),
            Route("/api/enter", self.door.enter, methods=["POST"]),
            Route("/api/run", self._describe),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: answer_refusal})
        app.router.redirect_slashes = False
        self.app = Guard(app, hosts={f"127.0.0.1:{port}", f"localhost:{port}"}, policy=policy)

    async def _get_page(self, _request: Request) -> Response:
        return Response(self._page, media_type="text/html")

    async def _describe(self, request: Request) -> Response:
        """Give the run's state; one look at a time, however many tabs ask."""
        self.door.check(request)
        chosen = request.query_params.get("stage", "")[:_LONGEST_NAME]
        async with self._looking:
            try:
                state = await asyncio.to_thread(self._follower.look, chosen)
            except PosttrainError as error:
                raise HTTPException(503, str(error)) from error
        return JSONResponse(state)


def serve(
    follower: Follower, bound: socket.socket, *, opens: bool, say: Callable[[str], None]
) -> None:
    """Serve the page on a bound socket until Ctrl-C."""
    page = LivePage(follower, port=bound.getsockname()[1], say=say)
    address = page.door.address
    say(f"the run can be followed at {address}\nthe link lets one tab in; Ctrl-C ends the page")
    if opens:  # some browsers keep whoever opens them waiting
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with suppress(KeyboardInterrupt):
        make_server(page.app).run(sockets=[bound])
