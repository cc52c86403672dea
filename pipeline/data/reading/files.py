"""Local data files, read row by row; errors name `file:line:column`.

Knows JSON lines, JSON, CSV and Parquet, gzipped or not; neither what columns mean (formats.py), nor
text files (text_files.py). Imports neither torch nor datasets.
"""

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.errors import PosttrainError
from pipeline.files.text_files import ending, gzip_problem, open_data, whole

MAX_LINE_BYTES = 64 * 2**20

_DROP = "correct it, or drop the row"
_BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Row:
    """One row as it stands in its source.

    where: `file:line`, `file:row` for Parquet, `task:facts#12`, `hub/id#12`; all count from 1.
    """

    where: str
    fields: dict[str, Any]


def file_rows(path: Path, name: str) -> Iterator[Row]:
    """Yield the rows of a JSON lines, JSON, CSV or Parquet file; name: what errors call it."""
    readers: dict[str, Callable[[BinaryIO, str], Iterator[Row]]] = {
        ".jsonl": _jsonl_rows,
        ".json": _json_rows,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    with closing(open_data(path, name)) as stream:
        try:
            yield from readers[ending(path)](stream, name)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise gzip_problem(name, error) from error


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes as they lie on disk."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _decode(raw: bytes, name: str, *, first_line: int = 1) -> str:
    """Decode UTF-8, without a byte order mark at the start of the file."""
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark, so look up the byte in what the decoder saw.
        seen, at = cast("bytes", error.object), error.start
        line = first_line + seen.count(b"\n", 0, at)
        column = len(seen[seen.rfind(b"\n", 0, at) + 1 : at].decode()) + 1
        utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        what = "the file is UTF-16" if utf16 else f"byte 0x{seen[at]:02x} is not UTF-8"
        raise PosttrainError(f"{name}:{line}:{column}", what, "save the file as UTF-8") from error


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines, line ends included."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            message = f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB"
            raise PosttrainError(f"{name}:{number}", message, "is it one row a line?")
        yield number, _decode(raw, name, first_line=number)


def _jsonl_rows(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, line in _lines(stream, name):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            where = f"{name}:{number}:{error.colno}"
            if not line.endswith("\n"):
                message = f"the last line is cut off: {error.msg}"
                raise PosttrainError(where, message, "copy the file again or drop it") from error
            hint = "a .jsonl file has one JSON object on each line"
            raise PosttrainError(where, f"broken JSON: {error.msg}", hint) from error
        except (ValueError, RecursionError) as error:
            raise PosttrainError(f"{name}:{number}", f"unreadable JSON: {error}", _DROP) from error
        yield Row(f"{name}:{number}", _object(value, f"{name}:{number}:1"))


def _json_rows(stream: BinaryIO, name: str) -> Iterator[Row]:
    """Yield the objects of one list, decoded one by one so that their lines are known."""
    text = whole(stream, name, "one JSON object on each line (.jsonl) is read line by line")
    at = _past_blank(text, 0)
    if not text.startswith("[", at):
        hint = "one JSON object on each line makes a .jsonl file"
        raise PosttrainError(_place(text, at, name), "not a list of objects", hint)
    decoder = json.JSONDecoder()
    at = _past_blank(text, at + 1)
    if text.startswith("]", at):
        return
    line, counted = 1, 0
    while True:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _json_error(text, error.pos, name, error.msg) from error
        except (ValueError, RecursionError) as error:
            where = _place(text, at, name)
            raise PosttrainError(where, f"unreadable JSON: {error}", _DROP) from error
        yield Row(f"{name}:{line}", _object(value, _place(text, at, name)))
        at = _past_blank(text, end)
        if text.startswith("]", at):
            break
        if not text.startswith(",", at):
            raise _json_error(text, at, name, "expecting `,` or `]`")
        at = _past_blank(text, at + 1)
    rest = _past_blank(text, at + 1)
    if rest < len(text):
        where = _place(text, rest, name)
        raise PosttrainError(where, "broken JSON: text after the list", "take it out")


def _past_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _place(text: str, at: int, name: str) -> str:
    return f"{name}:{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def _json_error(text: str, at: int, name: str, what: str) -> PosttrainError:
    message = f"broken JSON: {what}"
    if not text.rstrip().endswith("]"):
        return PosttrainError(_place(text, at, name), message, "the file looks cut off")
    return PosttrainError(_place(text, at, name), message, "correct it")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PosttrainError(where, f"{kind_of(value)} where an object `{{...}}` belongs", _DROP)
    return cast("dict[str, Any]", value)


def _csv_rows(stream: BinaryIO, name: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)  # 128 KiB by default: too short for a document
    reader = csv.reader((line for _, line in _lines(stream, name)), strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise PosttrainError(f"{name}:{number}", f"broken CSV: {error}", _DROP) from error
        if not values:
            continue
        if not header:
            header = values
            if len(set(header)) < len(header) or "" in header:
                message = "two columns share a name, or a column has none"
                raise PosttrainError(
                    f"{name}:{number}", message, "the first line names the columns"
                )
        elif len(values) != len(header):
            message = f"{len(values)} values for {len(header)} columns"
            raise PosttrainError(f"{name}:{number}", message, "quote values that hold commas")
        else:
            yield Row(f"{name}:{number}", dict(zip(header, values, strict=True)))


def _parquet_rows(stream: BinaryIO, name: str) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    # A Parquet reader seeks in its file; a gzip stream cannot.
    source = stream if stream.seekable() else io.BytesIO(stream.read())
    number = 0
    try:
        for batch in parquet.ParquetFile(source).iter_batches(batch_size=256):
            for fields in batch.to_pylist():
                number += 1
                yield Row(f"{name}:{number}", fields)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        message = f"broken Parquet after row {number}: {reason}"
        raise PosttrainError(name, message, "copy or download it again") from error
    except UnicodeDecodeError as error:
        message = f"a text after row {number} is not UTF-8"
        raise PosttrainError(name, message, "write it as UTF-8") from error


def kind_of(value: Any) -> str:
    """Name what a value of JSON is, in words for a person."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"a number ({value!r:.40})"
    names = {str: "a text", list: "a list", dict: "an object", bytes: "bytes"}
    return names.get(type(value), f"a {type(value).__name__}")
