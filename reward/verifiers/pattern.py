"""Does a response hold what a regular expression describes?

Python's syntax (`re`), matched in a process that is ended when a pattern backtracks forever.
"""

import re
import warnings

from reward.bounded.process import NotGraded, ask
from reward.verdict import Verdict

LONGEST_PATTERN, LONGEST_RESPONSE = 2_000, 1_000_000


def pattern(response: str, reference: str, *, cpu_s: float = 2.0) -> Verdict:
    r"""Search the response for the reference, a pattern; `\A...\Z` asks for all of it.

    None where the pattern does not compile, and where searching takes more than `cpu_s` processor
    seconds.
    """
    problem = problem_of_pattern(reference)
    if problem:
        return Verdict(None, None, f"the pattern is none: {problem}")
    if len(response) > LONGEST_RESPONSE:
        return Verdict(None, None, f"the response has more than {LONGEST_RESPONSE:,} characters")
    try:
        found = ask("found", reference, response, cpu_s=cpu_s)
    except NotGraded as error:
        return Verdict(None, None, f"it cannot be searched: {error}")
    if found is None:
        return Verdict(0.0, None, f"nothing matches `{reference[:80]}`")
    return Verdict(1.0, found, "the pattern matches")


def problem_of_pattern(text: str) -> str:
    """Return why a text is no pattern, "" if it is one."""
    if not text:
        return "it is empty, and would match anything"
    if len(text) > LONGEST_PATTERN:
        return f"it has {len(text)} characters, and at most {LONGEST_PATTERN} are taken"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            re.compile(text)
    except (re.error, OverflowError) as error:
        return str(error)
    except RecursionError:
        return "it is nested too deeply"
    return ""
