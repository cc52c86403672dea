"""`dedup: exact | near`: which rows repeat an earlier one."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.field_types import DataForm
from pipeline.config.references import Places
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.data_blocks import read_records

STORY = (
    "Mira found a grey stone by the river. It was warm, although the morning was cold, and when "
    "she put it into her pocket it began to hum. She walked home faster than she had ever walked, "
    "and laid it on the window sill."
)
FORMS: dict[str, tuple[DataForm, ...]] = {
    "text": ("text",),
    "chat": ("chat", "prompt_completion"),
    "pair": ("preference",),
    "prompt": ("prompt",),
}


def texts(*said: str) -> list[dict[str, Any]]:
    return [{"text": each} for each in said]


def qa(prompt: str, completion: str) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion}


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def kept(folder: Path, data: list[dict[str, Any]], dedup: str, form: str = "text", **more: Any):
    """Return the numbers of the rows that are left."""
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    block = DataBlock.model_validate({"file": "x.jsonl", "dedup": dedup, **more})
    found = read_records(block, Places(folder), FORMS[form])
    return [int(record.where.rpartition(":")[2]) for record in found]


@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_the_first_of_equal_rows_stays(tmp_path: Path, dedup: str):
    rows = texts(STORY, "Another.", STORY, "Another.", "A third.", STORY)
    assert kept(tmp_path, rows, dedup) == [1, 2, 5]


NEARLY = {
    "wrapped anew": STORY.replace(". ", ".\n\n"),
    "in other case and punctuation": STORY.upper().replace(",", ""),
    "in one word": STORY.replace("pocket", "satchel"),
}


@pytest.mark.parametrize("how", NEARLY)
def test_near_rows_are_left_out_by_near_and_not_by_exact(tmp_path: Path, how: str):
    assert kept(tmp_path, texts(STORY, NEARLY[how]), "exact") == [1, 2]
    assert kept(tmp_path, texts(STORY, NEARLY[how]), "near") == [1]


def test_short_rows_are_no_copies_of_one_another(tmp_path: Path):
    # They have no shingle, or the same words: DataFlow#526, text-dedup#77, data-juicer#1051.
    rows = texts(
        "cat", "dog", "cat", "?", "!", "3 + 4", "3 - 4", "x > 0", "x < 0", "\u732b", "\u72ac"
    )
    assert kept(tmp_path, rows, "near") == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_question_answered_otherwise_is_no_copy(tmp_path: Path):
    ask = f"Does this end well? {STORY}"
    rows = [qa(ask, " yes"), qa(ask, " no"), qa(ask.lower(), " yes"), qa("Is it long?", " yes")]
    assert kept(tmp_path, rows, "near", "chat") == [1, 2, 4]


def test_a_pair_whose_answers_change_places_is_no_copy(tmp_path: Path):
    other = "I would rather not go on with this story, since I do not know what happens next in it."
    rows = [pair("Go on.", STORY, other), pair("Go on.", other, STORY)]
    assert kept(tmp_path, [*rows, rows[0]], "near", "pair") == [1, 2]
    said = [{**rows[0], "margin": 1.0}, {**rows[0], "margin": 2.0}, {**rows[0], "margin": 1.0}]
    assert kept(tmp_path, said, "exact", "pair") == [1, 2]


def test_a_system_prompt_that_all_rows_share_makes_no_copies(tmp_path: Path):
    system = {"role": "system", "content": f"{STORY} {STORY}"}
    rows = [
        {
            "messages": [
                system,
                {"role": "user", "content": f"What is number {name}?"},
                {"role": "assistant", "content": "That I cannot say."},
            ]
        }
        for name in ("one", "two", "three", "two")
    ]
    assert kept(tmp_path, rows, "near", "chat") == [1, 2, 3]


def test_prompts_are_compared_by_their_texts(tmp_path: Path):
    rows = [{"prompt": STORY, "id": 1}, {"prompt": STORY, "id": 2}, {"prompt": "Hi."}]
    assert kept(tmp_path, rows, "exact", "prompt") == [1, 3]


def test_copies_do_not_fall_on_both_sides_of_a_holdout(tmp_path: Path):
    # As in OpenTextShield#194, where 7% of a test set were copies of training rows.
    said = [
        STORY.replace("Mira", f"Girl {n // 3}").replace("stone", f"thing {n // 3}")
        for n in range(90)
    ]
    rows = texts(*(text if n % 3 else text.upper() for n, text in enumerate(said)))
    assert _on_both_sides(tmp_path, rows, "exact") > 0
    assert _on_both_sides(tmp_path, rows, "near") == 0


def test_rows_counts_what_is_left(tmp_path: Path):
    rows = texts("a", "a", "b", "b", "c", "c", "d")
    assert kept(tmp_path, rows, "exact", rows=3) == [1, 3, 5]


def test_check_counts_what_is_left_out(tmp_path: Path):
    kept(tmp_path, texts(STORY, STORY, NEARLY["in one word"], "Other."), "near")
    block = DataBlock.model_validate({"file": "x.jsonl", "dedup": "near"})
    counts = check_data(block, Places(tmp_path), ("text",))
    assert counts.num_dropped_by_reason == {"it repeats an earlier row": 2}
    assert "4 rows (text)" in str(counts)


def test_without_it_nothing_is_left_out(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text(f"{json.dumps({'text': STORY})}\n" * 3)
    block = DataBlock.model_validate({"file": "x.jsonl"})
    assert len(list(read_records(block, Places(tmp_path), ("text",)))) == 3


def _on_both_sides(folder: Path, rows: list[dict[str, Any]], dedup: str) -> int:
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    block = DataBlock.model_validate({"file": "x.jsonl", "dedup": dedup, "holdout": 0.4})
    sides = [
        {
            str(record.text).lower()
            for record in read_records(block, Places(folder), ("text",), held_out=held)
        }
        for held in (False, True)
    ]
    return len(sides[0] & sides[1])
