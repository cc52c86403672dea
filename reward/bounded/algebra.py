"""Are two mathematical expressions equal? Runs in the process that grades; the rest is math-verify.

An expression is read where math-verify looks for one (boxes, LaTeX, numbers in a text), and where
models and files write one besides: after `####`, and alone on the last line without `$`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from reward import extract

_ENVIRONMENT = re.compile(r"\$|\\\(|\\\[|\\boxed|\\fbox|\\begin")
_STATED = re.compile(r"^.{0,80}?\b(?:answer|result)\b(?: is)?[ :*]*", re.IGNORECASE)
_COMMANDS = re.compile(r"\\[A-Za-z]+(?:\{[A-Za-z ]{0,30}\})?")
_WORD = re.compile(r"[A-Za-z]{3}")
_MORE_THAN_A_NUMBER = re.compile(r"[A-Za-z\\^=()\[\]{}<>|]")
_LONGEST_LINE = 300


def compare(response: str, reference: str) -> dict[str, Any]:
    """Return {right: whether the response's expression equals the reference, answer: what it is}.

    A reference that cannot be read as mathematics is compared as a text; `right` is None where it
    is another one. `answer` is None where the response has none.
    """
    from math_verify import verify  # pyright: ignore[reportMissingTypeStubs]

    expected = _reference(reference)
    answer: str | None = None
    for candidate in _candidates(response):
        found = _parsed(candidate)
        answer = next((each for each in found if isinstance(each, str)), answer)
        if found and verify(expected, found, timeout_seconds=None):
            return {"right": True, "answer": answer}
        if any(not isinstance(each, str) for each in found):
            break  # a formula: the number at its end is no answer
    return {"right": False if is_readable(reference) else None, "answer": answer}


def is_readable(reference: str) -> bool:
    """Return whether a reference can be read as mathematics."""
    return any(not isinstance(each, str) for each in _reference(reference))


@lru_cache(maxsize=256)
def _reference(text: str) -> list[Any]:
    """Return the readings of a reference, which may be written with `$` around it or without."""
    has_more = _MORE_THAN_A_NUMBER.search(text) is not None
    return _parsed(f"${text}$" if has_more and not _ENVIRONMENT.search(text) else text)


def _candidates(response: str) -> Iterator[str]:
    """Yield what may be a response's answer, as math-verify reads it; the response itself last."""
    marked = extract.after_hashes(response)
    if marked is not None and not _ENVIRONMENT.search(marked):
        yield f"${marked}$"
    if not _ENVIRONMENT.search(response):
        line = response.strip().rsplit("\n", 1)[-1].strip()
        if len(line) <= _LONGEST_LINE:
            line = _STATED.sub("", line).strip().removesuffix(".").strip("* ")
            has_words = _WORD.search(_COMMANDS.sub(" ", line)) is not None
            if _MORE_THAN_A_NUMBER.search(line) and not has_words:
                yield f"${line}$"
    yield response


def _parsed(text: str) -> list[Any]:
    import math_verify  # pyright: ignore[reportMissingTypeStubs]

    read: Any = math_verify.parse  # annotated in part
    boxes_first = math_verify.LatexExtractionConfig(boxed_match_priority=0)
    return read(text, (boxes_first, math_verify.ExprExtractionConfig()), parsing_timeout=None)
