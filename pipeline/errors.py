"""What goes wrong for a user, as one line to act on.

Every error a user can cause or meet is a PosttrainError: where it is, what is wrong, what to do.
The command prints it as `where: what; hint` and leaves with the class's exit code; anything else is
a bug of ours and shows its traceback.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class PosttrainError(Exception):
    """Something is wrong in what the user gave: exit code 2."""

    exit_code: ClassVar[int] = 2

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        super().__init__(where, message, hint)
        self.where = where
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.where}: {self.message}" if self.where else self.message
        if self.hint:
            line = f"{line}; {self.hint}"
        return printable(" ".join(line.split()))


class GateError(PosttrainError):
    """A gate says DO NOT SHIP; everything ran, and its results are there: exit code 1."""

    exit_code = 1


class InfrastructureError(PosttrainError):
    """The machine, the network or a launcher failed, not the user's input: exit code 3."""

    exit_code = 3


class CorruptArtifactError(PosttrainError):
    """A file of ours is not what its manifest says: exit code 4."""

    exit_code = 4


class InterruptedRunError(PosttrainError):
    """Stopped on request; what was done is kept: exit code 130."""

    exit_code = 130


def printable(text: str) -> str:
    """Return a text with what may act on a terminal as escapes; newlines and tabs stay.

    What a file holds or a library says may be anything: escape sequences, text from right to left.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def closest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean `x`?" for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
