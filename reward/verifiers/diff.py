"""Unified diffs: applying one, and is the result, or the diff of a response, the expected text?

Not patch(1): a hunk belongs exactly where its header says, with every line of context as written.
"""

import re
from dataclasses import dataclass, field

from reward import extract
from reward.verdict import Verdict

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_MAX_SHOWN = 60


def same_text(response: str, reference: str) -> Verdict:
    """Compare a text with the expected one; the text is the last code block if there is one.

    White space at the ends of lines and empty lines at the end do not count.
    """
    block = extract.code_block(response)
    found = response if block is None else block
    return _compared(found, reference)


def produces(response: str, original: str, expected: str) -> Verdict:
    """Apply a diff, the last code block or all of the response; compare as `same_text` does."""
    block = extract.code_block(response)
    try:
        return _compared(apply_diff(original, response if block is None else block), expected)
    except ValueError as error:
        return Verdict(0.0, block or response, str(error))


def apply_diff(original: str, diff: str) -> str:
    """Return the original with the changes of a unified diff of one file.

    Lines before the first `@@` are passed over. Raises ValueError, with a sentence, for a hunk that
    does not match the original or its own header, and for a diff without hunks.
    """
    lines = _lines(original)
    patched: list[str] = []
    position = 0
    for hunk in _hunks(diff):
        if not position <= hunk.start <= len(lines):
            raise ValueError(f"{hunk.header} begins where the text is already changed or at an end")
        patched += lines[position : hunk.start]
        if hunk.new_start != len(patched):
            raise ValueError(f"{hunk.header} does not fit the changes before it")
        end = hunk.start + len(hunk.old)
        if lines[hunk.start : end] != hunk.old:
            raise ValueError(f"{hunk.header} {_difference(lines[hunk.start : end], hunk.old)}")
        patched += hunk.new
        position = end
    return "".join(patched + lines[position:])


@dataclass
class _Hunk:
    header: str
    start: int  # lines of the original before it, and of the new text
    new_start: int
    old_size: int
    new_size: int
    old: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])

    @property
    def is_complete(self) -> bool:
        return len(self.old) >= self.old_size and len(self.new) >= self.new_size


def _hunks(diff: str) -> list[_Hunk]:
    hunks: list[_Hunk] = []
    marker = ""
    for line in _lines(diff if diff.endswith("\n") else f"{diff}\n"):
        if line.startswith("\\"):  # `\ No newline at end of file` speaks of the line before
            _drop_line_end(hunks, marker)
            continue
        marker = line[:1]
        if not hunks or hunks[-1].is_complete:
            if header := _HUNK.match(line):
                hunks.append(_hunk(header))
            elif hunks and line.strip():
                raise ValueError(f"`{line.strip()[:_MAX_SHOWN]}` is in no hunk")
        elif marker in (" ", "\n", "-", "+"):
            # Editors strip the one space of an empty line of context.
            content = line if marker == "\n" else line[1:]
            if marker != "+":
                hunks[-1].old.append(content)
            if marker != "-":
                hunks[-1].new.append(content)
        else:
            raise ValueError(f"{hunks[-1].header} ends before its {_sizes(hunks[-1])} are there")
    if not hunks:
        raise ValueError("there is no `@@ -1,2 +1,2 @@` in the diff")
    if not hunks[-1].is_complete:
        raise ValueError(f"{hunks[-1].header} ends before its {_sizes(hunks[-1])} are there")
    for hunk in hunks:
        if len(hunk.old) != hunk.old_size or len(hunk.new) != hunk.new_size:
            raise ValueError(f"{hunk.header} holds other than its {_sizes(hunk)}")
    return hunks


def _hunk(header: re.Match[str]) -> _Hunk:
    old_start, new_start = int(header[1]), int(header[3])
    old_size, new_size = int(header[2] or 1), int(header[4] or 1)
    # A hunk without lines on one side names the line after which it stands, others their first.
    return _Hunk(
        header[0],
        old_start - (old_size > 0),
        new_start - (new_size > 0),
        old_size,
        new_size,
    )


def _drop_line_end(hunks: list[_Hunk], marker: str) -> None:
    if not hunks:
        return
    for lines, belongs in ((hunks[-1].old, marker != "+"), (hunks[-1].new, marker != "-")):
        if belongs and lines:
            lines[-1] = lines[-1].removesuffix("\n")


def _sizes(hunk: _Hunk) -> str:
    return f"{hunk.old_size} old and {hunk.new_size} new lines"


def _difference(found: list[str], expected: list[str]) -> str:
    for line, wanted in zip(found, expected, strict=False):
        if line != wanted:
            return f"expects {wanted[:_MAX_SHOWN]!r} where the text has {line[:_MAX_SHOWN]!r}"
    return "expects more lines than the text has"


def _compared(found: str, reference: str) -> Verdict:
    if _stripped(found) == _stripped(reference):
        return Verdict(1.0, found, "the expected text")
    pairs = zip(_stripped(found), _stripped(reference), strict=False)
    for number, (line, expected) in enumerate(pairs, start=1):
        if line != expected:
            return Verdict(0.0, found, f"line {number}: expected `{expected[:_MAX_SHOWN]}`")
    return Verdict(0.0, found, "lines at the end are missing or too many")


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _lines(text: str) -> list[str]:
    r"""Split after each \n only: \r and form feeds belong to their line."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
