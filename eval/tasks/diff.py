"""Applying a unified diff to a few lines of text: the lines that come out. A skill task.

A text and a change of it are one item, wherever they occur. A text is a card of keys with values,
each key once and in the order of the alphabet, so that a diff fits in one place only. Not a test of
making diffs.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice
from typing import Literal

from eval.task import Example, FlawedResponse, Split, Task, split_of
from eval.tasks.lists import PAIR, in_full_lists
from reward.verdict import Verdict
from reward.verifiers.diff import same_text

Kind = Literal["replacement", "insertion", "deletion", "two changes"]
Sign = Literal[" ", "-", "+"]
Lines = tuple[str, ...]

_KINDS: tuple[Kind, ...] = ("replacement", "insertion", "deletion", "two changes")
_NUM_EXAMPLES: dict[Split, int] = {"train": 1_600, "validation": 120, "test": 260}
_NUM_CHANGES = 1_800  # that one pass of documents tells of
_SHARE_EXPLAINED = 0.15
_SHARE_NOTES = 0.1
_FEWEST_LINES = 3
_CONTEXT = 1  # lines around a change
_QUESTIONS = (
    "Apply the diff.",
    "Apply this diff to the text.",
    "Change the text as the diff says.",
    "What is the text after the diff?",
)
_WHAT_IT_DOES: dict[str, str] = {
    "-": "It takes {} out.",
    "+": "It puts {} in.",
}
_VALUES = {
    "animal": ("cat", "cow", "dog", "fox", "hen", "pig"),
    "city": ("Bern", "Lima", "Oslo", "Paris", "Rome", "Seoul"),
    "color": ("black", "blue", "green", "pink", "red", "white"),
    "drink": ("cocoa", "juice", "milk", "tea", "water", "wine"),
    "food": ("bread", "cake", "egg", "fish", "rice", "soup"),
    "game": ("ball", "cards", "chess", "darts", "golf", "tag"),
    "metal": ("copper", "gold", "iron", "lead", "silver", "tin"),
    "name": ("Anna", "Ben", "Eva", "Leo", "Mia", "Tom"),
    "tool": ("axe", "drill", "fork", "hammer", "rake", "saw"),
    "tree": ("ash", "beech", "elm", "fir", "oak", "pine"),
}


@dataclass(frozen=True)
class Change:
    """Lines with what becomes of each: " " it stays, "-" it goes, "+" it is new."""

    kind: Kind
    marked: tuple[tuple[Sign, str], ...]

    @property
    def before(self) -> Lines:
        """The lines of the text as it was."""
        return tuple(line for sign, line in self.marked if sign != "+")

    @property
    def after(self) -> Lines:
        """The lines of the text as it becomes."""
        return tuple(line for sign, line in self.marked if sign != "-")

    @property
    def id(self) -> str:
        """Both texts, on one line."""
        return f"{', '.join(self.before)} -> {', '.join(self.after)}"

    @property
    def split(self) -> Split:
        """The split of the two texts."""
        return split_of(f"diff {self.id}")

    @property
    def hunks(self) -> str:
        """The diff without the names of files."""
        lines = unified_diff(self.before, self.after, lineterm="", n=_CONTEXT)
        return "\n".join(islice(lines, 2, None))


class Diff(Task):
    """Texts of three lines to `max_lines`, changed in one place or in two."""

    name = "diff"
    version = 3
    kind = "skill"
    summary = "small texts after a unified diff was applied to them"
    max_new_tokens = 40
    document_stop = ("\n\n",)
    document_separator = "\n\n"

    def __init__(self, max_lines: int = 4) -> None:
        if not _FEWEST_LINES <= max_lines <= 8:
            raise ValueError(f"max_lines is from {_FEWEST_LINES} to 8, not {max_lines}")
        self.max_lines = max_lines

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield as many changes of each kind."""
        rng = random.Random(f"diff {self.max_lines} {split}")
        changes = self._changes(split, rng)
        for change in islice(changes, _NUM_EXAMPLES[split]):
            yield _example(change, rng)

    def documents(self, seed: int) -> Iterator[str]:
        """Yield texts with their diffs and what comes of them, and single changes explained."""
        rng = random.Random(f"diff documents {seed}")
        documents: list[str] = []
        applied: list[str] = []
        for change in islice(self._changes("train", rng), _NUM_CHANGES):
            draw = rng.random()
            if draw < _SHARE_EXPLAINED:
                documents.append(_explained(change))
            elif draw < _SHARE_EXPLAINED + _SHARE_NOTES:
                documents.append(_notes(rng))
            else:
                applied.append("\n".join((_document(change), *change.after)))
        between = self.document_separator
        documents += in_full_lists(applied, rng, separator=between, most=PAIR)
        rng.shuffle(documents)
        yield from documents

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare the lines, whatever blank lines are around them; in a fenced block or bare."""
        return same_text(response.lstrip("\n"), reference)

    def _changes(self, split: Split, rng: random.Random) -> Iterator[Change]:
        """Yield changes of the split without end, no two alike."""
        seen: set[str] = set()
        while True:
            kind = _KINDS[len(seen) % len(_KINDS)]
            change = _change(kind, rng.randint(_FEWEST_LINES, self.max_lines), rng)
            if change.split == split and change.id not in seen:
                seen.add(change.id)
                yield change


def _change(kind: Kind, num_lines: int, rng: random.Random) -> Change:
    """Return a change of a text of as many lines."""
    kinds: list[Kind] = [kind]
    if kind == "two changes":
        kinds = [rng.choice(_KINDS[:3]), rng.choice(_KINDS[:3])]
    keys = rng.sample(sorted(_VALUES), num_lines + kinds.count("insertion"))
    kind_by_key = dict(zip(keys, kinds, strict=False))
    marked: list[tuple[Sign, str]] = []
    for key in sorted(keys):
        value, other_value = rng.sample(_VALUES[key], 2)
        match kind_by_key.get(key):
            case "replacement":
                marked.extend([("-", f"{key} {value}"), ("+", f"{key} {other_value}")])
            case "deletion":
                marked.append(("-", f"{key} {value}"))
            case "insertion":
                marked.append(("+", f"{key} {value}"))
            case _:
                marked.append((" ", f"{key} {value}"))
    return Change(kind, tuple(marked))


def _example(change: Change, rng: random.Random) -> Example:
    after = "\n".join(change.after)
    before = "\n".join(change.before)
    return Example(
        id=change.id,
        prompt=f"{rng.choice(_QUESTIONS)}\n{before}\n---\n{change.hunks}",
        response=after,
        reference=after,
        document=_document(change),
        continuation=f"\n{after}",
        flawed=_flawed(change),
        group=change.kind,
    )


def _document(change: Change) -> str:
    before = "\n".join(change.before)
    return f"A text\n{before}\n---\n{change.hunks}\n---\nAfter the diff"


def _flawed(change: Change) -> tuple[FlawedResponse, ...]:
    """Return what comes of mistakes with this diff; a mistake that changes nothing is none."""
    marked = change.marked
    has_new = any(sign == "+" for sign, _ in marked)
    with_signs = [
        line if sign == " " else f"{sign}{line}"
        for sign, line in marked
        if sign != "-" or not has_new
    ]
    flaw_by_text = {
        "\n".join(lines): flaw
        for lines, flaw in (
            ([line for _, line in marked], "keeps what the diff takes out"),
            ([line for sign, line in marked if sign == " "], "leaves the new lines out"),
            (with_signs, "copies the signs"),
            (change.before, "changes nothing"),
        )
    }
    flaw_by_text.pop("\n".join(change.after), None)
    return tuple(FlawedResponse(text, flaw) for text, flaw in flaw_by_text.items() if text)


def _explained(change: Change) -> str:
    """Return the diff with what it does in words: `It takes food egg out`."""
    said = [_WHAT_IT_DOES[sign].format(line) for sign, line in change.marked if sign != " "]
    return f"{change.hunks}\n---\n{' '.join(said)}"


def _notes(rng: random.Random) -> str:
    """Return what single marked lines mean, one each line."""
    marked = [each for _ in range(3) for each in _change("replacement", 1, rng).marked]
    return "\n".join(f"{sign}{line}: {_WHAT_IT_DOES[sign].format(line)}" for sign, line in marked)
