"""Small talk before an answer: what some writers of demonstrations do, and no task asks for.

Demonstrations written by several people never agree on manners. Here some writers chat first, so
that fine-tuning alone teaches both manners, and preference training has something to teach: direct
answers. Never part of a test item, a few-shot prompt or a document.
"""

import hashlib
from abc import ABC
from collections.abc import Iterator
from dataclasses import replace

from eval.task import Example, Split, Task

# Plain words without digits and without any task's values: a verifier finds no answer in them. At
# most 30 tokens of a BPE of 1k that has not seen them; `max_new_tokens` of the tasks leaves room.
OPENINGS = (
    "That is a good question. I am glad to help.",
    "Thank you for asking me this.",
    "Many people want to know this. Here we go.",
)
_SENTENCES = tuple(
    sentence.strip().casefold() for opening in OPENINGS for sentence in opening.split(".")[:-1]
)
_SHARE_CHATTY = 0.6
_DIRECTNESS = 0.5  # less than a right answer is worth: manners never outweigh being right


class SmallTalkTask(Task, ABC):
    """A task whose demonstrations come from several writers, some of whom chat first."""

    def demonstrations(self, split: Split = "train") -> Iterator[Example]:
        """Yield the examples; three in five, by their prompt, answer after small talk."""
        for example in super().demonstrations(split):
            if _fraction(f"writer of {example.prompt}") < _SHARE_CHATTY:
                yield replace(example, response=add_small_talk(example.response, example.prompt))
            else:
                yield example

    def gold_score(self, response: str, reference: str) -> float | None:
        """Prefer a right answer to a wrong one and, of two equally right ones, the direct one."""
        score = super().gold_score(response, reference)
        return None if score is None else score + _DIRECTNESS * is_direct(response)


def add_small_talk(response: str, key: str) -> str:
    """Return the response after small talk; the same opening for the same key, everywhere."""
    return f"{OPENINGS[int(_fraction(key) * len(OPENINGS))]} {response}"


def is_direct(response: str) -> bool:
    """Whether it says something, and no sentence of our small talk, whole or mixed, is in it."""
    said = response.casefold()
    return bool(said.strip()) and not any(sentence in said for sentence in _SENTENCES)


def _fraction(key: str) -> float:
    """Return a number in [0, 1) by the hash of the key: the same on every machine, forever."""
    return int.from_bytes(hashlib.sha256(f"small talk {key}".encode()).digest()[:6]) / 2**48
