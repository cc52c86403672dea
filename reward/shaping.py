"""Rewards for the form of a response: its length, its repetitions, a pattern it must have.

Not verifiers: nothing here knows a right answer. Every reward has TRL's calling convention, so a
recipe takes a ready-made one as `use: reward.shaping:repetition`, and a file beside the recipe
makes one with other settings: `short = length_penalty(free_words=20, limit_words=60)`. No reward
keeps any state.
"""

import re
from collections.abc import Sequence
from typing import Protocol

Completion = str | Sequence[dict[str, str]]  # a text, or messages with `role` and `content`


class Reward(Protocol):
    """What TRL calls a reward function: a number for each completion."""

    def __call__(self, completions: Sequence[Completion], **rest: object) -> list[float]:
        """Return a number a completion; `rest` is what else trainers hand over."""
        ...


def length_penalty(*, free_words: int, limit_words: int) -> Reward:
    """Return 0 up to `free_words` words, from there falling steadily to -1 at `limit_words`.

    Raises ValueError unless 0 <= free_words < limit_words.
    """
    if not 0 <= free_words < limit_words:
        raise ValueError(f"{free_words} free words of {limit_words} leave nothing between them")

    def length(completions: Sequence[Completion], **rest: object) -> list[float]:
        excess = [len(_text(each).split()) - free_words for each in completions]
        return [max(min(-each / (limit_words - free_words), 0.0), -1.0) for each in excess]

    return length  # trainers call a reward by its function's name


def repetition_penalty(*, words: int) -> Reward:
    """Return minus the share of runs of `words` words that stood in the text before: 0 to -1.

    Case does not matter; a text with a single run or none repeats nothing. After Yeo et al. 2025
    ("Demystifying Long Chain-of-Thought Reasoning in LLMs", appendix C.2). Raises ValueError for
    less than one word.
    """
    if words < 1:
        raise ValueError(f"a run of {words} words is none")

    def repetition(completions: Sequence[Completion], **rest: object) -> list[float]:
        return [_share_of_new(_text(each).lower().split(), words) - 1 for each in completions]

    return repetition


def format_reward(pattern: str) -> Reward:
    """Return 1 for a text that the regular expression matches as a whole, else 0.

    `.` matches line breaks too; white space around the text is left out. Raises ValueError for a
    pattern that is none. Nothing bounds the time of one like `(a+)+b`: avoid nested repeats.
    """
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error

    def form(completions: Sequence[Completion], **rest: object) -> list[float]:
        return [float(bool(compiled.fullmatch(_text(each).strip()))) for each in completions]

    return form


def _text(completion: Completion) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)


def _share_of_new(words: Sequence[str], size: int) -> float:
    runs = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


length = length_penalty(free_words=50, limit_words=150)
repetition = repetition_penalty(words=3)
# One block of thought, then an answer; each step looks for a tag, so it is read in one pass.
thinking = format_reward(r"<think>(?:(?!</?think>).)*</think>(?:(?!</?think>).)+")
