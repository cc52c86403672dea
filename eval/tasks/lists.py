"""Documents that list several texts of one form, divided as the examples of a prompt are.

A model that has read such lists knows what a prompt with examples asks of it.
"""

import random
from collections.abc import Callable, Sequence

PAIR = 2  # of the longest texts: an example and what it is an example for
THREE = 3  # of long ones: more stand after another than first; a row of 256 tokens holds them
_MOST = 4  # the three examples that a prompt shows unless told otherwise, and the question
_SHARE_SINGLE = 0.1  # of documents: what follows other texts is harder, and needs the practice


def in_lists(
    texts: Sequence[str], rng: random.Random, *, separator: str = "\n", most: int = _MOST
) -> list[str]:
    """Return the texts, shuffled, in documents of one to `most`, as many of each size."""
    return _divided(texts, rng, separator, lambda: rng.randint(1, most))


def in_full_lists(
    texts: Sequence[str], rng: random.Random, *, separator: str = "\n", most: int = _MOST
) -> list[str]:
    """Return the texts, shuffled, in documents of `most`, and a few of one."""
    return _divided(texts, rng, separator, lambda: 1 if rng.random() < _SHARE_SINGLE else most)


def in_lists_of_several(
    texts: Sequence[str], rng: random.Random, *, separator: str = "\n", most: int = _MOST
) -> list[str]:
    """Return the texts, shuffled, in documents of two to `most`, as many of each size, few of one.

    A text is more often the second here than in full lists, as what one example asks for is.
    """
    return _divided(
        texts, rng, separator, lambda: 1 if rng.random() < _SHARE_SINGLE else rng.randint(2, most)
    )


def _divided(
    texts: Sequence[str], rng: random.Random, separator: str, draw_size: Callable[[], int]
) -> list[str]:
    left = rng.sample(texts, len(texts))
    documents: list[str] = []
    while left:
        size = draw_size()
        documents.append(separator.join(left[:size]))
        left = left[size:]
    rng.shuffle(documents)
    return documents
