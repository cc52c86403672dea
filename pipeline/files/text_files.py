"""Data files opened, and texts read from them: one whole, or document after document.

Knows what cannot be read as text at all: pipes and devices, gzip bombs, other encodings, more than
memory holds. Not what stands in a file: rows are read in files.py. Imports no torch.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import PosttrainError, closest
from pipeline.files.foreign_files import DOWNLOAD_AGAIN, is_web_page, refuse_pointer
from pipeline.files.plain_files import COPY_IT, other_than_a_file
from pipeline.machine import memory_bytes

TEXT_ENDINGS = (".txt", ".md")
ENDINGS = (".jsonl", ".json", ".csv", ".parquet", *TEXT_ENDINGS)

# A gzip file that expands beyond both is refused: text compresses 3 to 20 times, a bomb 1,000.
MAX_EXPANSION = 200
MAX_EXPANDED_BYTES = 10**9
_BLOCK_BYTES = 2**20
_PARQUET = b"PAR1"


def ending(path: Path) -> str:
    """The file name's ending in lower case, without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def look_at(path: Path, name: str) -> None:
    """Refuse a file whose first bytes are not data: another kind of file, another encoding."""
    with closing(open_data(path, name)) as stream:
        if ending(path) == ".parquet":
            if not _read(stream, name).startswith(_PARQUET):
                raise PosttrainError(name, "is no Parquet file", "copy or download it again")
        else:
            next(_blocks(stream, name), None)


def file_text(path: Path, name: str) -> str:
    r"""Read a whole text file, `\r\n` as `\n`."""
    with closing(open_data(path, name)) as stream:
        text = whole(stream, name, "divide it into documents by a `separator`")
    if not text.strip():
        raise PosttrainError(name, "the file holds only white space", "is it the right one?")
    return text


def file_documents(path: Path, name: str, separator: str) -> Iterator[tuple[int, str]]:
    r"""Yield the documents of a text file with the line in which each begins, `\r\n` as `\n`.

    One is read at a time, whatever the file's size. Blank ones are among them.
    """
    line, begun, has_separator = 1, "", False
    with closing(open_data(path, name)) as stream:
        for block in _blocks(stream, name):
            # What was looked through before is not looked through again.
            at, start = max(0, len(begun) - len(separator) + 1), 0
            begun += block
            while (end := begun.find(separator, at)) >= 0:
                has_separator = True
                yield line, begun[start:end]
                line += begun.count("\n", start, end) + separator.count("\n")
                at = start = end + len(separator)
            begun = begun[start:]
            _check_room(len(begun), name, "divide it into smaller documents")
    if not has_separator:
        if not begun.strip():
            raise PosttrainError(name, "the file holds only white space", "is it the right one?")
        hint = "leave `separator` out for a file that is one document"
        raise PosttrainError(name, f"the separator {separator!r} does not occur", hint)
    yield line, begun


def whole(stream: BinaryIO, name: str, hint: str) -> str:
    r"""Read all of a text that must be in memory at once, `\r\n` as `\n`.

    hint: what to do where memory cannot hold it.
    """
    pieces: list[str] = []
    length = 0
    for block in _blocks(stream, name):
        length += len(block)
        _check_room(length, name, hint)
        pieces.append(block)
    return "".join(pieces)


