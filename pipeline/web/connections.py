"""The port of the chat's page, and how long a connection may keep it waiting.

uvicorn gives a new connection all the time it likes to send its headers, so silent ones are hung up
on here: after a while, and the oldest as soon as there are many. A browser sends its headers at
once; no number of silent connections keeps it out. One that does not read what it asked for is hung
up on too.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp

HEADERS_LIMIT_S = 10.0
READING_LIMIT_S = 10.0  # without taking anything of what waits to be sent
MAX_SILENT = 64  # connections without a whole request
_FIRST_PORT, _NUM_PORTS = 8000, 20
_BACKLOG = 128


def bind_socket(port: int | None) -> socket.socket:
    """Return a socket on this machine's own address; None for the first free port from 8000 on."""
    ports = range(_FIRST_PORT, _FIRST_PORT + _NUM_PORTS) if port is None else (port,)
    for candidate in ports:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", candidate))
            # Without this a port that somebody has bound and not listened on would look free.
            bound.listen(_BACKLOG)
        except OSError as error:
            bound.close()
            if isinstance(error, PermissionError):
                message = f"{candidate} is for administrators only"
                raise PosttrainError("--port", message) from error
            if error.errno != errno.EADDRINUSE:
                raise PosttrainError("--port", f"{candidate} cannot be used ({error})") from error
        else:
            return bound
    message = f"{ports[0]} is taken" if port else f"{ports[0]} to {ports[-1]} are all taken"
    raise PosttrainError("--port", message, "name another")


def make_server(app: ASGIApp) -> Server:
    """Return a server that is run on what `bind_socket` gave: logs errors only, HTTP/1.1 only."""
    config = Config(
        app,
        http=_Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,  # nobody stands between
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        reset_contextvars=True,
    )
    return Server(config)


class _Connection(H11Protocol):
    """A connection that must ask for something soon, and once: `Connection: close` ends it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.began_s = self.loop.time()
        self._patience = self.loop.call_later(HEADERS_LIMIT_S, self.hang_up_if_silent)
        ours = [one for one in self.connections if isinstance(one, _Connection)]
        silent = [one for one in ours if one.is_silent]
        if len(silent) > MAX_SILENT:
            min(silent, key=lambda one: one.began_s).hang_up_if_silent()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._patience = self.loop.call_later(READING_LIMIT_S, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._patience.cancel()
        super().resume_writing()

    @property
    def is_silent(self) -> bool:
        """Whether no whole request has come yet; uvicorn makes a cycle of one."""
        return self.cycle is None

    def hang_up_if_silent(self) -> None:
        """Forget a connection that asks for nothing."""
        if self.is_silent:
            self.connections.discard(self)
            self.transport.abort()
