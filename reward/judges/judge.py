"""A judge: who answers, by which criterion, on which scale. It scores responses and compares them.

What has no answer stays a NoReply with its cause. Not the licence that a judge needs before its
word counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reward.judges.exchange import NoReply
from reward.judges.ledger import Ledger
from reward.judges.pairwise import Pair, Preference, comparison_requests, read_preference
from reward.judges.rubric import Score, read_score, score_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reward.judges.constitution import Constitution
    from reward.judges.exchange import Reply, Request, Respondent

__all__ = ["Judge", "Pair", "Preference", "Score"]


class Judge:
    """Asks a respondent how good responses are, or which of two is better.

    criterion: what makes a response good, in words; or a constitution, of which a principle is
    drawn for each pair and, for scores, for each prompt. scale: the lowest and the highest score.
    wants_reason, max_tokens, temperature: of each request. ledger: where it is counted.
    """

    def __init__(
        self,
        respondent: Respondent,
        criterion: str | Constitution,
        *,
        scale: tuple[int, int] = (1, 10),
        wants_reason: bool = False,
        max_tokens: int = 256,
        temperature: float = 0.0,
        ledger: Ledger | None = None,
    ) -> None:
        self.respondent = respondent
        self.criterion = criterion
        self.scale = scale
        self.wants_reason = wants_reason
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.ledger = Ledger() if ledger is None else ledger

    async def score(self, items: Sequence[tuple[str, str]]) -> list[Score | NoReply]:
        """Score responses; items: prompt and response."""
        criteria = [self._criterion(prompt)[0] for prompt, _ in items]
        requests = [
            score_request(
                prompt,
                response,
                criterion,
                scale=self.scale,
                wants_reason=self.wants_reason,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
            )
            for (prompt, response), criterion in zip(items, criteria, strict=True)
        ]
        replies = await self._ask(requests)
        return [
            reply if isinstance(reply, NoReply) else read_score(reply, criterion)
            for reply, criterion in zip(replies, criteria, strict=True)
        ]

    async def prefer(self, pairs: Sequence[Pair]) -> list[Preference | NoReply]:
        """Compare the responses of each pair in both orders; without either reply there is none."""
        requests: list[Request] = []
        for pair in pairs:
            requests += comparison_requests(
                pair,
                self._criterion(pair.key)[0],
                wants_reason=self.wants_reason,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
            )
        replies = await self._ask(requests)
        preferences: list[Preference | NoReply] = []
        for pair, given, swapped in zip(pairs, replies[::2], replies[1::2], strict=True):
            if isinstance(given, NoReply):
                preferences.append(given)
            elif isinstance(swapped, NoReply):
                preferences.append(swapped)
            else:
                found = read_preference(given, swapped, *self._criterion(pair.key))
                self.ledger.pairs += 1
                self.ledger.ties += found.verdict == "tie"
                preferences.append(found)
        return preferences

    def _criterion(self, key: str) -> tuple[str, str | None]:
        """Return by what to judge, and the principle if it was drawn."""
        if isinstance(self.criterion, str):
            return self.criterion, None
        principle = self.criterion.draw(key)
        return principle, principle

    async def _ask(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Ask, count, and take nothing for an answer that is none of the options."""
        replies = [
            _checked(request, reply)
            for request, reply in zip(requests, await self.respondent.reply(requests), strict=True)
        ]
        self.ledger.count(replies)
        return replies


def _checked(request: Request, reply: Reply | NoReply) -> Reply | NoReply:
    if isinstance(reply, NoReply):
        return reply
    options = request.options or ()
    if reply.answer not in options:
        return NoReply("not_an_option", f"answered {reply.answer[:80]!r}")
    shares = reply.probabilities
    # Not a number, and not a share either: both comparisons are false for NaN.
    if shares is not None and not (
        set(shares) == set(options) and all(0 <= share <= 1 for share in shares.values())
    ):
        return NoReply("wrong_schema", "the probabilities are not those of the options")
    return reply