def open_data(path: Path, name: str) -> BinaryIO:
    """Open a data file, expanded if its name ends in `.gz`; refuse what cannot hold rows."""
    kind = other_than_a_file(path)
    if kind is not None:
        hint = "name the file inside it" if path.is_dir() else COPY_IT
        raise PosttrainError(name, f"is {kind}, not a file", hint)
    if ending(path) not in ENDINGS:
        near = closest(ending(path), ENDINGS) if ending(path) else ""
        known = ", ".join(ENDINGS)
        hint = near or f"known endings: {known}, each also with .gz"
        what = f"unknown file ending `{path.suffix}`" if path.suffix else "the name has no ending"
        raise PosttrainError(name, what, hint)
    if not path.exists():
        siblings = (
            [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        )
        hint = closest(path.name, siblings) or "paths are relative to the recipe"
        raise PosttrainError(name, "no such file", hint)
    if path.stat().st_size == 0:
        raise PosttrainError(name, "the file is empty (0 bytes)", "is it the right one?")
    refuse_pointer(path, name)
    if ending(path) not in TEXT_ENDINGS and is_web_page(path):
        raise PosttrainError(name, "is a web page, not data", DOWNLOAD_AGAIN)
    try:
        if path.name.lower().endswith(".gz"):
            return io.BufferedReader(_Expanded(path, name))
        return path.open("rb")
    except OSError as error:
        hint = "look at its permissions"
        raise PosttrainError(name, f"cannot be read: {error.strerror}", hint) from error


class _Expanded(io.RawIOBase):
    """The expanded bytes of a gzip file, refused once there are too many for a file of its size."""

    def __init__(self, path: Path, name: str) -> None:
        self._source = gzip.open(path, "rb")  # noqa: SIM115 - closed by close()
        self._limit_bytes = max(MAX_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
        self._read_bytes = 0
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._source.readinto(buffer)
        self._read_bytes += count
        if self._read_bytes > self._limit_bytes:
            raise PosttrainError(
                self._name,
                f"expands to more than {self._limit_bytes / 1e9:.1f} GB,"
                f" over {MAX_EXPANSION} times its size",
                "expand it yourself if you trust it",
            )
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


def gzip_problem(name: str, error: Exception) -> PosttrainError:
    """Return the message about a file that is not gzip, or only a part of one."""
    if isinstance(error, EOFError):
        return PosttrainError(name, "the gzip data is cut off", "copy or download the file again")
    return PosttrainError(name, f"is not a whole gzip file ({error})", "copy or download it again")


@dataclass(frozen=True)
class _Place:
    """Where in a text the reader is; both count from 1."""

    name: str
    line: int = 1
    column: int = 1

    def after(self, text: str) -> "_Place":
        """Return the place behind some text."""
        lines, last = text.count("\n"), len(text) - text.rfind("\n")
        column = last if lines else self.column + len(text)
        return _Place(self.name, self.line + lines, column)

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}"


def _blocks(stream: BinaryIO, name: str) -> Iterator[str]:
    r"""Yield a text bit by bit, `\r\n` as `\n`; refuse what is not UTF-8, and NUL."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    place, held, is_end = _Place(name), "", False  # held: a carriage return; a line feed may follow
    while not is_end:
        raw = _read(stream, name)
        is_end = not raw
        begun, nul = decoder.getstate()[0], raw.find(b"\0")
        try:
            text = held + decoder.decode(raw if nul < 0 else raw[:nul], final=is_end)
        except UnicodeDecodeError as error:
            is_utf16 = place == _Place(name) and raw.startswith((b"\xff\xfe", b"\xfe\xff"))
            what = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
            right = held + (begun + raw)[: error.start].decode("utf-8-sig", "ignore")
            message = "the file is UTF-16" if is_utf16 else what
            hint = "save the file as UTF-8"
            raise PosttrainError(str(place.after(right)), message, hint) from error
        if nul >= 0:
            hint = "is it a text at all? Save it as UTF-8"
            raise PosttrainError(str(place.after(text)), "the text holds a NUL byte", hint)
        text, held = (text[:-1], "\r") if text.endswith("\r") and not is_end else (text, "")
        place = place.after(text)
        if text:
            yield text.replace("\r\n", "\n")


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(_BLOCK_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise gzip_problem(name, error) from error
    except OSError as error:
        hint = "look at its permissions, and at the disk"
        raise PosttrainError(name, f"cannot be read: {error.strerror}", hint) from error


def _check_room(num_characters: int, name: str, hint: str) -> None:
    """Refuse a text that is kept whole: a byte a character at least, twice while it is joined."""
    if num_characters > _BLOCK_BYTES and 2 * num_characters > memory_bytes():
        message = f"{num_characters / 1e9:.1f} GB of text are in memory at once, and twice"
        raise PosttrainError(name, f"{message}: more than this machine has", hint)
