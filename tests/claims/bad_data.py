"""Data files that are wrong, as a table: the one of the unit tests, each also gzipped, and more.

More is what needs no row of text to be wrong: files that are none, files without end, other
encodings, preferences and prompts.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bad_sources import BAD, GOOD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SPARSE_BYTES = 3 * 10**9
_MODEL = """\
name: small
stages:
  words: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $words, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
    batch_size: 8
"""
FOLDER_RECIPE = """\
name: small
stages:
  tuned: {stage: sft, model: ./model, data: [{file: rows.jsonl}], batch_size: 8}
"""
_STAGES = {
    "tokenizer": "name: small\nstages:\n  read: {stage: tokenizer, data: [BLOCK]}\n",
    "sft": _MODEL + "  read: {stage: sft, model: $base, data: [BLOCK], batch_size: 8}\n",
    "dpo": _MODEL + "  read: {stage: dpo, model: $base, data: [BLOCK], batch_size: 8}\n",
    "kto": _MODEL + "  read: {stage: kto, model: $base, data: [BLOCK], batch_size: 8}\n",
    "ppo": _MODEL
    + "  read: {stage: ppo, model: $base, prompts: [BLOCK], reward: [{use: 'mine:score'}],\n"
    "         batch_size: 8}\n",
}


@dataclass(frozen=True)
class BadData:
    """name: what is wrong. file: the name of the file. put: makes it in a folder.

    stage: the kind that reads it. asked: of the data block beside the file. says: how the line
    begins, as a pattern.
    """

    name: str
    file: str
    put: Callable[[Path], object]
    stage: str
    asked: dict[str, Any]
    says: str


def write_data(folder: Path) -> None:
    """Put files into a case's folder that rows of the tables take for granted."""
    (folder / "a.jsonl").write_text(GOOD)
    (folder / "folder.jsonl").mkdir()
    (folder / "device.jsonl").symlink_to("/dev/zero")
    (folder / "mine.py").write_text(
        "def score(prompts, **rest):\n    return [0.0] * len(prompts)\n"
    )
    os.mkfifo(folder / "pipe")


def recipe_of(bad: BadData) -> str:
    """Return the recipe that reads a bad file."""
    block = json.dumps({"file": bad.file, **bad.asked})
    return _STAGES[bad.stage].replace("BLOCK", block)


def _of_contents(name: str, file: str, contents: bytes, stage: str, asked: Any = None) -> BadData:
    says = rf"(recipe\.yaml:\d+:\d+|{re.escape(file)}): ?|{re.escape(file)}:"
    put = lambda folder: (folder / file).write_bytes(contents)  # noqa: E731
    return BadData(name, file, put, stage, asked or {}, says)


def _of_a_put(name: str, file: str, put: Callable[[Path], object]) -> BadData:
    says = rf"recipe\.yaml:\d+:\d+: |{re.escape(file)}[: ]"
    return BadData(name, file, put, "tokenizer", {}, says)


def _known() -> list[BadData]:
    """Return the table of the unit tests, and each file of it gzipped."""
    found = list[BadData]()
    for number, (name, file, contents, asked, _) in enumerate(BAD):
        if contents is None:
            says = rf"recipe\.yaml:\d+:\d+: |{re.escape(file)}: "
            row = BadData(f"{name} {number}", file, lambda _: None, "tokenizer", asked, says)
            found.append(row)
            continue
        data = contents.encode() if isinstance(contents, str) else contents
        has_turns = any(word in data for word in (b"prompt", b"messages", b"conversations"))
        stage = "sft" if has_turns else "tokenizer"
        found.append(_of_contents(f"{name} {number}", file, data, stage, asked))
        if not file.endswith(".gz") and "." in file:
            packed = gzip.compress(data, 1)
            gzipped = f"{file}.gz"
            found.append(_of_contents(f"{name} {number} gzipped", gzipped, packed, stage, asked))
    return found


def _sparse(name: str) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        with (folder / name).open("wb") as stream:
            stream.truncate(_SPARSE_BYTES)

    return put


