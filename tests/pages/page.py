"""A page of documentation taken apart: its blocks of code, spans of code, headings and links."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the line of the page that it begins on."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(REPOSITORY))

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(match[1], match[2], self.text.count("\n", 0, match.start()) + 2)
            for match in _BLOCK.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        """The page without its blocks."""
        return _BLOCK.sub("", self.text)

    @cached_property
    def spans(self) -> list[str]:
        """What stands in backticks outside of blocks."""
        return _SPAN.findall(self.prose)

    @cached_property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    def headings(self, level: int | None = None) -> list[str]:
        """Return the anchors of the headings, of one level or all."""
        marks = "#" * level if level else "#+"
        return [anchor(found) for found in re.findall(rf"^{marks} (.+)$", self.prose, re.MULTILINE)]


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in "_- ")
    return kept.replace(" ", "-")


def page(name: str) -> Page:
    """Return a page by its path from the root."""
    return Page(REPOSITORY / name)


PAGES = [
    *map(page, ("README.md", "CONTRIBUTING.md", "recipes/README.md", "recipes/RESULTS.md")),
    *map(Page, sorted(DOCS.glob("*.md"))),
]
