"""The page on which somebody says which of two responses is better, on this machine only.

One page and three calls; all state is the session's, so that a reload or a second tab loses
nothing. Who is let in and how it is served is pipeline/web's subject.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import PosttrainError
from pipeline.feedback.decisions import Seconds, Verdict
from pipeline.feedback.session import StaleError
from pipeline.web.guard import read_body
from pipeline.web.site import Site, serve_site

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlette.requests import Request

    from pipeline.feedback.session import Session

_PAGE = Path(__file__).with_name("page.html")
_MAX_BODY_BYTES = 1000
_Name = Annotated[str, Field(max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Decided(_Body):
    """What the page sends: the pair by its name, what is decided, and how long it was looked at."""

    name: _Name
    verdict: Verdict
    seconds: Seconds


class Regretted(_Body):
    """What the page sends to take the last decision back, by its pair's name."""

    name: _Name


class LabellingPage:
    """The page as a web application.

    say: is told when a link was used. on_finish: is called when the last pair is decided.
    """

    def __init__(
        self,
        session: Session,
        *,
        port: int,
        say: Callable[[str], None],
        on_finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._on_finish = on_finish
        self._writing = asyncio.Lock()
        calls = [
            Route("/api/pair", self._tell),
            Route("/api/decide", self._decide, methods=["POST"]),
            Route("/api/undo", self._undo, methods=["POST"]),
        ]
        self.site = Site(_PAGE, calls, port=port, what="page", say=say)
        self.app, self.door = self.site.app, self.site.door

    async def _tell(self, request: Request) -> Response:
        self.door.check(request)
        async with self._writing:
            return self._answer()

    async def _decide(self, request: Request) -> Response:
        found = await self._read(request, Decided)
        decide = self._session.decide
        answer = await self._write(lambda: decide(found.name, found.verdict, found.seconds))
        if self._session.is_finished:
            self._on_finish()
        return answer

    async def _undo(self, request: Request) -> Response:
        found = await self._read(request, Regretted)
        return await self._write(lambda: self._session.take_back(found.name))

    async def _write(self, change: Callable[[], None]) -> Response:
        """Make a change, one at a time, and tell how things stand; 409 if it was made before."""
        async with self._writing:
            try:
                await asyncio.to_thread(change)
            except StaleError as error:
                raise HTTPException(409, str(error)) from error
            except PosttrainError as error:
                raise HTTPException(507, str(error)) from error
            return self._answer()

    def _answer(self) -> Response:
        return JSONResponse(self._session.tell())

    async def _read(self, request: Request, kind: type[Any]) -> Any:
        self.door.check(request)
        if request.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "this is no JSON")
        body = await read_body(request, max_bytes=_MAX_BODY_BYTES)
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise HTTPException(422, "this is not what the page sends") from error


def serve(
    session: Session,
    bound: socket.socket,
    *,
    opens: bool,
    say: Callable[[str], None],
    on_finish: Callable[[], None],
) -> None:
    """Serve the page on a bound socket until Ctrl-C."""
    page = LabellingPage(session, port=bound.getsockname()[1], say=say, on_finish=on_finish)
    say(f"label at {page.door.address}")
    say("the link lets one tab in; every decision is saved at once; Ctrl-C ends")
    serve_site(page.site, bound, opens=opens)
