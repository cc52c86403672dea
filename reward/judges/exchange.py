"""What a judge is asked, what it answers, and why it did not: the terms of every exchange.

Whoever answers is a Respondent: an endpoint (endpoint.py), a model in process, the cache in front
of either (cache.py). Knows no rubric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Cause = Literal[
    "unreachable",
    "timeout",
    "refused_key",
    "rate_limit",
    "server_error",
    "redirect",
    "bad_request",
    "too_long",
    "too_large",
    "not_json",
    "wrong_schema",
    "not_an_option",
    "empty",
    "cut_off",
    "refusal",
    "budget",
]


@dataclass(frozen=True)
class Request:
    """One question to a judge.

    messages: (role, content) of each, as in a chat.
    options: the answers there are, of which the reply is exactly one; None for free text.
    wants_reason: reasons before one of the options; a respondent without words gives none.
    max_tokens: of the reply. temperature: 0 is greedy. draw: tells draws of one question apart.
    """

    messages: tuple[tuple[str, str], ...]
    options: tuple[str, ...] | None = None
    wants_reason: bool = False
    max_tokens: int = 256
    temperature: float = 0.0
    draw: int = 0


@dataclass(frozen=True)
class Reply:
    """A judge's answer: one of the request's options, or free text.

    reason: what it said before its answer, where it was asked for one.
    probabilities: of each option, summing to 1, where the respondent knows them; else None.
    prompt_tokens, completion_tokens: as the respondent counts them. is_cached: whether it was known
    already, so that it cost nothing.
    """

    answer: str
    reason: str = ""
    probabilities: Mapping[str, float] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_cached: bool = False


@dataclass(frozen=True)
class NoReply:
    """Why there is no answer, after all retries. It is never taken for a number.

    cause: what is counted in the metrics. detail: for a person; holds no key.
    """

    cause: Cause
    detail: str


class Respondent(Protocol):
    """Who answers requests."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on beside a request, as JSON: a part of the cache's key."""
        ...

    @property
    def at_a_time(self) -> int:
        """How many requests are best asked in one call; a cache keeps what each call brought.

        An endpoint says 1 (it takes many calls at once), a model in process the size of its batch.
        """
        ...

    async def reply(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Answer every request, in their order; concurrently, or in batches."""
        ...
