"""G10b: damaged data files of every format are read or refused in one line that names the file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.checks import check_data
from pipeline.errors import PosttrainError
from tests.bad_sources import BAD
from tests.claims.claim import Claim
from tests.claims.fuzzing import Reader, fuzzing_cases, mutate

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_TOKENS = (
    *(b'"', b"'", b"\\", b"\\u0000", b"\\ud83d", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r"),
    *(b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"null", b"NaN", b"1e999", b"9" * 400, b"[" * 300),
    *(
        b'"role"',
        b'"content"',
        b'"assistant"',
        b'"system"',
        b"\n\nHuman:",
        b"\n\nAssistant:",
        b"--",
    ),
)
_ROWS: tuple[dict[str, Any], ...] = (
    {"text": "one gr\u00fcn\ntwo"},
    {"prompt": "a", "completion": " b"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"instruction": "a", "input": "", "output": "b"},
    {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.5, "probability": 0.9},
    {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    {"input_ids": [1, 2, 3], "answer": "x"},
)
_FORMS = (
    ("text",),
    ("prompt_completion", "chat"),
    ("text", "prompt_completion", "chat"),
    ("preference",),
    ("prompt",),
)


def _draw(random: Random) -> tuple[str, bytes, dict[str, Any], tuple[str, ...]]:
    """Return (name of the file, its bytes, what the block asks, the forms that are read)."""
    name, content = random.choice(_files())
    if random.random() < 0.9:
        content = mutate(random, content, () if "parquet" in name else _TOKENS)
    asked: dict[str, Any] = {}
    if random.random() < 0.2:
        asked["holdout"] = random.choice((0.5, 1e-9, 1 - 1e-9))
    if random.random() < 0.2:
        asked["rows"] = random.choice((1, 2, 10**9))
    if random.random() < 0.1:
        asked["form"] = random.choice(("text", "chat", "preference", "prompt"))
    if ".txt" in name and random.random() < 0.7:
        asked["separator"] = random.choice(("--", "\n\n", "a", "\r\n"))
    return name, content, asked, random.choice(_FORMS)


@cache
def _files() -> list[tuple[str, bytes]]:
    """Return whole files of every format, and what the table of bad ones has."""
    found = [(file, each) for _, file, each, _, _ in BAD if each is not None]
    whole = [(file, each.encode() if isinstance(each, str) else each) for file, each in found]
    for row in _ROWS:
        rows = [row] * 4
        lines = b"".join(json.dumps(each).encode() + b"\n" for each in rows)
        table = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), table)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row))
        writer.writeheader()
        writer.writerows(rows)
        whole += [
            ("a.jsonl", lines),
            ("a.jsonl.gz", gzip.compress(lines)),
            ("a.json", json.dumps(rows).encode()),
            ("a.csv", text.getvalue().encode()),
            ("a.parquet", table.getvalue()),
            ("a.txt", "\r\n--\n".join(map(str, row.values())).encode()),
        ]
    return [(name, content) for name, content in whole if len(content) < 20_000]


def _read(given: tuple[str, bytes, dict[str, Any], Any], folder: Path) -> str:
    name, content, asked, forms = given
    path = folder / name
    path.unlink(missing_ok=True)  # a file emptied and filled again is flushed by ext4
    path.write_bytes(content)
    try:
        check_data(DataBlock(file=name, **asked), Places(folder), forms)
    except PosttrainError as error:
        line = str(error)
        assert "\n" not in line
        assert line.isprintable()
        assert line.startswith((name, "columns")), line
        raise
    return "read"


_READER = Reader(_draw, _read, (PosttrainError,))

CLAIM = Claim(
    "G10b",
    "a damaged data file is read or refused in one line that names it",
    lambda random, times: fuzzing_cases(_READER, random, times),
    least=2_000,
)