def _socket(folder: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.txt")
    os.fchdir(here)
    os.close(here)


def _table(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


_WITHOUT_END = [
    _of_a_put("a pipe", "pipe.txt", lambda folder: os.mkfifo(folder / "pipe.txt")),
    _of_a_put("a socket", "socket.txt", _socket),
    _of_a_put("a folder", "in.txt", lambda folder: (folder / "in.txt").mkdir()),
    *(
        _of_a_put(
            f"a link to {target}",
            file,
            lambda folder, file=file, target=target: (folder / file).symlink_to(target),
        )
        for file, target in (
            ("zero.txt", "/dev/zero"),
            ("random.jsonl", "/dev/urandom"),
            ("tty.csv", "/dev/tty"),
            ("null.txt", "/dev/null"),
            ("log.txt", "/proc/kmsg"),
            ("log.jsonl", "/proc/kmsg"),
            ("memory.txt", "/proc/self/mem"),
            ("sys.txt", "/sys/kernel/uevent_seqnum"),
            ("gone.txt", "nowhere"),
            ("itself.txt", "itself.txt"),
        )
    ),
    *(
        _of_a_put(f"3 GB of nothing, {name}", name, _sparse(name))
        for name in ("large.txt", "large.md", "large.jsonl", "large.csv", "large.json")
    ),
    _of_a_put("3 GB of nothing, gzipped by name", "large.txt.gz", _sparse("large.txt.gz")),
    _of_a_put("3 GB of nothing, Parquet", "large.parquet", _sparse("large.parquet")),
]
_OTHERS = [
    _of_contents("NUL in a text", "nul.txt", b"one\ntwo\0three\n", "tokenizer"),
    _of_contents("NUL in CSV", "nul.csv", b"text\na\0b\n", "tokenizer"),
    _of_contents("UTF-32", "wide.txt", "text".encode("utf-32"), "tokenizer"),
    _of_contents("UTF-16, big end first", "big.txt", b"\xfe\xff\0a\0b", "tokenizer"),
    _of_contents("Latin-1 in CSV", "old.csv", "text\nf\xfcr\n".encode("latin-1"), "tokenizer"),
    _of_contents("half a character at the end", "cut.txt", b"gr\xc3", "tokenizer"),
    _of_contents("deep objects", "deep.jsonl", b'{"text":' * 50_000, "tokenizer"),
    _of_contents("a deep text", "in.jsonl", b'{"text":' + b"[" * 900 + b"]" * 900 + b"}", "sft"),
    _of_contents("NaN", "nan.jsonl", b'{"text": NaN}', "tokenizer"),
    _of_contents("a gzip of a gzip", "in.txt.gz", gzip.compress(gzip.compress(b"a")), "tokenizer"),
    _of_contents("a picture", "image.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "tokenizer"),
    _of_contents("an archive", "in.jsonl", b"PK\x03\x04\x14\0\0\0", "tokenizer"),
    _of_contents("a web page", "page.jsonl", b"<!DOCTYPE html>\n<html></html>", "tokenizer"),
    _of_contents("no rows in Parquet", "no.parquet", _table(text=pa.array([], "str")), "tokenizer"),
    _of_contents("bytes in Parquet", "raw.parquet", _table(text=[b"a", b"b"]), "tokenizer"),
    _of_contents("lists in Parquet", "lists.parquet", _table(text=[["a"], ["b"]]), "tokenizer"),
    _of_contents("nulls in Parquet", "null.parquet", _table(text=["a", None]), "tokenizer"),
    *(
        _of_contents(f"Parquet cut at {cut}", "cut.parquet", _table(text=["a"] * 99)[:cut], "sft")
        for cut in (1, 4, 100, -1, -4, -8, -40)
    ),
    *(
        _of_contents(f"{name} in a pair", "pairs.jsonl", _line(**fields), "dpo")
        for name, fields in (
            ("null", {"prompt": "a", "chosen": None, "rejected": "b"}),
            ("a number", {"prompt": "a", "chosen": 1, "rejected": "b"}),
            ("no rejected one", {"prompt": "a", "chosen": "b"}),
            ("nothing asked", {"chosen": "a", "rejected": "b"}),
            ("equal responses", {"prompt": "a", "chosen": "b", "rejected": "b"}),
            ("an empty response", {"prompt": "a", "chosen": "", "rejected": "b"}),
            ("a margin below 0", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": -1}),
            ("a text for a margin", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": "1"}),
            ("improbability", {"prompt": "a", "chosen": "b", "rejected": "c", "probability": 0.1}),
            ("a list of two turns", {"prompt": "a", "chosen": [{}, {}], "rejected": []}),
        )
    ),
    *(
        _of_contents(f"{name} of a judged answer", "thumbs.jsonl", _line(**fields), "kto")
        for name, fields in (
            ("no label", {"prompt": "a", "completion": "b"}),
            ("a null for the label", {"prompt": "a", "completion": "b", "label": None}),
            ("a rating", {"prompt": "a", "completion": "b", "label": 4}),
            ("a word for the label", {"prompt": "a", "completion": "b", "label": "good"}),
            ("one label alone", {"prompt": "a", "completion": "b", "label": True}),
            ("an empty answer", {"prompt": "a", "completion": "", "label": False}),
            ("a number for the answer", {"prompt": "a", "completion": 1, "label": False}),
            ("no answer", {"messages": [{"role": "user", "content": "a"}], "label": True}),
            ("a margin", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 2}),
        )
    ),
    *(
        _of_contents(f"{name} in a prompt", "asks.jsonl", _line(**fields), "ppo")
        for name, fields in (
            ("null", {"prompt": None}),
            ("nothing", {"prompt": ""}),
            ("no column", {"question": "a"}),
            ("no user", {"messages": [{"role": "system", "content": "a"}]}),
            ("ids below 0", {"input_ids": [1, -1]}),
            ("ids that are texts", {"input_ids": ["a"]}),
            ("no ids", {"input_ids": []}),
        )
    ),
]
BAD_DATA = {each.name: each for each in (*_known(), *_WITHOUT_END, *_OTHERS)}
