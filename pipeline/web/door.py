"""Who is let into a page on this machine: one browser tab a link, for a token of its own.

A link's code lets one tab in, once: the tab changes the code behind its `#`, which a browser sends
to nobody, for a token that it keeps to itself. No cookie: a browser would show it to whatever
listens on another port.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pipeline.web.guard import read_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

_VOID = (
    "this link is void, since each lets one tab in: open the newest that the terminal shows. "
    "If it was not you who used this one, end the {what}"
)


class Door:
    """The link to a page, and the token of those who came in by it.

    what: the page is called, in sentences. say: is told that a link was used, and the next one.
    """

    def __init__(self, port: int, *, what: str, say: Callable[[str], None]) -> None:
        self.token = secrets.token_urlsafe(24)
        self._place = f"http://127.0.0.1:{port}"
        self._code = secrets.token_urlsafe(24)
        self._what, self._say = what, say

    @property
    def address(self) -> str:
        """The link that lets the next tab in."""
        return f"{self._place}/#{self._code}"

    async def enter(self, request: Request) -> Response:
        """Change the link's code for the token, once."""
        code = await read_body(request, max_bytes=1000)
        if not hmac.compare_digest(code, self._code.encode()):
            raise HTTPException(401, _VOID.format(what=self._what))
        self._code = secrets.token_urlsafe(24)
        self._say(f"opened; another tab gets in by {self.address}")
        return JSONResponse({"token": self.token})

    def check(self, request: Request) -> None:
        """Raise HTTPException unless a request has the token."""
        credentials = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(credentials, f"Bearer {self.token}".encode()):
            raise HTTPException(401, "open the link that the terminal shows")
