"""The chat as a page on this machine: one page, three calls, no state but the models.

The page keeps the conversations and sends them along. It can be reached from this machine alone,
and a link lets one browser tab in, once (door.py). Other sites in the same browser are kept out by
the token and by the Host and Origin headers. What a model writes goes to the page as it is, which
shows it as text. Connections are connections.py's subject.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.chat.child_process import GivenUpError
from pipeline.chat.context_window import Exchange
from pipeline.chat.generation import ToolText
from pipeline.chat.session import begin_answer, tools_of
from pipeline.chat.settings import Settings, refuse
from pipeline.errors import PosttrainError
from pipeline.text.pictures import page_image
from pipeline.web.guard import read_body, stop_when_gone
from pipeline.web.site import Site, serve_site

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send
    from uvicorn import Server

    from pipeline.chat.generation import Answer
    from pipeline.chat.session import Session, Side

_PAGE = Path(__file__).with_name("page.html")
MAX_BODY_BYTES = 1 << 20
MAX_EXCHANGES = 1000
MAX_ASKING = 8  # answers being written or waited for
ANSWER_LIMIT_S = 600.0
_PICTURE_PX = 160
TURN_LIMIT_S = 10.0  # for a model that is still answering
T = TypeVar("T")


class Question(BaseModel):
    """What the page sends: which model, what was said before, and the text to answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[int, Field(ge=0)]
    earlier: Annotated[list[tuple[str, str]], Field(max_length=MAX_EXCHANGES)]
    prompt: str
    settings: Settings
    attempt: Annotated[int, Field(ge=0)] = 0


class Voice:
    """A model, the thread it answers in, and whose turn it is."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, f"answers of {side.name}")

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    @asynccontextmanager
    async def take_turn(self) -> AsyncIterator[None]:
        """Wait for the model's turn, not for long."""
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                await self.turn.acquire()
        except TimeoutError as error:
            message = f"{self.side.name} is still answering something else"
            raise HTTPException(503, message) from error
        try:
            yield
        finally:
            self.turn.release()


class ChatPage:
    """The page as a web application: who is let in, and the models' answers.

    address: of the page, with the code that lets one tab in; void once it was used, and another one
    is there. say: is told so.
    """

    def __init__(self, session: Session, *, port: int, say: Callable[[str], None]) -> None:
        self.voices = [Voice(side) for side in session.sides]
        self.is_closing: Callable[[], bool] = lambda: False
        self._settings = session.settings
        self._num_asking = 0
        calls = [
            Route("/api/chat", self._describe),
            Route("/api/answer", self._answer, methods=["POST"]),
        ]
        self.site = Site(_PAGE, calls, port=port, what="chat", say=say)
        self.app, self.door = self.site.app, self.site.door

    @property
    def address(self) -> str:
        """The link that lets the next tab in."""
        return self.door.address

    @contextmanager
    def count_asking(self) -> Iterator[None]:
        """Count an answer that is written or waited for; HTTPException when there are too many."""
        if self._num_asking >= MAX_ASKING:
            raise HTTPException(503, "too many answers are asked for at once")
        self._num_asking += 1
        try:
            yield
        finally:
            self._num_asking -= 1

    async def _describe(self, request: Request) -> Response:
        self.door.check(request)
        models = [
            {
                "name": voice.side.name,
                "source": voice.side.model.name,
                "form": voice.side.model.form,
                "parameters": voice.side.size,
                "positions": voice.side.model.max_length,
                "tools": tools_of(voice.side),
            }
            for voice in self.voices
        ]
        return JSONResponse({"models": models, "settings": self._settings.model_dump()})

    async def _answer(self, request: Request) -> Response:
        """Give a JSON object a line, the text of a token in each, and at last how it ended.

        What tools answered is `tool` instead of `text`; what a reply shows, if it does, `picture`.
        """
        self.door.check(request)
        if request.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "this is no JSON")
        body = await read_body(request, max_bytes=MAX_BODY_BYTES)
        question = _parse_question(body, len(self.voices))
        return _Answering(self, self.voices[question.model], question)


class _Answering(Response):
    """Writes an answer line by line; what is wrong before it begins is a status instead."""

    def __init__(self, page: ChatPage, voice: Voice, question: Question) -> None:
        super().__init__(media_type="application/x-ndjson")
        del self.headers["Content-Length"]
        self._page = page
        self._voice = voice
        self._question = question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._page.count_asking():
            await stop_when_gone(receive, self._write(send))

    async def _write(self, send: Send) -> None:
        async def send_line(record: Mapping[str, Any]) -> None:
            line = json.dumps(record).encode() + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})

        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        async with self._voice.take_turn():
            answer = await self._begin()
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send_line({"left_out": answer.left_out})
            pieces = iter(answer)
            try:
                while not self._page.is_closing() and time.monotonic() < deadline_s:
                    piece = await self._voice.run(partial(next, pieces, None))
                    if piece is None:
                        break
                    kind = "tool" if isinstance(piece, ToolText) else "text"
                    await send_line({kind: piece})
            except PosttrainError as error:
                await send_line({"error": str(error)})
            if (levels := self._voice.side.pictures(answer.reply)) is not None:
                await send_line({"picture": asdict(page_image(levels, about_px=_PICTURE_PX))})
            took = {"tokens": answer.num_tokens, "seconds": answer.seconds}
            await send_line({"ended": answer.ended or "stopped", **took})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> Answer:
        """Begin the answer; no longer than somebody waits for it."""
        question, is_gone = self._question, threading.Event()
        begin = partial(
            begin_answer,
            self._voice.side.model,
            [Exchange(prompt, reply) for prompt, reply in question.earlier],
            question.prompt,
            question.settings,
            attempt=question.attempt,
            is_given_up=lambda: is_gone.is_set() or self._page.is_closing(),
        )
        try:
            return await self._voice.run(begin)
        except PosttrainError as error:
            raise HTTPException(422, str(error)) from error
        except GivenUpError as error:
            raise HTTPException(503, "the chat is over") from error
        finally:
            is_gone.set()


def _parse_question(body: bytes, num_models: int) -> Question:
    try:
        question = Question.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, str(refuse(error))) from error
    if question.model >= num_models:
        raise HTTPException(422, f"there is no model {question.model}")
    return question


def serve(
    session: Session, bound: socket.socket, *, opens: bool, say: Callable[[str], None]
) -> None:
    """Serve the page on a bound socket until Ctrl-C."""
    page = ChatPage(session, port=bound.getsockname()[1], say=say)
    say(f"the chat is at {page.address}\nthe link lets one tab in; Ctrl-C ends the chat")

    def watch(server: Server) -> None:
        page.is_closing = lambda: server.should_exit

    serve_site(page.site, bound, opens=opens, on_start=watch)
