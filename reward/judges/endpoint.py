"""A model behind an OpenAI-compatible server as respondent, through the `openai` client.

Every failure becomes a NoReply with its cause; the key stands in no message, representation or
exception. What leaves this machine, and within which bounds, is transport.py's.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import httpx2
import openai

from reward.judges.answers import FORM, form_in_words, read_answer, response_format
from reward.judges.completions import Completion, read_completion
from reward.judges.exchange import Cause, NoReply, Reply
from reward.judges.ledger import Ledger, Limits
from reward.judges.secret import Secret
from reward.judges.transport import Elsewhere, OverBudget, TooLarge, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from reward.judges.exchange import Request

_BYTES_PER_TOKEN = (
    3  # where a server does not count: fewer than English has, so that a budget holds
)
_PATIENCE = (
    16  # requests in a row that find nobody, and those under way, until the rest is not sent
)
_NOBODY: tuple[Cause, ...] = (
    "unreachable",
    "timeout",
    "refused_key",
    "rate_limit",
    "server_error",
    "redirect",
    "bad_request",
    "budget",
)
_TOO_LONG = re.compile(r"context.{0,20}(?:length|window|size)|too long|too many tokens", re.I)
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_CAUSES: dict[int, Cause] = {
    401: "refused_key",
    403: "refused_key",
    408: "timeout",
    413: "too_long",
    429: "rate_limit",
}


class _Malformed(NoReply):
    """The server takes the request for malformed: perhaps it does not know the schema."""


@dataclass
class _Opened:
    """The connections of one event loop, open while anybody asks."""

    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore
    users: int = 0
    in_vain: int = 0
    last: NoReply | None = None


class Endpoint:
    """Asks the model of a server; each request apart, `at_once` of them at a time.

    url: up to the version. key: printed nowhere, sent to this host only. timeout_s: of one attempt,
    all of its body included. retries: of what may pass (connections, timeouts, 408, 409, 429, 5xx),
    after a wait that doubles, or after Retry-After up to 120 s. proxy: URL of the user's own; the
    environment's are not used. prices: per million tokens of
    prompts and of completions. Raises ValueError for a URL or key that no header can hold.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        at_once: int = 8,
        timeout_s: float = 60.0,
        retries: int = 5,
        proxy: str | None = None,
        prices: tuple[float, float] = (0.0, 0.0),
        limits: Limits | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        try:
            self._url = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"`{url}` is no URL: {error}") from None
        self.ledger = Ledger() if ledger is None else ledger
        self._model = model
        self._key = None if key is None else Secret(key)
        if self._key is not None:
            self._key.keep_out_of_logs()
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._retries = retries
        self._proxy = proxy
        self._prices = prices
        self._limits = Limits() if limits is None else limits
        self._tls = _tls(self._url.scheme)
        self._knows_schema = True
        self._opened: dict[asyncio.AbstractEventLoop, _Opened] = {}
        if key is not None and self._url.scheme == "http" and self._url.host not in _THIS_MACHINE:
            self.ledger.tell(
                f"the key goes to {self._url.host} over http, where others can read it; use https"
            )

    def __repr__(self) -> str:
        return f"Endpoint({str(self._url)!r}, {self._model!r})"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Where and what the model is, and the words in which it is asked for an option."""
        return {"endpoint": str(self._url), "model": self._model, "form": FORM}

    @property
    def at_a_time(self) -> int:
        """One: calls are made at once."""
        return 1

    async def reply(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Ask each, and wait for all."""
        async with self._open() as opened:
            return await asyncio.gather(*(self._reply(request, opened) for request in requests))

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[_Opened]:
        loop = asyncio.get_running_loop()
        if loop not in self._opened:
            self._opened[loop] = _Opened(self._client(), asyncio.Semaphore(self._at_once))
        opened = self._opened[loop]
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            if not opened.users:
                del self._opened[loop]
                await opened.client.close()

    def _client(self) -> openai.AsyncOpenAI:
        transport = Transport(
            self._url,
            self._key,
            timeout_s=self._timeout_s,
            at_once=self._at_once,
            proxy=self._proxy,
            tls=self._tls,
            ledger=self.ledger,
            limits=self._limits,
        )
        http = httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)
        # The transport alone has the key, and sends none of the client's own headers.
        return openai.AsyncOpenAI(
            api_key="unused",
            base_url=self._url,
            max_retries=self._retries,
            timeout=self._timeout_s,
            http_client=http,
        )

    async def _reply(self, request: Request, opened: _Opened) -> Reply | NoReply:
        async with opened.slots:
            if opened.last is not None and opened.in_vain >= _PATIENCE + self._at_once:
                cause, detail = opened.last.cause, opened.last.detail
                return NoReply(cause, f"not asked: so many before it found nobody ({detail})")
            reply = await self._ask(request, opened.client)
        if not isinstance(reply, NoReply):
            opened.in_vain = 0
            return reply
        failure = NoReply(reply.cause, self._shown(reply.detail))
        if failure.cause in _NOBODY:
            opened.in_vain += 1
            opened.last = failure
        else:
            opened.in_vain = 0
        return failure

    async def _ask(self, request: Request, client: openai.AsyncOpenAI) -> Reply | NoReply:
        """Ask with a schema; without one where the server refuses it, and from then on."""
        has_schema = request.options is not None and self._knows_schema
        said = await self._complete(request, client, has_schema=has_schema)
        if has_schema and isinstance(said, _Malformed):
            plain = await self._complete(request, client, has_schema=False)
            if isinstance(plain, Completion):
                self._knows_schema = has_schema = False
                self.ledger.tell(
                    f"{self._url.host} takes no `response_format` ({self._shown(said.detail)}): "
                    "it is asked in words, and its words are read strictly"
                )
                said = plain
        if isinstance(said, NoReply):
            return said
        if isinstance(said.words, NoReply):
            return said.words
        read = read_answer(said.words, request, has_schema=has_schema)
        if isinstance(read, NoReply):
            return read
        answer, reason = read
        return Reply(
            self._redacted(answer),
            self._redacted(reason),
            prompt_tokens=said.prompt_tokens or 0,
            completion_tokens=said.completion_tokens or 0,
        )

    async def _complete(
        self, request: Request, client: openai.AsyncOpenAI, *, has_schema: bool
    ) -> Completion | NoReply:
        """Send a request, and account for what came back."""
        messages = [{"role": role, "content": content} for role, content in request.messages]
        messages[-1]["content"] += form_in_words(request, has_schema=has_schema)
        extra = {"response_format": response_format(request)} if has_schema else {}
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            **extra,
        }
        try:
            raw = cast("Any", client.chat.completions.with_raw_response)
            response = cast("httpx2.Response", (await raw.create(**body)).http_response)
        except openai.OpenAIError as error:
            return _failure(error)
        prompt_bytes = sum(len(message["content"].encode()) for message in messages)
        text = response.content.decode("utf-8", "replace")
        said = read_completion(text, prompt_bytes=prompt_bytes, max_tokens=request.max_tokens)
        self._bill(said, prompt_bytes)
        return said

    def _bill(self, said: Completion, prompt_bytes: int) -> None:
        prompt, completion = said.prompt_tokens, said.completion_tokens
        is_estimated = prompt is None or completion is None
        if prompt is None or completion is None:
            words = said.words if isinstance(said.words, str) else ""
            prompt = prompt_bytes // _BYTES_PER_TOKEN + 1
            completion = len(words.encode()) // _BYTES_PER_TOKEN + 1
        price = prompt * self._prices[0] + completion * self._prices[1]
        self.ledger.bill(prompt, completion, price / 1_000_000, is_estimated=is_estimated)
        if said.model is not None and said.model != self._model:
            self.ledger.tell(
                f"asked for the model {self._model}, {self._url.host} answered as "
                f"{self._shown(said.model)}"
            )

    def _shown(self, text: str) -> str:
        """Return a server's words for a message: one line, printable, without the key."""
        line = " ".join(self._redacted(text).split())
        return "".join(letter for letter in line if letter.isprintable())[:200]

    def _redacted(self, text: str) -> str:
        return text if self._key is None else self._key.redacted(text)


