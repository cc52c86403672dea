"""A page on this machine that follows a run: its stages, curves and samples, as they come.

One page and one question, asked again every few seconds; nothing can be changed from it. Who is let
in and how it is served is pipeline/web's subject: the same as of the chat's page.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import PosttrainError
from pipeline.web.site import Site, serve_site

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
        self._follower = follower
        self._looking = asyncio.Lock()
        calls = [Route("/api/run", self._describe)]
        self.site = Site(_PAGE, calls, port=port, what="page", say=say)
        self.app, self.door = self.site.app, self.site.door

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
    say(f"the run can be followed at {page.door.address}")
    say("the link lets one tab in; Ctrl-C ends the page")
    serve_site(page.site, bound, opens=opens)
