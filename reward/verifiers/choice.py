"""Is the letter that a multiple-choice response settles on the right one?"""

from reward import extract
from reward.verdict import Verdict


def choice(response: str, reference: str, *, letters: str = "ABCD") -> Verdict:
    """Compare the chosen letter with the reference letter, whatever their case."""
    expected = reference.strip().strip("().").upper()
    if len(expected) != 1 or expected not in letters:
        return Verdict(None, None, f"the reference `{reference[:80]}` is none of {letters}")
    found = extract.choice_letter(response, letters)
    if found is None:
        return Verdict(0.0, None, "no choice in the response")
    if found == expected:
        return Verdict(1.0, found, "the expected choice")
    return Verdict(0.0, found, f"expected {expected}")
