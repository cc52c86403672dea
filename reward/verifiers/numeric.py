"""Is the number that a response ends with the expected one? Not algebra: `2x` is no number.

Expressions are compared by reward/verifiers/symbolic.py.
"""

import re
from fractions import Fraction

from reward import extract
from reward.units import in_unit, unit_of
from reward.verdict import Verdict

# Python refuses to read integers of more than 4300 digits; nothing near that is an answer.
_MAX_LENGTH = 400
_LONGEST_CONVERTED = 100_000
_PERCENT = re.compile(r"(?: ?\\?%| ?percent\b| ?per cent\b)", re.IGNORECASE)


def numeric(response: str, reference: str, *, tolerance: float = 0.0) -> Verdict:
    r"""Compare the response's final number with the reference, exactly unless a tolerance is given.

    The final number is, in this order: a last line `#### 42`, a `\boxed{42}`, the last `answer is
    42`, else the last number of all (which a closing `= 42` is). Values are compared, not
    spellings: 0.5, .50, 1/2, `\frac{1}{2}` and `5 \times 10^{-1}` are equal.

    Percent: 25% is 25 and 0.25, whichever of the two sides has the sign. Units: where the reference
    has one that is known (reward/units.py), numbers of its kind are converted and those of another
    kind do not count; a number without a unit is taken to have the reference's, and units that are
    not known are read over (of a response of more than 100,000 characters with a unit to convert
    the last ones are read). tolerance: largest accepted absolute difference.
    """
    unit = unit_of(reference)
    if unit is not None:
        reference, response = (
            in_unit(reference, unit),
            in_unit(response[-_LONGEST_CONVERTED:], unit),
        )
    expected_text = extract.lone_number(reference)
    expected = _value(expected_text)
    if expected is None:
        return Verdict(None, None, f"the reference `{reference[:80]}` is not a number")
    answer = final_number(response)
    found = _value(answer)
    if found is None or answer is None:
        return Verdict(0.0, None, "no number in the response")
    allowed = Fraction(tolerance)
    is_right = abs(found - expected) <= allowed
    if not is_right and (is_percent := _is_percentage(response, answer)) != _is_percent(reference):
        a, b = (found / 100, expected) if is_percent else (found, expected / 100)
        is_right = abs(a - b) <= allowed
    if is_right:
        return Verdict(1.0, answer, "the expected number")
    return Verdict(0.0, answer, f"expected {expected_text}" + (f" {unit}" if unit else ""))


def final_number(response: str) -> str | None:
    """Return the number that the response gives as its answer, as `numeric` reads it."""
    for marked in (extract.after_hashes(response), extract.boxed(response)):
        number = None if marked is None else extract.lone_number(marked)
        if number is not None:
            return number
    return extract.stated_number(response) or extract.last_number(response)


def _is_percent(reference: str) -> bool:
    return _PERCENT.search(reference) is not None


def _is_percentage(response: str, answer: str) -> bool:
    """Whether a percent sign follows the last place where the response has the number."""
    place = response.rfind(answer)
    return place >= 0 and _PERCENT.match(response, place + len(answer)) is not None


def _value(number: str | None) -> Fraction | None:
    if number is None or len(number) > _MAX_LENGTH:
        return None
    try:
        return Fraction(number)
    except ZeroDivisionError:
        return None
