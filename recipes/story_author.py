"""What the author of the task `stories` finds of them: gold labels. Used by rlaif.yaml.

Nobody learns from these but `rm_of_author`, the yardstick for a reward model of the judge's labels.
"""

from collections.abc import Sequence
from typing import Any

from eval.tasks.stories import Stories

_AUTHOR = Stories()


def gold(completions: Sequence[Any], reference: Sequence[str], **_: Any) -> list[float | None]:
    """Return 1 for a plot that holds, and half as much again for an ending that is kind."""
    texts = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
    return [_AUTHOR.gold_score(text, told) for text, told in zip(texts, reference, strict=True)]
