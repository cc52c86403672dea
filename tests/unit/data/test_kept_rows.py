"""Rows in files are those in memory, encoded once for whoever reads the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.keeping import Keeping
from pipeline.config.references import Places
from pipeline.data.encoding.examples import IGNORED, encode_records
from pipeline.data.encoding.lengths import Limit
from pipeline.data.encoding.pair_tables import first_labelled, label_columns, whole_sequences
from pipeline.data.encoding.pairs import encode_pairs
from pipeline.data.encoding.row_table import dataset_of
from pipeline.data.encoding.unpaired import encode_unpaired
from pipeline.data.kept_rows import KeptRows, Reading, RowKind, encode_kept
from pipeline.data.mixing import mix_rows
from pipeline.data.reading.records import is_conversation
from pipeline.data.row_kinds import ANSWERS, EXAMPLES, PAIRS
from pipeline.data.screening.evaluation_items import Evaluation
from pipeline.data.screening.screen import Screen
from pipeline.data.training_sources import Mixture, row_sources
from pipeline.errors import PosttrainError
from tests.small_folders import small_tokenizer

LIMIT = Limit(60, "truncate")
CHATS = [
    {"messages": [{"role": "user", "content": f"{n} " * n}, {"role": "assistant", "content": "y"}]}
    for n in range(1, 41)
]
TEXTS = [{"prompt": f"say {n}", "completion": f" {n}<|end|>"} for n in range(300)]
PREFERENCES = [
    {"prompt": f"q{n % 7}", "chosen": f"good {n}", "rejected": "bad" * (n % 30), "margin": n % 3}
    for n in range(1, 300)
]
UNLABELLED = [{k: v for k, v in row.items() if k != "margin"} for row in PREFERENCES]
KINDS = {
    "examples": (EXAMPLES, encode_records, ("chat", "prompt_completion"), [CHATS, TEXTS]),
    "pairs": (PAIRS, encode_pairs, ("preference",), [PREFERENCES, PREFERENCES[:9]]),
    "answers": (ANSWERS, encode_unpaired, ("unpaired_preference", "preference"), [UNLABELLED]),
}


def _write(folder: Path, sources: list[Any]) -> list[DataBlock]:
    for number, rows in enumerate(sources):
        lines = (json.dumps(row) for row in rows)
        (folder / f"{number}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return [DataBlock.model_validate({"file": f"{n}.jsonl"}) for n in range(len(sources))]


def _keep(
    folder: Path,
    kind: RowKind[Any],
    forms: Any,
    blocks: list[DataBlock],
    *,
    reads: str = "these",
    limit: Limit = LIMIT,
    template: str | None = None,
    told: list[int] | None = None,
) -> KeptRows[Any]:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    keeping = Keeping(folder / "runs/store/.encoded", {"of": reads})
    mixture = Mixture(blocks, Places(folder), forms, seed=3)
    reading = Reading(mixture, lambda: [], forms, keeping)

    def tell(_: str, done: int, of_about: int) -> None:
        assert of_about >= done
        if told is not None:
            told.append(done)

    return encode_kept(kind, reading, tokenizer, limit, may_be_none=True, tell=tell)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("weights", [(None, None), (1.0, 2.0)])
def test_rows_in_files_are_those_in_memory_and_are_encoded_once(
    tmp_path: Path, name: str, weights: tuple[float | None, float | None]
):
    kind, encode, forms, sources = KINDS[name]
    blocks = [
        block.model_copy(update={"weight": weight})
        for block, weight in zip(_write(tmp_path, sources), weights, strict=False)
    ]
    mixed, shares = mix_rows(row_sources(blocks, Places(tmp_path), forms), seed=3)
    expected, report = encode(mixed, small_tokenizer(), limit=LIMIT)
    if kind is EXAMPLES:
        expected = [replace(row, labels=[IGNORED, *row.labels[1:]]) for row in expected]
    told: list[int] = []
    for _ in range(2):
        kept = _keep(tmp_path, kind, forms, blocks, told=told)
        assert list(kept.trained) == expected
        assert kept.trained[-3:] == expected[-3:]
        assert kept.trained[len(expected) // 2] == expected[len(expected) // 2]
        assert kept.trained.lengths.tolist() == [row.length for row in expected]
        assert list(kept.trained.names) == [row.where for row in expected]
        assert replace(kept.report, lengths=list(kept.report.lengths)) == replace(
            report, lengths=list(report.lengths)
        )
        assert kept.shares == shares
        assert kept.has_conversations == any(map(is_conversation, mixed))
        (tmp_path / "0.jsonl").write_text("{}")  # from now on nothing is read
        assert len(told) == -(-len(mixed) // 256)


def test_other_rows_limits_and_templates_are_encoded_anew(tmp_path: Path):
    kind, _, forms, sources = KINDS["examples"]
    blocks = _write(tmp_path, sources)
    first = _keep(tmp_path, kind, forms, blocks)
    assert list(_keep(tmp_path, kind, forms, blocks, limit=Limit(9, "truncate")).trained) != list(
        first.trained
    )
    other = small_tokenizer().chat_template.replace("m['content']", "'>' + m['content']")
    changed = _keep(tmp_path, kind, forms, blocks, template=other)
    assert changed.trained[5] != first.trained[5]
    (tmp_path / "0.jsonl").write_text(json.dumps(CHATS[3]) + "\n")
    assert len(_keep(tmp_path, kind, forms, blocks, reads="others").trained) == 301
    assert len(_keep(tmp_path, kind, forms, blocks).trained) == len(first.trained)


def test_other_code_and_other_libraries_encode_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kind, _, forms, sources = KINDS["examples"]
    blocks = _write(tmp_path, sources)
    told: list[int] = []
    for made_with, times in (("this", 1), ("this", 1), ("another", 2)):
        monkeypatch.setattr(
            "pipeline.data.kept_rows.made_with", lambda made_with=made_with: {"code": made_with}
        )
        kept = _keep(tmp_path, kind, forms, blocks, told=told)
        assert len(told) == times * -(-len(kept.trained) // 256)


def test_columns_of_pairs_are_what_their_rows_say(tmp_path: Path):
    kind, _, forms, sources = KINDS["pairs"]
    pairs = _keep(tmp_path, kind, forms, _write(tmp_path, sources)).trained
    whole = dataset_of(whole_sequences(pairs), label_columns(pairs))
    assert whole["chosen_ids"][:] == [pair.prompt_ids + pair.chosen_ids for pair in pairs]
    assert whole["rejected_ids"][:] == [pair.prompt_ids + pair.rejected_ids for pair in pairs]
    assert whole["margin"][:] == [pair.margin for pair in pairs]
    assert whole["row"][:] == list(range(len(pairs)))
    assert whole.column_names == ["chosen_ids", "rejected_ids", "row", "margin"]
    assert first_labelled(pairs) == [0]
    assert pairs.longest("rejected_ids") == max(len(pair.rejected_ids) for pair in pairs)


def test_what_a_screen_found_is_known_without_the_rows(tmp_path: Path):
    text = "In the fourth year of the bridge a traveller from the north came to ask the price"
    rows = [{"prompt": f"{n}?", "completion": f" {text if n in (3, 5) else n}"} for n in range(9)]
    blocks = _write(tmp_path, [rows, [{"text": text}]])
    asked = Evaluation("judge", texts=(blocks[1],), limit=10)
    keeping = Keeping(tmp_path / "runs/store/.encoded", {"of": "these"}, {"with": "that"})
    found: list[Any] = []
    for _ in range(2):
        screen = Screen("warn", [asked], blocks[:1], Places(tmp_path))
        mixture = Mixture(blocks[:1], Places(tmp_path), ("prompt_completion",), screen, seed=1)
        reading = Reading(mixture, lambda: [], ("prompt_completion",), keeping)
        reading.screen(screen, on_row=lambda: None)
        screen.write(tmp_path)
        found.append((screen.metrics(), (tmp_path / "overlaps.jsonl").read_text()))
        (tmp_path / "0.jsonl").write_text("{}")
    assert found[0][0]["rows_overlapping"] == 2
    assert found[0] == found[1]


def test_what_streams_is_read_once_as_far_as_it_is_asked_for_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import datasets

    folder = tmp_path / "hub"
    folder.mkdir()
    _write(folder, [TEXTS[:200]])
    (folder / "1.jsonl").write_text("this is no JSON\n")
    asked: list[Any] = []
    load = datasets.load_dataset

    def from_folder(name: str, *_: Any, split: str, streaming: bool, **__: Any) -> Any:
        asked.append((name, split, streaming))
        return load(str(folder), split=split, streaming=streaming, cache_dir=str(tmp_path / "c"))

    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    block = DataBlock(hub="me/data", streaming=True, rows=150, revision="a" * 40)
    kind, _, forms, _ = KINDS["examples"]
    for _ in range(2):
        kept = _keep(tmp_path, kind, forms, [block])
        assert len(kept.trained) == 150
        assert kept.trained[149].where == "me/data#150"
    assert asked == [("me/data", "train", True)]
    assert not [*(tmp_path / "c").rglob("*.arrow")]  # no copy on the disk
    with pytest.raises(PosttrainError, match="me/data: ") as raised:
        _keep(tmp_path, kind, forms, [block.model_copy(update={"rows": 201})], reads="more")
    assert "\n" not in str(raised.value)
