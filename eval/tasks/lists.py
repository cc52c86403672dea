"""Documents that list several texts of one form, divided as the examples of a prompt are.

A model that has read such lists knows what a prompt with examples asks of it.
"""

import random
from collections.abc import Sequence

_MOST = 4  # the three examples that a prompt shows unless told otherwise, and the question


def in_lists(
    texts: Sequence[str],
    rng: random.Random,
    *,
    separator: str = "\n",
    share_alone: float = 0.0,
    most: int = _MOST,
) -> list[str]:
    """Return the texts, shuffled, in documents of one to `most`.

    share_alone: of the texts, which stand alone whatever is drawn for the others.
    """
    shuffled = rng.sample(texts, len(texts))
    num_alone = round(share_alone * len(texts))
    documents, left = shuffled[:num_alone], shuffled[num_alone:]
    while left:
        size = rng.randint(1, most)
        documents.append(separator.join(left[:size]))
        left = left[size:]
    rng.shuffle(documents)
    return documents
