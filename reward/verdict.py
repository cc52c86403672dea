"""The verdict on a response: a score, what was understood as the answer, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of one response.

    score: 1.0 right, 0.0 wrong, between them partly right; None when the response could not be
        graded (the grader failed, not the answer) and is then dropped and counted, never taken for
        wrong.
    answer: what was read out of the response as its answer.
    reason: why the score is what it is, in a person's words.
    """

    score: float | None
    answer: str | None = None
    reason: str = ""
