"""What judging took and how it went: requests, failures by cause, ties, tokens, cost.

Counts only, and all of them: what is not in here was not asked. Who writes what: the judge what it
asked and got, the cache its hits and broken entries, the endpoint what it sent and was billed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reward.judges.exchange import NoReply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reward.judges.exchange import Cause, Reply

# The counts of what costs something, each of which an endpoint's server adds to.
SPENDING = ("sent", "prompt_tokens", "completion_tokens", "cost", "without_usage")


@dataclass(frozen=True)
class Limits:
    """The most that may be spent; None is no limit. cost: in the unit of the prices.

    Looked at before each request: those under way at once are still answered and billed.
    """

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None


@dataclass
class Ledger:
    """The counts of one judge.

    asked: requests, the cached ones included. cached: of these, answered by the cache. sent: over
    the network, retries included. failures: requests without an answer, by cause. pairs, ties:
    compared in both orders, and of these without a winner. broken_entries: of the cache, asked
    anew. tokens as the server counts them; without_usage: replies whose counts were missing or
    impossible, so that theirs are estimated. notices: what a person should know, each told once.
    earlier: the counts of SPENDING before this ledger, of the same work, which limits count too.
    on_spending: called after each of them changes.
    """

    asked: int = 0
    cached: int = 0
    sent: int = 0
    pairs: int = 0
    ties: int = 0
    broken_entries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    without_usage: int = 0
    failures: Counter[Cause] = field(default_factory=Counter["Cause"])
    notices: list[str] = field(default_factory=list[str])
    on_notice: Callable[[str], None] | None = None
    earlier: Mapping[str, float] = field(default_factory=dict[str, float])
    on_spending: Callable[[], None] | None = None

    def tell(self, notice: str) -> None:
        """Note what a person should know, once however often it happens."""
        if notice not in self.notices:
            self.notices.append(notice)
            if self.on_notice is not None:
                self.on_notice(notice)

    def count(self, replies: Sequence[Reply | NoReply]) -> None:
        """Count requests that were asked, each answered or not."""
        self.asked += len(replies)
        for reply in replies:
            if isinstance(reply, NoReply):
                self.failures[reply.cause] += 1
            else:
                self.cached += reply.is_cached

    def count_sent(self) -> None:
        """Count a request that goes over the network."""
        self.sent += 1
        self._tell_spending()

    def bill(
        self, prompt_tokens: int, completion_tokens: int, cost: float, *, is_estimated: bool
    ) -> None:
        """Count what a reply took. is_estimated: the tokens are not the server's."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.cost += cost
        self.without_usage += is_estimated
        self._tell_spending()

    def spending(self) -> dict[str, float]:
        """Return the counts of SPENDING, the earlier ones included."""
        return {name: self.earlier.get(name, 0) + getattr(self, name) for name in SPENDING}

    def used_up(self, limits: Limits) -> str | None:
        """Return which limit is reached, in words; None while there is something left."""
        spent = self.spending()
        tokens = spent["prompt_tokens"] + spent["completion_tokens"]
        if limits.requests is not None and spent["sent"] >= limits.requests:
            return f"{spent['sent']:.0f} requests are sent, and the budget is {limits.requests}"
        if limits.tokens is not None and tokens >= limits.tokens:
            return f"{tokens:.0f} tokens are used, and the budget is {limits.tokens}"
        if limits.cost is not None and spent["cost"] >= limits.cost:
            return f"{spent['cost']:.4f} is spent, and the budget is {limits.cost:g}"
        return None

    def _tell_spending(self) -> None:
        if self.on_spending is not None:
            self.on_spending()

    def metrics(self) -> dict[str, float]:
        """Return all counts by name, of the causes those that occurred."""
        counts: dict[str, float] = {
            "asked": self.asked,
            "cached": self.cached,
            "sent": self.sent,
            "failed": sum(self.failures.values()),
            "pairs": self.pairs,
            "ties": self.ties,
            "broken_entries": self.broken_entries,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
            "without_usage": self.without_usage,
        }
        return counts | {f"failed/{cause}": n for cause, n in sorted(self.failures.items())}
