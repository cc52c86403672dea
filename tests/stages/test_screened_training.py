"""Training on rows that hold test items: what a run says, keeps and leaves out."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.forked import run_forked, warm

ASKED = [
    f"In the {n}th year of the {thing} a traveller from the {side} came to ask what it costs."
    for n, (thing, side) in enumerate(
        [("bridge", "north"), ("mill", "south"), ("garden", "valley"), ("clock", "coast")], 4
    )
]
MORE = """\
  more:
    stage: sft
    model: $base
    data: [{file: mine.jsonl, dedup: near}]
    batch_size: 4
    training_args: {learning_rate: 1e-3, logging_steps: 1, num_train_epochs: 1}
  answers: {stage: evaluate, model: $more, texts: {file: asked.jsonl}, limit: 50}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warm()
    folder = tmp_path_factory.mktemp("screened")
    rows = [f"Say the number {n} and the number {n * n + 7} to me." for n in range(20)]
    rows += [f"Listen! {text}" for text in ASKED[:3]] + [rows[3].upper(), rows[4]]
    lines = (json.dumps({"prompt": text, "completion": " Yes."}) for text in rows)
    (folder / "mine.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "asked.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in ASKED))
    return folder


def _run(folder: Path, *top: str) -> tuple[str, dict, Path]:
    text = TINY.replace("seed: 3\n", "\n".join(("seed: 3", *top)) + "\n") + MORE
    (folder / "tiny.yaml").write_text(text)
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    more = folder / "runs/tiny/more"
    return ended.output, json.loads((more / "artifact.json").read_text())["metrics"], more


def test_a_run_counts_and_lists_rows_that_hold_test_items_and_drops_them_when_told(folder: Path):
    said, metrics, more = _run(folder)
    words = "mine.jsonl: 3 of 23 rows hold test items"
    assert words in " ".join(said.split())
    assert metrics["rows"] == 23
    assert metrics["rows_repeated"] == 2
    assert metrics["rows_overlapping"] == 3
    assert (metrics["test_items_overlapping"], metrics["test_items_compared"]) == (3, 4)
    listed = [json.loads(line) for line in (more / "overlaps.jsonl").read_text().splitlines()]
    assert [each["row"] for each in listed] == [f"mine.jsonl:{n}" for n in (21, 22, 23)]

    said, metrics, _ = _run(folder, "decontaminate: drop")
    assert metrics["rows"] == 20
    assert metrics["rows_dropped_overlapping"] == 3

    # A model that is there is asked something new.
    (folder / "asked.jsonl").write_text(
        json.dumps({"text": "Say the number 5 and the number 32 to me."})
    )
    said, metrics, _ = _run(folder)
    assert "more           cached" in said
    assert "more: mine.jsonl: 1 of 23 rows hold test items" in " ".join(said.split())
