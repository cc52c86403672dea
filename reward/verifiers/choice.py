"""Are the letters that a multiple-choice response settles on the right ones?"""

from reward import extract
from reward.verdict import Verdict


def choice(response: str, reference: str, *, letters: str = "ABCD") -> Verdict:
    """Compare the chosen letter with the reference letter, whatever their case.

    A reference of several letters (`BC`) wants all of them and no other, in any order.
    """
    expected = reference.strip().strip("().").upper()
    is_known = bool(expected) and set(expected) <= set(letters)
    if not is_known or len(set(expected)) < len(expected):
        return Verdict(None, None, f"the reference `{reference[:80]}` is none of {letters}")
    if len(expected) > 1:
        found = extract.choice_letters(response, letters)
    else:
        found = extract.choice_letter(response, letters)
    if found is None:
        return Verdict(0.0, None, "no choice in the response")
    if set(found) == set(expected):
        return Verdict(1.0, found, "the expected choice")
    return Verdict(0.0, found, f"expected {expected}")
