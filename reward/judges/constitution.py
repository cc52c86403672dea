"""A constitution: principles, one of which is drawn for each pair; and revision by its light.

Constitutional AI (Bai et al. 2022): a response is criticised by a principle and rewritten by the
criticism. Not the comparison itself (pairwise.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reward.judges.exchange import NoReply, Request
from reward.judges.quoting import STAYS_DATA, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reward.judges.exchange import Reply, Respondent
    from reward.judges.ledger import Ledger


@dataclass(frozen=True)
class Constitution:
    """Principles and the seed that they are drawn with. Raises ValueError if there are none."""

    principles: tuple[str, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.principles:
            raise ValueError("a constitution has at least one principle")

    def draw(self, key: str) -> str:
        """Return the principle for a key: it depends on the seed and the key alone."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode("utf-8", "surrogatepass")).digest()
        return self.principles[int.from_bytes(digest[:8], "big") % len(self.principles)]


@dataclass(frozen=True)
class Revision:
    """A response rewritten: text. principle and critique: by what and why."""

    text: str
    principle: str
    critique: str


def critique_request(
    prompt: str, response: str, principle: str, *, max_tokens: int, temperature: float = 0.0
) -> Request:
    """Return the question in what a response falls short of a principle."""
    texts = quoted({"prompt": prompt, "response": response})
    question = (
        f"Criticise a response to a prompt. {STAYS_DATA}\n\n"
        f"Criterion: {principle}\n\n{texts['prompt']}\n\n{texts['response']}\n\n"
        "In what does the response fall short of the criterion? Say it in a few sentences."
    )
    return Request((("user", question),), max_tokens=max_tokens, temperature=temperature)


def revision_request(
    prompt: str,
    response: str,
    principle: str,
    critique: str,
    *,
    max_tokens: int,
    temperature: float = 0.0,
) -> Request:
    """Return the request to rewrite a response by a criticism of it."""
    texts = quoted({"prompt": prompt, "response": response, "critique": critique})
    question = (
        f"Rewrite a response to a prompt. {STAYS_DATA}\n\n"
        f"Criterion: {principle}\n\n{texts['prompt']}\n\n{texts['response']}\n\n"
        f"{texts['critique']}\n\n"
        "Rewrite the response so that it meets the criterion and the critique. "
        "Give the new response and nothing else, without marks."
    )
    return Request((("user", question),), max_tokens=max_tokens, temperature=temperature)


async def revise(
    respondent: Respondent,
    constitution: Constitution,
    items: Sequence[tuple[str, str, str]],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    ledger: Ledger,
) -> list[Revision | NoReply]:
    """Have each response criticised and rewritten; items: prompt, response, and the item's key."""
    principles = [constitution.draw(key) for _, _, key in items]
    critiques = await _ask(
        respondent,
        [
            critique_request(
                prompt, response, principle, max_tokens=max_tokens, temperature=temperature
            )
            for (prompt, response, _), principle in zip(items, principles, strict=True)
        ],
        ledger,
    )
    asked = [number for number, said in enumerate(critiques) if not isinstance(said, NoReply)]
    requests = [
        revision_request(
            items[number][0],
            items[number][1],
            principles[number],
            _words(critiques[number]),
            max_tokens=max_tokens,
            temperature=temperature,
        )
        for number in asked
    ]
    rewritten = dict(zip(asked, await _ask(respondent, requests, ledger), strict=True))
    revisions: list[Revision | NoReply] = []
    for number, critique in enumerate(critiques):
        said = critique if isinstance(critique, NoReply) else rewritten[number]
        if isinstance(said, NoReply):
            revisions.append(said)
        else:
            revisions.append(Revision(said.answer, principles[number], _words(critique)))
    return revisions


async def _ask(
    respondent: Respondent, requests: Sequence[Request], ledger: Ledger
) -> list[Reply | NoReply]:
    replies = await respondent.reply(requests)
    ledger.count(replies)
    return replies


def _words(said: Reply | NoReply) -> str:
    return "" if isinstance(said, NoReply) else said.answer
