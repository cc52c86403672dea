"""Prompts in files are those in memory, to the bit, for a trainer that cannot tell them apart."""

import json
from dataclasses import replace
from datetime import date, datetime, time, timezone
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.keeping import Keeping
from pipeline.config.references import Places
from pipeline.data.encoding.examples import IGNORED, encode_records
from pipeline.data.encoding.lengths import Limit
from pipeline.data.encoding.plain_values import NotPlainError, of_text, to_text
from pipeline.data.encoding.prompts import encode_prompts
from pipeline.data.kept_rows import KeptRows, Reading, RowKind, encode_kept
from pipeline.data.reading.records import PromptRow
from pipeline.data.row_kinds import PARTED_ANSWERS, prompts_asked
from pipeline.data.training_sources import Mixture
from pipeline.rewards.responses import ORIGIN
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.kept_prompts import KeptAnswers, KeptPrompts
from pipeline.rl.prompts import Given, Prompt, given_ids_of, ids_of, prompts_of
from tests.small_folders import small_tokenizer

LIMIT = Limit(40, "truncate", "left")
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"{n} " * (n % 30 + 1)}],
        "reference": str(n),
        "tags": ["a", {"n": n, "x": n / 3}],
        **({"only_some": None} if n % 2 else {}),
    }
    for n in range(300)
]
TEXTS = [{"prompt": f"say {n}", "reference": str(n)} for n in range(9)]


def _mixture(folder: Path, rows: list[Any], forms: Any = ("prompt",)) -> Mixture:
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    block = DataBlock.model_validate({"file": "rows.jsonl"})
    return Mixture([block], Places(folder), forms, seed=3)


def _keep(
    folder: Path, kind: RowKind[Any], mixture: Any, limit: Limit = LIMIT, told: Any = None
) -> KeptRows[Any]:
    keeping = Keeping(folder / "runs/store/.encoded", {"of": "these"})
    reading = Reading(mixture, lambda: [], ("prompt",), keeping)

    def tell(_: str, done: int, of_about: int) -> None:
        if told is not None:
            told.append(done)

    return encode_kept(kind, reading, small_tokenizer(), limit, may_be_none=True, tell=tell)


@pytest.mark.parametrize(("form", "rows"), [("chat", ROWS), ("chat", TEXTS), ("document", TEXTS)])
def test_prompts_in_files_are_those_in_memory_and_are_encoded_once(
    tmp_path: Path, form: Any, rows: list[Any]
) -> None:
    expected, report = encode_prompts(
        _mixture(tmp_path, rows), small_tokenizer(), limit=LIMIT, form=form
    )
    told: list[int] = []
    for _ in range(2):
        kept = _keep(tmp_path, prompts_asked(form, ""), _mixture(tmp_path, rows), told=told)
        assert [row.prompt() for row in kept.trained] == expected
        assert replace(kept.report, lengths=list(kept.report.lengths)) == replace(
            report, lengths=list(report.lengths)
        )
        assert len(told) == -(-len(rows) // 256)
    assert kept.report.metrics() == report.metrics()
    handed = [
        {**row.columns, ORIGIN: row.source, "input_ids": row.ids, "prompt": row.prompt}
        for row in expected
    ]
    args = GRPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, max_completion_length=4)
    ready = KeptPrompts(kept.trained)
    as_rows = prompts_of(handed, small_tokenizer(), args, 100)
    assert list(prompts_of(ready, small_tokenizer(), args, 100)) == as_rows
    assert ready[3:5] == as_rows[3:5]
    assert [list(each.columns) for each in ready] == [list(each.columns) for each in as_rows]
    assert list(ids_of(ready)) == list(ids_of(as_rows))
    assert list(given_ids_of(ready)) == list(given_ids_of(as_rows))


def test_another_form_and_other_tools_are_encoded_anew(tmp_path: Path) -> None:
    told: list[int] = []
    keep = partial(_keep, tmp_path, told=told)
    for number, kind in enumerate(
        (prompts_asked("chat", ""), prompts_asked("chat", "[]"), prompts_asked("document", "")), 1
    ):
        for _ in range(2):
            keep(kind, _mixture(tmp_path, TEXTS))
        assert len(told) == number


