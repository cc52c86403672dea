"""Is a response of a given form: does a pattern match all of it, does it repeat itself?

As rewards, which a recipe names: reward/shaping.py. A pattern that may stand anywhere is
pattern.py's subject, JSON json_schema.py's.
"""

from reward.verdict import Verdict
from reward.verifiers.pattern import pattern


def form(response: str, reference: str) -> Verdict:
    """Match all of the response with the reference, a pattern, white space around it left out.

    `.` matches line breaks too. None as in `pattern`: where it is none, or takes too long.
    """
    return pattern(response.strip(), rf"(?s)\A(?:{reference})\Z")


def repetition(response: str, *, words: int = 3, at_most: float = 0.2) -> Verdict:
    """Compare the share of repeated runs of words with the most that is allowed.

    A text with at most one run repeats nothing. Raises ValueError for less than one word.
    """
    share = repeated_share(response, words)
    is_fine = share <= at_most
    return Verdict(float(is_fine), None, f"{share:.0%} of runs of {words} words stood before")


def repeated_share(text: str, words: int) -> float:
    """Return the share of runs of so many words that stood in the text before: 0 to 1.

    Case does not matter. Raises ValueError for less than one word.
    """
    if words < 1:
        raise ValueError(f"a run of {words} words is none")
    said = text.lower().split()
    runs = [tuple(said[start : start + words]) for start in range(len(said) - words + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
