"""The one way out to a server: to one place only, with its key, within time, size and budget.

Beneath the `openai` client, so that nothing it adds (headers from the environment, figures about
this machine) leaves, and each of its retries is counted. Follows nothing and believes no proxy of
the environment.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2
from openai import OpenAIError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable

    from reward.judges.ledger import Ledger, Limits
    from reward.judges.secret import Secret

LARGEST_BYTES = 4_000_000  # of a body; an answer of 100,000 tokens has half a million
_SENT = ("content-type", "accept")
_RECEIVED = ("content-type", "retry-after", "retry-after-ms", "location")


class TooLarge(OpenAIError):
    """A body goes on beyond LARGEST_BYTES."""


class OverBudget(OpenAIError):
    """What may be spent is spent; nothing was sent."""


class Elsewhere(OpenAIError):
    """A request would have gone to another place than the endpoint's; nothing was sent."""


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests to one scheme, host and port.

    key: of this place, sent as a bearer token; kept out of the requests that errors refer to.
    timeout_s: of one attempt from connecting to the last byte. proxy: URL of the user's own.
    """

    def __init__(
        self,
        url: httpx2.URL,
        key: Secret | None,
        *,
        timeout_s: float,
        at_once: int,
        proxy: str | None,
        tls: ssl.SSLContext,
        ledger: Ledger,
        limits: Limits,
    ) -> None:
        self._place = _place(url)
        self._key = key
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._limits = limits
        self._inner = httpx2.AsyncHTTPTransport(
            verify=tls,
            trust_env=False,
            proxy=proxy,
            limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send once, and return the whole response."""
        if _place(request.url) != self._place:
            raise Elsewhere("the request is for another place than the endpoint's")
        used_up = self._ledger.used_up(self._limits)
        if used_up is not None:
            raise OverBudget(used_up)
        self._ledger.count_sent()
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        headers |= {"accept-encoding": "identity", "user-agent": "posttrain"}
        if self._key is not None:
            headers["authorization"] = self._key.bearer
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(request, headers)
        except TimeoutError:
            raise httpx2.ReadTimeout(f"not done within {self._timeout_s:g} s") from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _send(self, request: httpx2.Request, headers: dict[str, str]) -> httpx2.Response:
        sent = httpx2.Request(
            request.method, request.url, headers=headers, content=await request.aread()
        )
        response = await self._inner.handle_async_request(sent)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise TooLarge("the body is compressed, though that was not asked for")
            body = await _whole(stream)
        finally:
            await stream.aclose()
        kept = {name: response.headers[name] for name in _RECEIVED if name in response.headers}
        return httpx2.Response(response.status_code, headers=kept, content=body)


async def _whole(stream: AsyncIterable[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        size += len(part)
        if size > LARGEST_BYTES:
            raise TooLarge(f"the body goes on beyond {LARGEST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _place(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
