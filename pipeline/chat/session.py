"""A conversation with a model, or the same one with two: what was said, and what a model is shown.

Knows neither terminal nor web; the tokens of a reply are generation.py's subject.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.chat.child_process import nobody_gives_up
from pipeline.chat.context_window import Exchange, encode_context
from pipeline.chat.generation import Answer
from pipeline.chat.pictures import no_picture
from pipeline.errors import PosttrainError
from pipeline.files.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.model import LanguageModel
    from pipeline.chat.pictures import Pictures
    from pipeline.chat.settings import Settings


@dataclass
class Side:
    """One model and its own history; name: as short as tells it from the other's.

    pictures: finds those among its replies.
    """

    name: str
    model: LanguageModel
    exchanges: list[Exchange] = field(default_factory=list[Exchange])
    pictures: Pictures = no_picture

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.module.parameters())


def sides_of(models: Sequence[LanguageModel], pictures: Sequence[Pictures] = ()) -> list[Side]:
    """Return a side for each model, named by the end of what the user called it.

    pictures: of each model; none for texts only.
    """
    texts = [model.name for model in models]
    ends = [re.split(r"\.ya?ml:", text)[-1] for text in texts]
    names = [Path(end).name or end for end in ends]
    if len(set(names)) < len(names):
        names = texts
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    found = pictures or [no_picture] * len(models)
    return [
        Side(name, model, pictures=shown)
        for name, model, shown in zip(names, models, found, strict=True)
    ]


def tools_of(side: Side) -> tuple[str, ...]:
    """Return the names of the tools that a model may call."""
    tools = side.model.tools
    return () if tools is None else tuple(tools.toolbox.tool_by_name)


def begin_answer(
    model: LanguageModel,
    earlier: Sequence[Exchange],
    text: str,
    settings: Settings,
    *,
    attempt: int = 0,
    is_given_up: Callable[[], bool] = nobody_gives_up,
) -> Answer:
    """Return the model's answer to a text, not written yet; attempt: another gives another answer.

    What does not fit into the model's positions beside half of them for the answer is left out, the
    oldest exchanges first. A document model is shown the text alone, and its end if it is too long.
    Raises PosttrainError where there is no room even then, GivenUpError once `is_given_up` says so.
    """
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate is not text
    limit, room = model.max_length, settings.max_new_tokens
    shown = encode_context(
        model,
        earlier,
        text,
        system=settings.system,
        limit=None if limit is None else limit - min(room, limit // 2),
        is_given_up=is_given_up,
    )
    ids = shown.ids
    if limit is not None:
        room = min(room, limit - len(ids))
    if room < 1:
        message = f"the text takes {len(ids)} tokens, but the model covers {limit} positions"
        raise PosttrainError(model.name, message, "write less, or a shorter system prompt")
    seed = (settings.seed, len(earlier), attempt)
    return Answer(model, text, ids, settings, room=room, seed=seed, left_out=shown.left_out)


class Session:
    """A chat with one or two models, which are asked the same and each keep their own replies.

    pictures: what finds those among the replies of each model; none for texts only.
    """

    def __init__(
        self,
        models: Sequence[LanguageModel],
        settings: Settings,
        pictures: Sequence[Pictures] = (),
    ) -> None:
        self.sides = sides_of(models, pictures)
        self.settings = settings
        self._attempt = 0
        self._check_system(settings)

    @property
    def continues(self) -> bool:
        """Whether all models continue a text instead of answering."""
        return all(side.model.form == "document" for side in self.sides)

    def change(self, **changes: Any) -> None:
        """Change settings; raises PosttrainError for one that cannot be."""
        settings = self.settings.with_changes(**changes)
        self._check_system(settings)
        self.settings = settings

    def _check_system(self, settings: Settings) -> None:
        if not settings.system:
            return
        chats = [side.model for side in self.sides if side.model.encode_chat is not None]
        if not chats:
            raise PosttrainError("system", "a model that continues text takes no system prompt")
        for model in chats:
            encode_context(model, (), "", system=settings.system, limit=None)

    def ask(self, text: str) -> list[Answer]:
        """Return each model's answer, to be written and then kept.

        An empty text has models that continue text continue theirs.
        """
        self._attempt = 0
        answers: list[Answer] = []
        for side in self.sides:
            goes_on = not text and side.exchanges
            prompt = side.exchanges[-1].prompt + side.exchanges[-1].reply if goes_on else text
            answers.append(begin_answer(side.model, side.exchanges, prompt, self.settings))
        return answers

    def keep(self, answers: Sequence[Answer]) -> None:
        """Make written answers part of the conversation, whole or not."""
        for side, answer in zip(self.sides, answers, strict=True):
            side.exchanges.append(Exchange(answer.prompt, answer.reply))

    def retry(self) -> list[Answer]:
        """Take the last exchange back and return another answer to the same text."""
        self._check_begun()
        attempt = self._attempt + 1
        answers = [
            begin_answer(
                side.model,
                side.exchanges[:-1],
                side.exchanges[-1].prompt,
                self.settings,
                attempt=attempt,
            )
            for side in self.sides
        ]
        self._attempt = attempt
        self.undo()
        return answers

    def undo(self) -> None:
        """Take the last exchange back."""
        self._check_begun()
        for side in self.sides:
            side.exchanges.pop()

    def _check_begun(self) -> None:
        if not self.sides[0].exchanges:
            raise PosttrainError("", "nothing was said yet")

    def clear(self) -> None:
        """Forget everything that was said; the settings stay."""
        for side in self.sides:
            side.exchanges.clear()

    def save(self, path: Path) -> None:
        """Write the conversation as JSONL that a recipe's `file:` reads; a new file only."""
        records: list[dict[str, Any]] = []
        for side in self.sides:
            if side.model.form == "document":
                texts = [exchange.prompt + exchange.reply for exchange in side.exchanges]
                records += [{"text": text} for text in texts]
                continue
            turns = _messages(side.exchanges, self.settings.system)
            records.append({"messages": turns, "model": side.model.name})
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        if os.path.lexists(path):
            raise PosttrainError(str(path), "is there already", "name another file")
        try:
            write_whole(path, "".join(lines))
        except (OSError, ValueError) as error:
            raise PosttrainError(str(path), f"cannot be written ({error})") from error


def _messages(exchanges: Sequence[Exchange], system: str) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system else []
    for exchange in exchanges:
        messages.append({"role": "user", "content": exchange.prompt})
        messages.append({"role": "assistant", "content": exchange.reply})
    return messages
