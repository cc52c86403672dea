"""Who may ask a page for something, how much and how long, and what the page may do.

What is answered is web.py's subject.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Coroutine, Set

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_S = 10.0
_SHARED = (Path(__file__).with_name("page.css"), Path(__file__).with_name("page.js"))
_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Lets through what is asked of one of `hosts`, and calls only from pages of theirs.

    So a site whose name was made to lead here (DNS rebinding) is kept out, and so are other sites.
    Every answer, an error too, carries `policy` and tells the browser to keep and share nothing.
    """

    def __init__(self, app: ASGIApp, *, hosts: Set[str], policy: str) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return JSONResponse({"error": "this is another host"}, 421)
        origin = headers.get("origin", "").removeprefix("http://")
        if method not in ("GET", "HEAD") and origin not in self._hosts:
            return JSONResponse({"error": "another site asked for this"}, 403)
        return None


def answer_refusal(_request: Request, error: Exception) -> JSONResponse:
    """Answer an HTTPException as the page reads it."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body of a request; HTTPException for one that is too long or does not come.

    Some of what is too long is read as well: a client that is cut short never sees the answer.
    """
    body = bytearray()
    num_bytes = 0
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            async for part in request.stream():
                num_bytes += len(part)
                if num_bytes <= max_bytes:
                    body += part
                elif num_bytes > 4 * max_bytes:
                    break
    except TimeoutError as error:
        raise HTTPException(408, "it did not come in time") from error
    if num_bytes > max_bytes:
        raise HTTPException(413, "that is too long to send")
    return bytes(body)


async def stop_when_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do some work, or as much of it as is done when the client hangs up."""

    async def is_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.create_task(work), asyncio.create_task(is_gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.wait({working, watching})
    if not working.cancelled():
        working.result()


def read_page(path: Path) -> tuple[bytes, str]:
    """Return a page and the policy that lets its own script and style run and nothing else.

    A page takes in what all pages share with a line `/* page.css */` or `/* page.js */`.
    """
    page = path.read_text(encoding="utf-8")
    for shared in _SHARED:
        page = page.replace(f"/* {shared.name} */", shared.read_text(encoding="utf-8"), 1)
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
