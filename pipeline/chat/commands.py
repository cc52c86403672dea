"""What a line that somebody types into a chat means: a command, or a text for the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PosttrainError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.chat.generation import Answer
    from pipeline.chat.session import Session


@dataclass(frozen=True)
class Outcome:
    """What came of a line: something to say, answers to be written, the end of the chat."""

    messages: Sequence[str] = ()
    answers: Sequence[Answer] = ()
    is_over: bool = False


def take(session: Session, line: str) -> Outcome:
    """Do what a line asks for; raises PosttrainError for what cannot be done.

    A text that begins with a slash is written with two.
    """
    if line.startswith("//"):
        line = line[1:]
    elif line.startswith("/"):
        name, _, argument = line.partition(" ")
        if name not in _COMMANDS:
            hint = closest(name, _COMMANDS) or "/help shows all; // begins a text with a slash"
            raise PosttrainError("", f"there is no command `{name}`", hint)
        return _COMMANDS[name].act(session, argument.strip())
    if not line.strip():
        if not session.continues:
            return Outcome()
        line = ""
    return Outcome(answers=session.ask(line))


def _setting(key: str) -> Callable[[Session, str], Outcome]:
    def act(session: Session, argument: str) -> Outcome:
        if argument:
            session.change(**{key: argument})
        return Outcome([f"{key}: {getattr(session.settings, key)}"])

    return act


def _system(session: Session, argument: str) -> Outcome:
    """Set it, show it, or with `-` take it away."""
    if argument:
        session.change(system="" if argument == "-" else argument)
    return Outcome([f"system: {session.settings.system or 'none'}"])


def _help(_session: Session, _argument: str) -> Outcome:
    width = max(len(command.usage) for command in _COMMANDS.values())
    return Outcome([f"{command.usage:<{width}}  {command.does}" for command in _COMMANDS.values()])


def _retry(session: Session, _argument: str) -> Outcome:
    return Outcome(answers=session.retry())


def _undo(session: Session, _argument: str) -> Outcome:
    session.undo()
    return Outcome([f"taken back; exchanges left: {len(session.sides[0].exchanges)}"])


def _clear(session: Session, _argument: str) -> Outcome:
    session.clear()
    return Outcome(["a new conversation; the settings stay"])


def _history(session: Session, _argument: str) -> Outcome:
    lines: list[str] = []
    for exchanges in zip(*(side.exchanges for side in session.sides), strict=True):
        prompts = dict.fromkeys(exchange.prompt for exchange in exchanges)
        lines += [f"you: {prompt}" for prompt in prompts]
        for side, exchange in zip(session.sides, exchanges, strict=True):
            lines.append(f"{side.name}: {exchange.reply}")
    return Outcome(lines or ["nothing was said yet"])


def _save(session: Session, argument: str) -> Outcome:
    if not argument:
        raise PosttrainError("/save", "needs the name of a file")
    path = Path(argument)
    session.save(path)
    return Outcome([f"saved to {path}"])


def _quit(_session: Session, _argument: str) -> Outcome:
    return Outcome(is_over=True)


@dataclass(frozen=True)
class _Command:
    usage: str
    does: str
    act: Callable[[Session, str], Outcome]


_COMMANDS = {
    command.usage.partition(" ")[0]: command
    for command in (
        _Command("/help", "these commands", _help),
        _Command("/system TEXT", "the system prompt; - for none", _system),
        _Command("/temperature X", "0 always takes the likeliest token", _setting("temperature")),
        _Command("/top-p X", "only the likeliest tokens that make up X", _setting("top_p")),
        _Command("/max N", "how many tokens an answer may have", _setting("max_new_tokens")),
        _Command("/seed N", "the same seed gives the same answers", _setting("seed")),
        _Command("/retry", "another answer to the same", _retry),
        _Command("/undo", "take the last exchange back", _undo),
        _Command("/clear", "begin a new conversation", _clear),
        _Command("/history", "what was said", _history),
        _Command("/save FILE", "as JSONL that a recipe's `file:` reads", _save),
        _Command("/quit", "leave, as Ctrl-D does", _quit),
    )
}
