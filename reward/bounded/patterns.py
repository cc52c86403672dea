"""Does a text hold what a pattern of a user's describes? Runs in the process that grades."""

import re


def find(pattern: str, text: str) -> str | None:
    """Return the first text that the pattern matches, at most 200 characters of it."""
    match = re.search(pattern, text)
    return None if match is None else match[0][:200]
