r"""Is the expression that a response ends with equal to the expected one? By math-verify.

Fractions, roots, intervals, sets, matrices, equations, percentages: `\frac{1}{2}` is 0.5, and
`2x + 2` is `2(x + 1)`. Plain numbers are compared here, everything else in a process that is ended
when it takes too long. Not a proof checker: only final answers are compared.
"""

from fractions import Fraction
from functools import lru_cache

from reward import extract
from reward.bounded.process import NotGraded, ask
from reward.verdict import Verdict

# An answer longer than this is none; the answer of a longer response is looked for at its end.
LONGEST_REFERENCE, LONGEST_READ = 2_000, 20_000
_MAX_DIGITS = 400


def symbolic(response: str, reference: str, *, cpu_s: float = 5.0) -> Verdict:
    r"""Compare the response's final expression with the reference, as mathematics.

    The expression is, in this order: a last line `#### x`, a response whose last line is nothing
    but a formula, else what math-verify finds: a `\boxed{...}`, an `answer is $...$`, the last
    formula or number. Of a response longer than 20,000 characters the last ones are read. The
    reference may be written with or without `$`; one that cannot be read is compared as a text.
    None where it is another text, and where comparing takes more than `cpu_s` processor seconds.
    """
    if not reference.strip() or len(reference) > LONGEST_REFERENCE:
        size = f"has {len(reference)} characters, of 1 to {LONGEST_REFERENCE}"
        return Verdict(None, None, f"the reference `{reference[:80]}` {size}")
    plain = _plain_verdict(response, reference)
    if plain is not None:
        return plain
    return _compared(response[-LONGEST_READ:], reference, cpu_s)


def is_expression(reference: str) -> bool:
    """Return whether a reference can be read as mathematics, and not only compared as a text."""
    if extract.lone_number(reference) is not None:
        return True
    try:
        return ask("readable", reference)
    except NotGraded:
        return False


@lru_cache(maxsize=256)  # a group of samples repeats itself
def _compared(response: str, reference: str, cpu_s: float) -> Verdict:
    try:
        found = ask("same_value", response, reference, cpu_s=cpu_s)
    except NotGraded as error:
        return Verdict(None, None, f"it cannot be compared: {error}")
    if found["right"] is None:
        return Verdict(None, None, f"the reference `{reference[:80]}` cannot be read")
    if found["right"]:
        return Verdict(1.0, found["answer"], "the expected expression")
    if found["answer"] is None:
        return Verdict(0.0, None, "no expression in the response")
    return Verdict(0.0, found["answer"], f"expected {reference[:80]}")


def _plain_verdict(response: str, reference: str) -> Verdict | None:
    """Return the verdict where both answers are marked plain numbers; None for all the rest."""
    expected = _plain_number(reference)
    if expected is None or response.count(r"\boxed") > 1:
        return None
    marked = extract.after_hashes(response) or extract.boxed(response) or response
    found = _plain_number(marked)
    if found is None:
        return None
    answer = extract.lone_number(marked)
    if found == expected:
        return Verdict(1.0, answer, "the expected number")
    return Verdict(0.0, answer, f"expected {reference[:80]}")


def _plain_number(text: str) -> Fraction | None:
    if len(text) > _MAX_DIGITS or "%" in text or "\\" in text:
        return None
    number = extract.lone_number(text)
    try:
        return None if number is None else Fraction(number)
    except ZeroDivisionError:
        return None