def test_a_prompt_that_is_too_long_for_the_trainer_or_padded_is_refused_as_in_memory(
    tmp_path: Path,
) -> None:
    args = GRPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, max_completion_length=90)
    kind = prompts_asked("chat", "")
    ready = KeptPrompts(_keep(tmp_path, kind, _mixture(tmp_path, ROWS)).trained)
    with pytest.raises(ValueError, match=r"of row \d+ has 40 tokens, more than 10; leave it out"):
        prompts_of(ready, small_tokenizer(), args, 100)
    padded = [{**row, "attention_mask": [1, n != 4]} for n, row in enumerate(TEXTS)]
    kept = _keep(tmp_path / "padded", kind, _mixture(tmp_path, padded))
    with pytest.raises(ValueError, match="row 4 is padded"):
        prompts_of(KeptPrompts(kept.trained), small_tokenizer(), args, None)


def test_a_row_with_a_value_that_no_text_has_is_counted(tmp_path: Path) -> None:
    class Picture:
        """What a reward function may be handed of a row."""

    rows = [PromptRow(f"r#{n}", (), f"say {n}", {"n": Picture() if n == 2 else n}) for n in (1, 2)]

    class Rows(list[PromptRow]):
        """Rows that are no file's."""

        shares: tuple[Any, ...] = ()
        has_conversations = False

        def likely_rows(self) -> int:
            return 2

    for _ in range(2):
        kept = _keep(tmp_path, prompts_asked("chat", ""), Rows(rows))
        assert kept.report.num_not_plain == 1
        assert kept.report.num_kept == 2


def test_parted_answers_in_files_are_those_of_whole_rows(tmp_path: Path) -> None:
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"{n} " * (n % 9 + 1)},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": "and?"},
                {"role": "assistant", "content": "no"},
            ]
        }
        for n in range(300)
    ]
    forms, limit = ("chat",), Limit(70, "drop")
    whole, report = encode_records(_mixture(tmp_path, chats, forms), small_tokenizer(), limit=limit)
    kept = _keep(tmp_path, PARTED_ANSWERS, _mixture(tmp_path, chats, forms), limit)
    assert kept.report.metrics() == report.metrics()
    tokenizer = small_tokenizer()
    ready = KeptAnswers(kept.trained, tokenizer)
    for prompt, row in zip(ready, whole, strict=True):
        first = next(n for n, label in enumerate(row.labels) if n and label != IGNORED)
        ids = row.input_ids[:first]
        assert prompt == Prompt(
            ids, tokenizer.decode(ids, skip_special_tokens=True), {}, prompt.given
        )
        assert isinstance(prompt.given, Given)
        assert prompt.given.own is not None
        learnt = [
            token
            for token, own in zip(prompt.given.token_ids, prompt.given.own, strict=True)
            if own
        ]
        assert learnt == [label for label in row.labels[1:] if label != IGNORED]
        assert prompt.given.own[-1]
    assert ready.whole_lengths().max() <= 70
    assert list(given_ids_of(ready)) == [each.given and each.given.token_ids for each in ready]


VALUES = [
    {"a": [1, 2.5, -0.0, 1e300, True, None, "\ud800", "é", {"b": ()}]},
    ("x", ("y", [b"\x00\xff"])),
    [datetime(2026, 1, 2, 3, 4, 5, 6), date(2026, 1, 2), time(3, 4)],  # noqa: DTZ001
    2**80,
    "\0",
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_comes_back_from_text_as_it_was(value: Any) -> None:
    back = of_text(to_text(value))
    assert back == value
    assert repr(back) == repr(value)


def test_what_would_come_back_otherwise_is_not_written() -> None:
    class Name(str):
        """A text of a class of its own."""

    for value in (Name("x"), {1: 2}, {"\0": "tuple"}, {3}, object(), [Name("y")]):
        with pytest.raises(NotPlainError):
            to_text(value)
    with pytest.raises(NotPlainError):
        to_text(datetime(2026, 1, 2, tzinfo=timezone.utc))  # noqa: UP017
    assert repr(of_text(to_text([nan]))) == "[nan]"