@cache
def _tls(scheme: str) -> ssl.SSLContext:
    """Return the certificates that are trusted; reading them takes 0.1 s, and http needs none."""
    if scheme == "https":
        return httpx2.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _failure(error: openai.OpenAIError) -> NoReply:
    """Return why a request has no answer; of a server's words the first few, of ours all."""
    match error:
        case OverBudget():
            return NoReply("budget", str(error))
        case TooLarge():
            return NoReply("too_large", str(error))
        case Elsewhere():
            return NoReply("redirect", str(error))
        case openai.APITimeoutError():
            return NoReply("timeout", "no whole answer in time")
        case openai.APIConnectionError():
            return NoReply("unreachable", f"{error.__cause__}" or "the connection failed")
        case openai.APIStatusError():
            return _refused(error.status_code, error.response)
        case _:
            return NoReply("bad_request", f"{type(error).__name__}: {error}")


def _refused(status: int, response: httpx2.Response) -> NoReply:
    said = response.content[:2000].decode("utf-8", "replace")
    if 300 <= status < 400:
        target = response.headers.get("location", "")
        return NoReply("redirect", f"status {status} to {target}; redirects are not followed")
    if status in (400, 422):
        if _TOO_LONG.search(said):
            return NoReply("too_long", f"status {status}: {said}")
        return _Malformed("bad_request", f"status {status}: {said}")
    cause = _CAUSES.get(status, "server_error" if status >= 500 else "bad_request")
    return NoReply(cause, f"status {status}: {said}")
