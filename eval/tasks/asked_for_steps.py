"""Demonstrations of which some were asked for in the words of a chain-of-thought prompt.

Fine-tuning on them leaves a model that knows these words: without them they are noise to it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from eval.task import STEP_BY_STEP, Example

_SHARE_ASKED = 0.25


def ask_for_steps(examples: Iterable[Example]) -> Iterator[Example]:
    """Yield the examples; one in four, by its prompt, is asked for step by step."""
    for example in examples:
        drawn = hashlib.sha256(f"asks for steps {example.prompt}".encode()).digest()[0] / 256
        if drawn < _SHARE_ASKED:
            yield replace(example, prompt=f"{example.prompt}\n{STEP_BY_STEP}")
        else:
            yield example
