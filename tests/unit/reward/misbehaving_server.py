"""A server that misbehaves by the path it is asked at, and one that should never hear of it."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field


@dataclass
class Exchange:
    """One request that came in, and the way back."""

    headers: dict[str, str]
    body: dict
    writer: asyncio.StreamWriter
    attempt: int
    here: str
    elsewhere: str
    log: "Log"

    async def write(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            self.log.written[self.here] += len(part)
            await self.writer.drain()


@dataclass
class Log:
    """All that arrived at a server: requests by path, bytes written back, and every byte read."""

    requests: Counter = field(default_factory=Counter)
    written: Counter = field(default_factory=Counter)
    read: bytearray = field(default_factory=bytearray)


Behaviour = bytes | Callable[[Exchange], bytes] | Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True)
class Misbehaviour:
    """cause: what is counted. answer: the number that was said, where one was. sent: requests."""

    name: str
    does: Behaviour
    cause: str = ""
    answer: str = ""
    sent: int = 1
    retries: int = 0
    timeout_s: float = 30.0
    is_pair: bool = False


class Servers:
    """Two servers in a thread: one misbehaves by the path, the other should never hear of it."""

    def __init__(self, rows: Sequence[Misbehaviour]) -> None:
        self._numbers = {row.name: number for number, row in enumerate(rows)}
        self.log, self.elsewhere_log = Log(), Log()
        self._rows = {str(number): row for number, row in enumerate(rows)}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Servers":
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self.port, self.elsewhere_port = starting.result(10)
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def url(self, row: Misbehaviour) -> str:
        return f"http://127.0.0.1:{self.port}/{self._numbers[row.name]}/v1"

    async def _start(self) -> tuple[int, int]:
        self._servers = [
            await asyncio.start_server(handle, "127.0.0.1", 0, backlog=500)
            for handle in (self._behave, self._elsewhere)
        ]
        first, second = (server.sockets[0].getsockname()[1] for server in self._servers)
        return first, second

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _elsewhere(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.elsewhere_log.requests["any"] += 1
        self.elsewhere_log.read += await reader.read(100_000)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async def _behave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError), closing(writer):
            if (begun := await reader.readexactly(1)) == b"\x16":  # a TLS handshake
                writer.write(b"HTTP/1.1 400 X\r\n\r\n")
                return
            head = begun + await reader.readuntil(b"\r\n\r\n")
            self.log.read += head
            request, _, lines = head.decode("latin-1").partition("\r\n")
            pairs = (line.partition(": ") for line in lines.strip().split("\r\n"))
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            number = request.split()[1].split("/")[1]
            self.log.requests[number] += 1
            exchange = Exchange(
                headers,
                json.loads(body),
                writer,
                self.log.requests[number],
                f"http://127.0.0.1:{self.port}/{number}/v1",
                f"http://127.0.0.1:{self.elsewhere_port}/v1",
                self.log,
            )
            await self._perform(self._rows[number].does, exchange)

    async def _perform(self, does: Behaviour, exchange: Exchange) -> None:
        if isinstance(does, bytes):
            await exchange.write(does)
            return
        made = does(exchange)
        if isinstance(made, bytes):
            await exchange.write(made)
        else:
            await made
