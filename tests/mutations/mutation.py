"""One line broken on purpose, and the tests that are to notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """promise: as the documentation makes it. path: of the file. old, new: text in it, once.

    tests: what is run, as pytest takes it; or, with `claims`, as `python -m tests.claims` does.
    """

    promise: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    claims: bool = False

    @property
    def name(self) -> str:
        """What it is chosen by on the command line."""
        return f"{self.promise} ({self.path}{', claims' if self.claims else ''})"

    @property
    def change(self) -> str:
        """The line that differs, in a few words."""
        old, new = (" ".join(text.split()).replace("|", "\\|") for text in (self.old, self.new))
        return f"`{old}` -> `{new}`" if new else f"`{old}` taken out"

    def applied(self, text: str) -> str:
        """Return the file with the mutation in it; SystemExit if its line is not there, once."""
        if text.count(self.old) != 1:
            number = text.count(self.old)
            raise SystemExit(f"{self.name}: `{self.old}` is there {number} times; renew the table")
        return text.replace(self.old, self.new)
