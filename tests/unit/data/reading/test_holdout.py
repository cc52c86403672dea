"""Pairs with one prompt fall on one side of `holdout`, however their source writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.data_blocks import read_records
from pipeline.data.reading.records import PreferenceRow

PAIRS = [(n, k) for n in range(60) for k in range(3)]


def _turns(n: int, answer: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"Question {n}?"},
        {"role": "assistant", "content": answer},
    ]


def _answers(n: int, k: int) -> tuple[str, str]:
    return f"It is {k} or {n}.", f"It may be {k}, who knows."


def _texts(n: int, k: int) -> dict[str, Any]:
    chosen, rejected = _answers(n, k)
    return {"prompt": f"Question {n}?", "chosen": chosen, "rejected": rejected}


def _implicit(n: int, k: int) -> dict[str, Any]:
    chosen, rejected = _answers(n, k)
    return {"chosen": _turns(n, chosen), "rejected": _turns(n, rejected)}


FORMS: dict[str, tuple[Callable[[int, int], dict[str, Any]], dict[str, str]]] = {
    "prompt and answers": (_texts, {}),
    "with a score and an id": (
        lambda n, k: {**_texts(n, k), "score_chosen": k, "id": 3 * n + k},
        {},
    ),
    "under other names": (
        lambda n, k: {f"my_{key}": value for key, value in _texts(n, k).items()},
        {key: f"my_{key}" for key in ("prompt", "chosen", "rejected")},
    ),
    "as conversations that begin alike": (_implicit, {}),
    "as UltraFeedback": (
        lambda n, k: {
            **_implicit(n, k),
            "prompt": f"Question {n}?",
            "messages": _turns(n, "Well."),
            "score_rejected": k / 7,
        },
        {},
    ),
    "as conversations with a score": (
        lambda n, k: {**_implicit(n, k), "score_chosen": 10 * n + k},
        {},
    ),
    "as Alpaca's": (
        lambda n, k: {
            "instruction": f"Question {n}?",
            "input": "",
            "chosen": _answers(n, k)[0],
            "rejected": _answers(n, k)[1],
            "model": f"model {k}",
        },
        {},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_prompt_is_on_both_sides(tmp_path: Path, form: str):
    make, columns = FORMS[form]
    rows = (json.dumps(make(n, k)) for n, k in PAIRS)
    (tmp_path / "pairs.jsonl").write_text("".join(f"{row}\n" for row in rows))
    given = {"file": "pairs.jsonl", "holdout": 0.3, "columns": columns}
    trained, held_out = (_prompts(tmp_path, given, held_out=held) for held in (False, True))
    assert len(trained) + len(held_out) == len(PAIRS)
    assert set(trained).isdisjoint(held_out)
    assert 30 < len(held_out) < 80


def test_the_split_of_plain_pairs_is_what_it_was(tmp_path: Path):
    rows = (json.dumps(_texts(n, 0)) for n in range(12))
    (tmp_path / "pairs.jsonl").write_text("".join(f"{row}\n" for row in rows))
    held_out = _prompts(tmp_path, {"file": "pairs.jsonl", "holdout": 0.3}, held_out=True)
    assert held_out == ["Question 2?", "Question 8?", "Question 9?"]


def _prompts(folder: Path, given: dict[str, Any], *, held_out: bool) -> list[str]:
    found = read_records(
        DataBlock.model_validate(given), Places(folder), ("preference",), held_out=held_out
    )
    rows = [row for row in found if isinstance(row, PreferenceRow)]
    return [row.text[0] if row.text else row.prompt[-1].content for row in rows]
