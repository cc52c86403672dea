"""Rewards for the form of a response: its length, repetitions, language, a pattern it must have.

Not verifiers: nothing here knows a right answer. Every reward has TRL's calling convention, so a
recipe takes a ready-made one as `use: reward.shaping:repetition`, and a file beside the recipe
makes one with other settings: `short = length_penalty(free_words=20, limit_words=60)`. No reward
keeps any state.
"""

from collections.abc import Sequence
from typing import Protocol

from reward.verifiers.form import form, repeated_share
from reward.verifiers.language import language as is_in_language
from reward.verifiers.pattern import problem_of_pattern

Completion = str | Sequence[dict[str, str]]  # a text, or messages with `role` and `content`


class Reward(Protocol):
    """What TRL calls a reward function: a number for each completion."""

    def __call__(self, completions: Sequence[Completion], **rest: object) -> Sequence[float | None]:
        """Return a number a completion, None for one that cannot be judged; `rest`: what else."""
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
    repeated_share("", words)

    def repetition(completions: Sequence[Completion], **rest: object) -> list[float]:
        return [-repeated_share(_text(each), words) for each in completions]

    return repetition


def language_reward(code: str) -> Reward:
    """Return 1 for a text in the language of this code, as `de`, else 0; see verifiers/language.py.

    Raises ValueError for a code that is not known.
    """
    if (verdict := is_in_language("", code)).score is None:
        raise ValueError(verdict.reason)

    def language(completions: Sequence[Completion], **rest: object) -> list[float | None]:
        return [is_in_language(_text(each), code).score for each in completions]

    return language


def language(
    completions: Sequence[Completion], language: Sequence[str], **rest: object
) -> list[float | None]:
    """Return 1 for a text in the language that the prompt's column `language` has, else 0."""
    asked = zip(completions, language, strict=True)
    return [is_in_language(_text(each), code).score for each, code in asked]


def format_reward(pattern: str) -> Reward:
    """Return 1 for a text that the regular expression matches as a whole, else 0.

    `.` matches line breaks too; white space around the text is left out. None where a text takes
    the pattern too long. Raises ValueError for a pattern that is none.
    """
    if problem := problem_of_pattern(pattern):
        raise ValueError(f"{pattern!r} is not a regular expression: {problem}")

    def formed(completions: Sequence[Completion], **rest: object) -> list[float | None]:
        return [form(_text(each), pattern).score for each in completions]

    formed.__name__ = "form"  # trainers call a reward by its function's name
    return formed


def _text(completion: Completion) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)


length = length_penalty(free_words=50, limit_words=150)
repetition = repetition_penalty(words=3)
english = language_reward("en")
# One block of thought, then an answer; each step looks for a tag, so it is read in one pass.
thinking = format_reward(r"<think>(?:(?!</?think>).)*</think>(?:(?!</?think>).)+")
