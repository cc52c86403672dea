"""What a model is shown of a conversation: which exchanges fit beside the answer, as token ids.

Worked out in a process apart: chat templates are foreign code, and a long text takes a slow
tokenizer long. What is said and kept is session.py's subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pipeline.chat.child_process import call_apart, nobody_gives_up
from pipeline.data.encoding.time_limit import TooSlowError
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.model import LanguageModel, Turn

READING_LIMIT_S = 10.0


@dataclass(frozen=True)
class Exchange:
    """What a person wrote and what the model made of it."""

    prompt: str
    reply: str


@dataclass(frozen=True)
class Shown:
    """ids: what the model reads. left_out: oldest exchanges (of a document: tokens) not in it."""

    ids: list[int]
    left_out: int


def encode_context(
    model: LanguageModel,
    earlier: Sequence[Exchange],
    text: str,
    *,
    system: str,
    limit: int | None,
    is_given_up: Callable[[], bool] = nobody_gives_up,
) -> Shown:
    """Return what a model is shown of a conversation and a text: at most `limit` tokens if it can.

    The oldest exchanges are left out first; the text and the system prompt stay, however long. Of a
    document only the end. Raises PosttrainError where the template refuses the conversation or
    takes too long, and GivenUpError.
    """
    work = partial(_document, model, text, limit)
    if model.encode_chat is not None:
        work = partial(_fit, model.encode_chat, earlier, text, system, limit)
    try:
        return call_apart(work, limit_s=READING_LIMIT_S, is_given_up=is_given_up)
    except TooSlowError as error:
        what = "the text" if model.encode_chat is None else "the conversation"
        message = f"{what} could not be encoded within {READING_LIMIT_S:g} s"
        raise PosttrainError(model.name, message, "send less, or give another template") from error


def _fit(
    encode: Callable[[Sequence[Turn]], list[int]],
    earlier: Sequence[Exchange],
    text: str,
    system: str,
    limit: int | None,
) -> Shown:
    """Find how many exchanges fit: 0, 1, 3, 7, ... until they do not, then by halves.

    So what is encoded is never twice as long as what fits, however much was said before.
    """

    def with_last(number: int) -> list[int]:
        return encode(turns_of(earlier[len(earlier) - number :], text, system))

    if limit is None:
        return Shown(with_last(len(earlier)), 0)
    kept, ids, too_many = 0, with_last(0), len(earlier) + 1
    while len(ids) <= limit and kept + 1 < too_many:
        tried = min(2 * kept + 1, len(earlier))
        if too_many <= len(earlier):
            tried = (kept + too_many) // 2
        tried_ids = with_last(tried)
        if len(tried_ids) <= limit:
            kept, ids = tried, tried_ids
        else:
            too_many = tried
    return Shown(ids, len(earlier) - kept)


def _document(model: LanguageModel, text: str, limit: int | None) -> Shown:
    """Return the ids of a text, of a long one BOS and its end."""
    ids = model.encode_document(text)
    if not ids:
        raise PosttrainError(model.name, "needs some text to continue", "it has no BOS token")
    left_out = 0 if limit is None else max(0, len(ids) - limit)
    start = model.encode_document("") if left_out else []
    return Shown(start + ids[left_out + len(start) :], left_out)


def turns_of(earlier: Sequence[Exchange], text: str, system: str) -> list[Turn]:
    """Return a conversation as a template takes it, the text to answer last."""
    turns: list[Turn] = [("system", system)] if system else []
    for exchange in earlier:
        # Templates of models that reason show them the earlier answers without the reasoning.
        reply = exchange.reply.rpartition("</think>")[2].lstrip("\n")
        turns.append(("user", exchange.prompt))
        turns.append(("assistant", reply))
    turns.append(("user", text))
    return turns
