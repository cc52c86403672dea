"""What is sampled at a time and what every part says of it, as whatever watches a training sees it.

Not the sampler (sampler.py), and not what is trained on (experience.py makes that of it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from eval.tools.turns import Conversation
    from pipeline.rl.prompts import Prompt

    # What watches a training: called on every process; the metrics it returns are logged, too.
    OnRollout = Callable[["Rollout"], dict[str, float]]
    OnEvaluation = Callable[["ScoredResponses"], dict[str, float]]


@dataclass(frozen=True)
class ScoredRow:
    """One response, L tokens with its stop token, and its scores; fp32 on the CPU.

    number: in the whole rollout. prompt: its number in the data. own: (L,), which tokens the policy
    wrote; the others, a tool's answers, have 0 wherever a token has a number. logprobs, reference:
    (L,) log p of policy and reference. values: (L,), before each token; value_after: after the last
    one; 0 without a critic. entropy: sum over tokens. rewards: (K,), one per reward term, NaN where
    it has none. sampled: (L,), the sampler's own log-probabilities, if it gives them. response: as
    text.
    is_given: whether the completion came with its prompt instead. teacher: (L,) log p of a teacher,
    where it was asked.
    logged: what reward functions logged of it (`log_extra`), by `term/name`.
    conversation: its turns and calls, where the policy has tools; messages: as reward functions see
    them.
    """

    number: int
    prompt: int
    prompt_ids: list[int]
    completion_ids: list[int]
    own: Tensor
    has_eos: bool
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    value_after: float
    entropy: float
    rewards: Tensor
    sampled: Tensor | None
    response: str = ""
    is_given: bool = False
    teacher: Tensor | None = None
    logged: dict[str, Any] = field(default_factory=dict[str, Any])
    conversation: Conversation | None = None
    messages: list[dict[str, Any]] | None = None

    @property
    def num_tokens(self) -> int:
        """How many tokens the policy wrote."""
        return int(self.own.sum())


@dataclass(frozen=True)
class ScoredResponses:
    """B responses of all processes, in order: of a rollout, or of an evaluation.

    prompts: of each row. scores: (B,), what was made of `ScoredRow.rewards`, NaN where no term
    applies. terms: the names of the K reward terms.
    """

    prompts: Sequence[Prompt]
    rows: Sequence[ScoredRow]
    scores: Tensor
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Rollout(ScoredResponses):
    """The responses of one rollout; scores after normalisation, clip and the rule for missing EOS.

    number: in the run, from 0, of `num_rollouts`. metrics: of the rollout so far.
    notes: JSON that goes into checkpoints; it comes back in a resumed run, and may be written to.
    """

    number: int
    num_rollouts: int
    metrics: dict[str, float]
    notes: dict[str, Any]


def gap_per_sequence(rows: Sequence[ScoredRow]) -> list[float]:
    """Return the sum over tokens of log p - log teacher of those rows that it was asked about."""
    return [
        float((row.logprobs - row.teacher).double().sum())
        for row in rows
        if row.teacher is not None
    ]


def kl_per_sequence(rows: Sequence[ScoredRow]) -> list[float]:
    """Return the sum over tokens of log p - log reference of each row, in nats."""
    return [float((row.logprobs - row.reference).double().sum()) for row in rows]


def sampling_metrics(rows: Sequence[ScoredRow]) -> dict[str, float]:
    """Return how the policy writes: means over all rows, rewarded or not, or over their tokens."""
    lengths = [row.num_tokens for row in rows]
    tokens, number = sum(lengths), len(rows)
    gaps = [
        float((row.sampled - row.logprobs)[known].abs().max())
        for row in rows
        if row.sampled is not None and bool((known := row.own & ~row.sampled.isnan()).any())
    ]
    metrics = {
        "objective/entropy": sum(row.entropy for row in rows) / max(tokens, 1),
        "objective/logp_entropy": -sum(float(row.logprobs.sum()) for row in rows) / number,
        "eos_rate": sum(row.has_eos for row in rows) / number,
        "completions/length_mean": tokens / number,
        "completions/length_min": float(min(lengths)),
        "completions/length_max": float(max(lengths)),
        "completions/pad_fraction": 1 - tokens / max(number * max(lengths), 1),
    }
    return metrics | ({"rollout/logp_gap": max(gaps)} if gaps else {})
