"""How surely and how fast test items are found in rows (pipeline/data/screening/overlaps.py).

With POSTTRAIN_REAL_DATA items and rows are published ones: GSM8K, HumanEval, MBPP and IFEval,
planted in and held against GSM8K's training rows, Alpaca and HH. Without it they are those of our
tasks, and nothing is edited: items of one template are an edit away from each other.
"""

import gzip
import json
import os
import random
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.data.reading.words import words_of
from pipeline.data.screening.overlaps import FEWEST_WORDS, Item, Overlaps
from tests.benchmarks.result import Result

_MEGABYTES_A_SECOND = 4.0  # on one core; half of what two machines gave
_FOUND = 0.99
_CLEAN_ROWS = 10_000
# A shorter item is found where it is a whole text; edited, it leaves what others have by chance.
_FEWEST_WORDS = {"edited": 13, "filler": FEWEST_WORDS}
_BATCH = 2_000
_EDIT = 0.05  # of the words, one at least


def planted_items_found() -> Result:
    """Plant every item in six ways, and hold rows against them that have none."""
    items, rows = _items_and_rows()
    index = Overlaps([Item("", str(n), (text,)) for n, text in enumerate(items)])
    flagged = _flagged(index, rows[:_CLEAN_ROWS])
    rng = random.Random(1)
    recalls: dict[str, float] = {}
    for name, plant in _WAYS.items():
        if "edited" in name and _real_data() is None:
            continue
        fewest = next((words for way, words in _FEWEST_WORDS.items() if way in name), 0)
        planted = [
            (number, [plant(text, rng, rows)])
            for number, text in enumerate(items)
            if len(words_of(text)) >= fewest
        ]
        found = index.find([row for _, row in planted])
        same = [
            any(items[each.item] == items[number] for each in overlaps)
            for (number, _), overlaps in zip(planted, found, strict=True)
        ]
        recalls[name] = round(sum(same) / len(same), 4)
    details = {"items": len(items), "found": recalls, "clean_rows": len(rows[:_CLEAN_ROWS])}
    details |= {"clean_rows_flagged": flagged, "real_data": bool(_real_data())}
    is_valid = flagged == 0 and len(rows) >= _CLEAN_ROWS
    return Result("planted_items_found", min(recalls.values()), _FOUND, details, is_valid)


def overlap_megabytes() -> Result:
    """Time the rows through the index, in this process alone."""
    items, rows = _items_and_rows()
    started = time.process_time()
    index = Overlaps([Item("", str(n), (text,)) for n, text in enumerate(items)])
    built_s = time.process_time() - started
    megabytes = sum(len(text.encode()) for row in rows for text in row) / 1e6
    started = time.process_time()
    _flagged(index, rows)
    speed = megabytes / (time.process_time() - started)
    details = {"megabytes": round(megabytes, 1), "items": len(items)}
    details |= {"megabytes_a_second": round(speed, 1), "index_seconds": round(built_s, 2)}
    return Result("overlap_megabytes", speed / _MEGABYTES_A_SECOND, 1.0, details)


def _flagged(index: Overlaps, rows: list[list[str]]) -> int:
    starts = range(0, len(rows), _BATCH)
    return sum(bool(held) for at in starts for held in index.find(rows[at : at + _BATCH]))


Plant = Callable[[str, random.Random, list[list[str]]], str]


def _edited(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    for _ in range(max(1, round(len(words) * _EDIT))):
        at = rng.randrange(len(words))
        kind = rng.randrange(3)
        if kind == 0:
            words[at] = rng.choice(("something", "roughly", "blue", "eleven"))
        elif kind == 1 and len(words) > 3:
            del words[at]
        else:
            words.insert(at, rng.choice(("really", "also", "just")))
    return " ".join(words)


def _filled(text: str, rng: random.Random, rows: list[list[str]]) -> str:
    before, after = (rng.choice(rows)[-1] for _ in range(2))
    return f"{before} {text} {after}"


def _wrapped(text: str, width: int = 40) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _eight_words_a_line(text: str) -> str:
    words = text.split()
    return "\n".join(" ".join(words[at : at + 8]) for at in range(0, len(words), 8))


_WAYS: dict[str, Plant] = {
    "verbatim": lambda text, rng, rows: text,
    "other case and punctuation": lambda text, rng, rows: text.upper().replace(",", " -- "),
    "eight words a line": lambda text, rng, rows: _eight_words_a_line(text),
    "inside filler": _filled,
    "lightly edited": lambda text, rng, rows: _edited(text, rng),
    "edited, wrapped, inside filler": lambda text, rng, rows: _filled(
        _wrapped(_edited(text, rng).lower()), rng, rows
    ),
}


def _real_data() -> Path | None:
    folder = os.environ.get("POSTTRAIN_REAL_DATA")
    return Path(folder) if folder else None


def _items_and_rows() -> tuple[list[str], list[list[str]]]:
    """Return test items, each once, and rows of which none holds one of them."""
    folder = _real_data()
    items, rows = _generated() if folder is None else _published(folder)
    fresh = random.Random(0)
    fresh.shuffle(rows)
    return list(dict.fromkeys(items)), rows


def _generated() -> tuple[list[str], list[list[str]]]:
    from eval.tasks import load

    items = [item.prompt for name in ("logic", "physics") for item in load(name).test_items(400)]
    rows: list[list[str]] = []
    for name in ("facts", "code", "sql", "stories", "diff", "translation"):
        rows += [[text] for text in islice(_documents(name), 2_000)]
    return items, rows


def _documents(name: str) -> Iterator[str]:
    from eval.tasks import load

    for seed in range(100):
        yield from load(name).documents(seed)


def _published(folder: Path) -> tuple[list[str], list[list[str]]]:
    mbpp = _lines(folder / "mbpp/mbpp.jsonl")
    items = [row["question"] for row in _lines(folder / "gsm8k/test.jsonl")]
    items += [row["prompt"] for row in _lines(folder / "humaneval/HumanEval.jsonl.gz")]
    items += [row["prompt"] for row in _lines(folder / "ifeval/input_data.jsonl")]
    items += [row["text"] for row in mbpp if 11 <= row["task_id"] <= 510]
    rows = [[row["question"], row["answer"]] for row in _lines(folder / "gsm8k/train.jsonl")]
    alpaca = json.loads((folder / "instructions/alpaca_en_demo.json").read_text(encoding="utf-8"))
    rows += [[f"{row['instruction']}\n\n{row['input']}", row["output"]] for row in alpaca]
    rows += [[row["chosen"]] for row in _lines(folder / "hh_harmless/test.jsonl.gz")]
    return items, rows


def _lines(path: Path) -> list[dict[str, Any]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
