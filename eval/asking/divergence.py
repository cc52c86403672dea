"""How far a policy has moved from its reference, on responses that it writes itself.

The estimate is the mean of log p(y) - log q(y) over responses y drawn from the policy p at
temperature 1 (the plain, unbiased estimator of KL(p || q); single values may be negative), per
sequence and in nats, the token that ends the response included.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eval.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from eval.asking.sampler import Generation
    from eval.model import LanguageModel


@dataclass(frozen=True)
class Divergence:
    """KL per sequence with its 95% interval, in nats; tokens: of the responses, on average."""

    n: int
    kl: float
    low: float | None
    high: float | None
    tokens: float

    def metrics(self) -> dict[str, Any]:
        """Return it as a stage's metrics."""
        return {
            "kl": self.kl,
            "kl_low": self.low,
            "kl_high": self.high,
            "kl_samples": self.n,
            "kl_tokens": self.tokens,
        }


def sampled_kl(
    policy: LanguageModel,
    reference: Callable[[], AbstractContextManager[LanguageModel]],
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    seed: int,
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Divergence, list[Generation]]:
    """Sample a response to each prompt and return the divergence, and the responses.

    reference: gives the model to compare with while it is entered; the two may be one module with
    and without an adapter. Raises ValueError for a prompt without room, and StopRequested.
    """
    from eval.asking.loglik import continuation_logprobs
    from eval.asking.sampler import generate

    found = generate(
        policy,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=1.0,
        batch_size=batch_size,
        seed=seed,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    pairs = [(prompt, list(each.token_ids)) for prompt, each in zip(prompts, found, strict=True)]
    ours = continuation_logprobs(policy, pairs, batch_size=batch_size, should_stop=should_stop)
    with reference() as model:
        theirs = continuation_logprobs(model, pairs, batch_size=batch_size, should_stop=should_stop)
    ratios = [a - b for a, b in zip(ours, theirs, strict=True)]
    interval = mean_interval(ratios)
    return Divergence(
        len(ratios),
        fmean(ratios),
        interval.low if interval else None,
        interval.high if interval else None,
        fmean(len(each.token_ids) for each in found),
    ), found
