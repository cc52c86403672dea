"""The chat as a terminal program, and as a filter: a prompt a line in, an answer out.

What a line means is commands.py's subject, how answers are laid out layout.py's.
"""

from __future__ import annotations

import signal
import sys
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Group
from rich.live import Live
from rich.text import Text

from pipeline.chat.commands import take
from pipeline.chat.layout import Column, lay_out
from pipeline.chat.session import tools_of
from pipeline.errors import PosttrainError
from pipeline.text.amounts import count
from pipeline.text.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from types import FrameType

    from rich.console import Console

    from pipeline.chat.generation import Answer
    from pipeline.chat.session import Session, Side

_REFRESH_S = 1 / 15


def talk(session: Session, console: Console) -> None:
    """Chat until the user leaves; KeyboardInterrupt when it is by a second Ctrl-C in a row."""
    import readline  # input() then edits lines and remembers them

    readline.parse_and_bind("set enable-bracketed-paste on")  # several pasted lines are one text
    _greet(session, console)
    was_stopped = False
    while True:
        try:
            line = input(_prompt("text> " if session.continues else "you> ", console))
        except EOFError:
            console.print()
            return
        except KeyboardInterrupt:
            if was_stopped:
                console.print()
                raise
            console.print("\nonce more, or Ctrl-D, to leave", style="dim")
            was_stopped = True
            continue
        was_stopped = False
        try:
            outcome = take(session, line)
            for message in outcome.messages:
                console.print(visible(message), style="dim", markup=False, highlight=False)
            if outcome.answers:
                was_stopped = _write(session, outcome.answers, console)
        except PosttrainError as error:
            console.print(str(error), style="red", markup=False, highlight=False)
            continue
        except KeyboardInterrupt:  # while the conversation was being encoded
            if was_stopped:
                raise
            console.print("\nstopped", style="dim")
            was_stopped = True
            continue
        if outcome.is_over:
            return


def answer_lines(session: Session, source: Iterable[str], out: TextIO) -> None:
    """Answer each line of a file or pipe as `name: answer`; raises PosttrainError at the first."""
    for line in source:
        if not line.strip():
            continue
        outcome = take(session, line.rstrip("\r\n"))
        if outcome.is_over:
            return
        for message in outcome.messages:
            out.write(visible(message) + "\n")
        for answer in outcome.answers:
            for _ in answer:
                pass
        if outcome.answers:
            session.keep(outcome.answers)
            for side, answer in zip(session.sides, outcome.answers, strict=True):
                out.write(f"{visible(side.name)}: {visible(answer.reply)}\n")
        out.flush()


def _greet(session: Session, console: Console) -> None:
    for side in session.sides:
        text = Text(visible(side.name), style="bold cyan")
        text.append(f"  {describe(side)}", style="dim")
        console.print(text)
    for names in dict.fromkeys(tools_of(side) for side in session.sides):
        if names:
            console.print(Text(f"it may call {', '.join(map(visible, names))}", style="dim"))
    documents = [visible(side.name) for side in session.sides if side.model.form == "document"]
    if documents:
        verb = "continues" if len(documents) == 1 else "continue"
        sentence = f"{' and '.join(documents)} {verb} your text instead of answering"
        sentence += "; Enter alone goes on" if session.continues else ""
        console.print(Text(sentence, style="dim"))
    console.print("/help shows the commands, Ctrl-D leaves\n", style="dim", highlight=False)


def describe(side: Side) -> str:
    """Return what a model is, in a line."""
    positions = side.model.max_length
    description = f"{visible(side.model.name)} · {count(side.size)} parameters"
    return description if positions is None else f"{description} · {positions} positions"


def _prompt(text: str, console: Console) -> str:
    if console.no_color or console.color_system is None:
        return text
    # Between \1 and \2 stands what readline must not count as width.
    return f"\1\x1b[1;32m\2{text}\1\x1b[0m\2"


def _write(session: Session, answers: Sequence[Answer], console: Console) -> bool:
    """Let the models write their answers in turns of a token; say whether Ctrl-C stopped them."""
    columns = [
        Column(
            visible(side.name),
            answer,
            is_document=side.model.form == "document",
            pictures=side.pictures,
        )
        for side, answer in zip(session.sides, answers, strict=True)
    ]
    printed, width = 0, console.width  # kept for the whole answer, whatever becomes of the window

    def show(live: Live) -> None:
        nonlocal printed
        laid_out = lay_out(columns, console, width)
        for line in laid_out.settled[printed:]:
            live.console.print(line, no_wrap=True, crop=True)
        printed = len(laid_out.settled)
        live.update(Group(*laid_out.open[-max(1, console.height - 2) :]), refresh=True)

    console.print()
    with (
        _stop_request() as is_asked_to_stop,
        _no_echo(),
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        shown_s = 0.0
        writing = [(column, iter(column.answer)) for column in columns]
        while writing and not is_asked_to_stop():
            for column, pieces in writing:
                column.is_over = next(pieces, None) is None
            writing = [pair for pair in writing if not pair[0].is_over]
            if time.monotonic() - shown_s > _REFRESH_S:
                show(live)
                shown_s = time.monotonic()
        for column in columns:
            column.is_over = True
        show(live)
    console.print()
    session.keep(answers)
    return is_asked_to_stop()


@contextmanager
def _stop_request() -> Generator[Callable[[], bool]]:
    """Turn Ctrl-C into a request for the duration; a second one is a KeyboardInterrupt."""
    is_requested = False

    def received(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_requested
        if is_requested:
            raise KeyboardInterrupt
        is_requested = True

    before = signal.signal(signal.SIGINT, received)
    try:
        yield lambda: is_requested
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _no_echo() -> Generator[None]:
    """Keep what is typed meanwhile off the screen, where it would be taken for the answer's."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    without = [*before]
    without[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, without)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
