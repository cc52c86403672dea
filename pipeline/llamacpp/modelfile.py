"""The Modelfile with which `ollama create` takes a GGUF in.

Ollama reads no Jinja: its template is Go's, and without one it guesses. What a chat template writes
around the turns of each role is told by rendering a few conversations, and checked against the
template on more of them. A template that writes different things around one role is left to Ollama.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data.encoding.template import ChatTemplate
from pipeline.data.reading.records import NO_SETTINGS
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

Roles = tuple[str, ...]
_USER, _ASSISTANT, _SYSTEM = ("user",), ("assistant",), ("system",)
_LONG = _USER + _ASSISTANT + _USER
_OLLAMA_CONTEXT = 4096  # tokens, unless a Modelfile says otherwise


@dataclass(frozen=True)
class Turns:
    """What a chat template writes around the contents of turns.

    start: before the first turn where there is no system message. system, user, assistant: before
    and after the content; system with all that stands before it. answer: where the model begins.
    """

    start: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str

    def pieces(self, roles: Roles, *, prompt: bool) -> tuple[str, ...]:
        """Return what stands before, between and after the contents of a conversation."""
        around = {"user": self.user, "assistant": self.assistant, "system": self.system}
        pieces = [self.start if roles[0] != "system" else ""]
        for role in roles:
            before, after = around[role] or ("", "")
            pieces[-1] += before
            pieces.append(after)
        pieces[-1] += self.answer if prompt else ""
        return tuple(pieces)


def turns_of(tokenizer: PreTrainedTokenizerBase) -> Turns | None:
    """Return what the chat template writes around turns; None where that depends on the others."""
    template = ChatTemplate(tokenizer)
    mark = "qzx"
    while mark in template.text:
        mark += "q"

    def pieces(roles: Roles, *, prompt: bool = False) -> tuple[str, ...]:
        marks = [f"{mark}{number}{mark}" for number in range(len(roles))]
        pairs = zip(roles, marks, strict=True)
        messages = [{"role": role, "content": content} for role, content in pairs]
        rendered = template.render(messages, NO_SETTINGS, "", prompt=prompt)
        parts = re.split(f"({mark}[0-9]+{mark})", rendered)
        if parts[1::2] != marks:
            raise PosttrainError("", "the chat template moves, drops or repeats a turn")
        return tuple(parts[::2])

    try:
        first, after_user = pieces(_USER)
        _, between, after_assistant = pieces(_USER + _ASSISTANT)
        again = pieces(_LONG)[2]
        answer = pieces(_USER, prompt=True)[1]
    except PosttrainError:
        return None
    before_user = again.removeprefix(after_assistant)
    system: tuple[str, str] | None = None
    try:
        opening, after_system, _ = pieces(_SYSTEM + _USER)
        system = opening, after_system.removesuffix(before_user)
    except PosttrainError:
        pass  # it takes no system message
    turns = Turns(
        first.removesuffix(before_user),
        system,
        (before_user, after_user),
        (between.removeprefix(after_user), after_assistant),
        answer.removeprefix(after_user),
    )
    tried = [_USER, _LONG, _LONG + _ASSISTANT + _USER]
    tried += [_SYSTEM + roles for roles in tried] if system else []
    fits = all(turns.pieces(roles, prompt=True) == pieces(roles, prompt=True) for roles in tried)
    return turns if fits else None


def modelfile(
    gguf: str, turns: Turns | None, *, is_chat: bool, stops: Sequence[str], context: int
) -> str:
    """Return a Modelfile.

    stops: the texts of the tokens that end a response. context: tokens that the model takes.
    """
    lines = [f"FROM ./{gguf}"]
    if not is_chat:
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    elif turns is not None:
        lines.append(f'TEMPLATE """{_go_template(turns)}"""')
    else:
        lines.append("# What its chat template writes depends on the turns: Ollama takes its own.")
    lines += [f"PARAMETER stop {_quote(stop)}" for stop in stops]
    lines.append("# Ollama's default penalises repetition; in training nothing did.")
    lines.append("PARAMETER repeat_penalty 1.0")
    if context < _OLLAMA_CONTEXT:
        lines.append(f"PARAMETER num_ctx {context}")
    return "\n".join(lines) + "\n"


def _go_template(turns: Turns) -> str:
    """Return the template in Go's language; all its white space is text."""
    start = _text(turns.start)
    if turns.system is not None:
        before, after = turns.system
        system = f"{_text(before)}{{{{ .System }}}}{_text(after)}"
        start = f"{{{{ if .System }}}}{system}{{{{ else }}}}{start}{{{{ end }}}}"
    user, assistant = map(_around, (turns.user, turns.assistant))
    last = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
    roles = (
        f'{{{{ if eq .Role "user" }}}}{user}'
        f'{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}'
    )
    answer = f'{{{{ if and $last (ne .Role "assistant") }}}}{_text(turns.answer)}{{{{ end }}}}'
    return f"{start}{{{{ range $i, $_ := .Messages }}}}{last}{roles}{answer}{{{{ end }}}}"


def _around(texts: tuple[str, str]) -> str:
    return f"{_text(texts[0])}{{{{ .Content }}}}{_text(texts[1])}"


def _text(text: str) -> str:
    """Return a text as Go's templates write it, as a string where it could be read otherwise."""
    is_plain = not any(mark in text for mark in ("{{", "}}", '"'))
    return text if is_plain else f"{{{{ {_quote(text)} }}}}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
