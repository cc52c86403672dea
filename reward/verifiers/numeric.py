"""Is the number that a response ends with the expected one? Not algebra: `2x` is no number."""

from fractions import Fraction

from reward import extract
from reward.verdict import Verdict

# Python refuses to read integers of more than 4300 digits; nothing near that is an answer.
_MAX_LENGTH = 400


def numeric(response: str, reference: str, *, tolerance: float = 0.0) -> Verdict:
    r"""Compare the response's final number with the reference, exactly unless a tolerance is given.

    The final number is, in this order: a last line `#### 42`, a `\boxed{42}`, the last `answer is
    42`, else the last number of all (which a closing `= 42` is). Values are compared, not
    spellings: 0.5, .50 and 1/2 are equal. tolerance: largest accepted absolute difference.
    """
    expected_text = extract.lone_number(reference)
    expected = _value(expected_text)
    if expected is None:
        return Verdict(None, None, f"the reference `{reference[:80]}` is not a number")
    answer = final_number(response)
    found = _value(answer)
    if found is None:
        return Verdict(0.0, None, "no number in the response")
    if abs(found - expected) <= Fraction(tolerance):
        return Verdict(1.0, answer, "the expected number")
    return Verdict(0.0, answer, f"expected {expected_text}")


def final_number(response: str) -> str | None:
    """Return the number that the response gives as its answer, as `numeric` reads it."""
    for marked in (extract.after_hashes(response), extract.boxed(response)):
        number = None if marked is None else extract.lone_number(marked)
        if number is not None:
            return number
    return extract.stated_number(response) or extract.last_number(response)


def _value(number: str | None) -> Fraction | None:
    if number is None or len(number) > _MAX_LENGTH:
        return None
    try:
        return Fraction(number)
    except ZeroDivisionError:
        return None
