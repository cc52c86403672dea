"""Are the letters that a multiple-choice response settles on the right ones?

By letter, or by an option's text where the reference lists the options.
"""

import re
from collections.abc import Sequence

from reward import extract
from reward.verdict import Verdict
from reward.verifiers.text import find_names, normalised

_LISTED = re.compile(r"([A-Z])\. (.+)")
_STATED = re.compile(
    r"\b(?:answers?|choices?|options?)\b[*_ ]{0,4}(?:is\b|are\b|:)([^\n]{1,300})", re.I
)


def choice(response: str, reference: str, *, letters: str = "ABCD") -> Verdict:
    """Compare the chosen letter with the reference letter, whatever their case.

    A reference of several letters (`BC`) wants all of them and no other, in any order. Its further
    lines are the options, `A. red`: a response without a letter then settles on the options that
    it names, in a box, after `answer is`, on its last line or anywhere, and does not deny.
    """
    right, *lines = reference.strip().split("\n")
    expected = right.strip().strip("().").upper()
    is_known = bool(expected) and set(expected) <= set(letters)
    if not is_known or len(set(expected)) < len(expected):
        return Verdict(None, None, f"the reference `{right[:80]}` is none of {letters}")
    if len(expected) > 1:
        found = extract.choice_letters(response, letters)
    else:
        found = extract.choice_letter(response, letters)
    if found is None and lines:
        found = _named(response, lines)
    if found is None:
        return Verdict(0.0, None, "no choice in the response")
    if set(found) == set(expected):
        return Verdict(1.0, found, "the expected choice")
    return Verdict(0.0, found, f"expected {expected}")


def _named(response: str, lines: Sequence[str]) -> str | None:
    """Return the letters of the options that a response names; None where it names none."""
    options = {match[2]: match[1] for line in lines if (match := _LISTED.fullmatch(line))}
    if len({normalised(text) for text in options} - {""}) < len(lines):
        return None  # options that differ in marks only cannot be told apart
    stated = _STATED.findall(response)
    last_line = response.strip().rsplit("\n", 1)[-1]
    for part in (extract.boxed(response), *stated[-1:], last_line, response):
        named = find_names(part, list(options)) if part else ()
        if named:
            return "".join(sorted(options[text] for text in named))
    return None
