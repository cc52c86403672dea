"""Answers kept on disk by what was asked: asked once, known ever after, and a replay is exact.

A file an answer, named by the sha256 of respondent and request. Several processes may share a
folder: the first answer to a request stays, and all take it. Failures are never kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import uuid
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from reward.judges.exchange import NoReply, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from reward.judges.exchange import Request, Respondent
    from reward.judges.ledger import Ledger


class Cached:
    """A respondent with a memory. folder: made if it is not there. ledger: counts broken entries.

    Raises OSError where the disk refuses to keep an answer.
    """

    def __init__(self, respondent: Respondent, folder: Path, ledger: Ledger) -> None:
        self._respondent = respondent
        self._folder = folder
        self._ledger = ledger

    @property
    def identity(self) -> Mapping[str, Any]:
        """The one behind it: a cache changes no answer."""
        return self._respondent.identity

    @property
    def at_a_time(self) -> int:
        """As the one behind it."""
        return self._respondent.at_a_time

    async def reply(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Answer from the folder, and ask for the rest; what is asked twice is sent once.

        Every answer is on disk as soon as it is there, so that a killed run asks nothing again.
        """
        keys = [self.key(request) for request in requests]
        known: dict[str, Reply | NoReply] = {}
        unknown: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in known and key not in unknown:
                kept = self._kept(key, request)
                if kept is None:
                    unknown[key] = request
                else:
                    known[key] = kept
        asked = list(unknown.items())
        width = self.at_a_time
        chunks = [asked[start : start + width] for start in range(0, len(asked), width)]
        for answered in await asyncio.gather(*(self._ask(chunk) for chunk in chunks)):
            known |= answered
        replies: list[Reply | NoReply] = []
        for key in keys:
            reply = known[key]
            replies.append(reply)
            if isinstance(reply, Reply):  # asked again within the batch: from memory
                known[key] = replace(reply, is_cached=True)
        return replies

    def key(self, request: Request) -> str:
        """Return the name under which the answer to a request is kept."""
        return _sha256({"respondent": dict(self.identity), "request": asdict(request)})

    async def _ask(self, chunk: Sequence[tuple[str, Request]]) -> dict[str, Reply | NoReply]:
        replies = await self._respondent.reply([request for _, request in chunk])
        return {
            key: self._keep(key, request, reply) if isinstance(reply, Reply) else reply
            for (key, request), reply in zip(chunk, replies, strict=True)
        }

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _kept(self, key: str, request: Request) -> Reply | None:
        """Return what is on disk; None if there is nothing, or nothing whole, which is counted."""
        try:
            text = self._path(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            text = ""
        try:
            return _read(text, key, request)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._ledger.broken_entries += 1
            return None

    def _keep(self, key: str, request: Request, reply: Reply) -> Reply:
        """Put an answer into the folder; return the one that is there, if somebody was first."""
        place = self._path(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        reply = replace(reply, is_cached=False)
        content = asdict(reply)
        entry = {
            "key": key,
            "respondent": dict(self.identity),
            "request": asdict(request),
            "reply": content,
            "sha256": _sha256(content),
        }
        written = place.with_name(f".{key}.{uuid.uuid4().hex}.partial")
        try:
            written.write_text(json.dumps(entry), encoding="utf-8")
            try:
                os.link(written, place)  # fails where there is one already; a rename would not
            except OSError:
                first = self._kept_by_another(key, request)
                if first is not None:
                    return first
                written.replace(place)  # what is there is broken; or no hard links here
        finally:
            with suppress(FileNotFoundError):
                written.unlink()
        return reply

    def _kept_by_another(self, key: str, request: Request) -> Reply | None:
        try:
            return _read(self._path(key).read_text(encoding="utf-8"), key, request)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None


def _read(text: str, key: str, request: Request) -> Reply:
    """Return the answer of an entry; raises ValueError, TypeError or KeyError for a broken one."""
    entry = cast("dict[str, Any]", json.loads(text))
    content = entry["reply"]
    if entry["key"] != key or entry["sha256"] != _sha256(content):
        raise ValueError("the entry is not what was written")
    reply = Reply(**content)
    if request.options is not None and reply.answer not in request.options:
        raise ValueError("the answer is none of the options")
    return replace(reply, is_cached=True)


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))  # ASCII, surrogates escaped
    return hashlib.sha256(text.encode()).hexdigest()
