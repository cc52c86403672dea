"""Which rows a stage sees of a source."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.task import Example, Split, Task
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading.hub import stream, streamed_rows
from pipeline.data.reading.sources import ROWS_PER_TASK, read_rows, sha256
from pipeline.errors import InfrastructureError, PosttrainError
from reward.verdict import Verdict


class Counting(Task):
    """Says the number after another; has 3,000 examples a split."""

    name = "counting"
    version = 1
    kind = "skill"
    summary = "the number after another"

    def examples(self, split: Split) -> Iterator[Example]:
        for number in range(3_000):
            text = f"What follows {number} ({split})?"
            answer = str(number + 1)
            yield Example(text, text, f"It is {answer}.", answer, f"After {number}", f" {answer}")

    def documents(self, seed: int) -> Iterator[str]:
        for number in range(5):
            yield f"After {number + seed} comes {number + seed + 1}."

    def verify(self, response: str, reference: str) -> Verdict:
        return Verdict(float(reference in response))


PEOPLE = [{"prompt": f"Name {n}?", "completion": f" Müller {n}"} for n in range(200)]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, {})


def write(path: Path, data: bytes | str) -> None:
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def as_jsonl(found: list[dict]) -> str:
    return "".join(json.dumps(each) + "\n" for each in found)


def test_every_file_format_gives_the_same_rows(places: Places) -> None:
    few = PEOPLE[:3]
    write(places.base / "a.jsonl", "\ufeff" + as_jsonl(few))
    write(places.base / "a.json", json.dumps(few, indent=2, ensure_ascii=False))
    write(places.base / "a.csv", "prompt,completion\r\n" + "".join(
        f'"{each["prompt"]}",{each["completion"]}\r\n' for each in few))  # fmt: skip
    pq.write_table(pa.Table.from_pylist(few), places.base / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        plain = places.base / name
        write(places.base / f"{name}.gz", gzip.compress(plain.read_bytes()))
        for each in (name, f"{name}.gz"):
            assert [row.fields for row in read_rows(DataBlock(file=each), places)] == few, each


def test_a_row_knows_its_line(places: Places) -> None:
    write(places.base / "a.jsonl", '{"text": "a"}\n\n{"text": "b"}')
    write(places.base / "a.json", '[\n {"text": "a"},\n {"text":\n "b"}, {"text": "c"}\n]')
    write(places.base / "a.csv", 'text,n\n"a\nb",1\nc,2\n')
    write(places.base / "a.md", "one\n\n---\n\ntwo\n---\n\n---\nthree")

    def lines(name: str, separator: str | None = None) -> list[str]:
        block = DataBlock(file=name, separator=separator)
        return [row.where.removeprefix(name) for row in read_rows(block, places)]

    assert lines("a.jsonl") == [":1", ":3"]
    assert lines("a.json") == [":2", ":3", ":4"]
    assert lines("a.csv") == [":2", ":4"]
    assert lines("a.md", "---") == [":1", ":5", ":9"]


def test_text_is_one_document_or_what_the_separator_divides(places: Places) -> None:
    write(places.base / "a.txt", "one\r\n<end>\r\n\r\ntwo\r\n<end>\r\n")
    whole = [row.fields["text"] for row in read_rows(DataBlock(file="a.txt"), places)]
    assert whole == ["one\n<end>\n\ntwo\n<end>\n"]
    block = DataBlock(file="a.txt", separator="<end>\n")
    assert [row.fields["text"] for row in read_rows(block, places)] == ["one", "two"]


def test_the_two_sides_of_a_holdout_divide_the_rows_and_duplicates_fall_together(
    places: Places,
) -> None:
    write(places.base / "a.jsonl", as_jsonl(PEOPLE + PEOPLE[::-1]))
    block = DataBlock(file="a.jsonl", holdout=0.2)
    trained = {row.fields["prompt"] for row in read_rows(block, places)}
    held = [row.fields["prompt"] for row in read_rows(block, places, held_out=True)]
    assert trained.isdisjoint(held)
    assert trained | set(held) == {each["prompt"] for each in PEOPLE}
    assert len(held) == 2 * len(set(held))
    assert 20 <= len(set(held)) <= 60


def test_a_row_stays_on_its_side_when_others_are_added(places: Places) -> None:
    write(places.base / "a.jsonl", as_jsonl(PEOPLE[:100]))
    write(places.base / "b.jsonl", as_jsonl(PEOPLE[::-1]))
    before, after = (
        {row.fields["prompt"] for row in read_rows(DataBlock(file=name, holdout=0.2), places)}
        for name in ("a.jsonl", "b.jsonl")
    )
    assert before < after


def test_the_end_of_a_text_is_held_out_from_a_paragraph_on(places: Places) -> None:
    text = "\n\n".join(f"Paragraph {n}.\nIt has two lines." for n in range(100))
    write(places.base / "a.txt", text)
    block = DataBlock(file="a.txt", holdout=0.25)
    (trained,) = read_rows(block, places)
    (held,) = read_rows(block, places, held_out=True)
    assert trained.fields["text"] + held.fields["text"] == text
    assert held.fields["text"].startswith("Paragraph 7")
    assert text.splitlines()[int(held.where.split(":")[1]) - 1].startswith("Paragraph 7")


def test_skip_divides_a_source_without_a_row_in_common(places: Places) -> None:
    block = DataBlock(task="counting", rows=4)
    first = [row.fields["messages"][0]["content"] for row in read_rows(block, places, Counting())]
    after = block.model_copy(update={"skip": 4})
    then = [row.fields["messages"][0]["content"] for row in read_rows(after, places, Counting())]
    assert first[0] == "What follows 0 (train)?"
    assert then == [f"What follows {number} (train)?" for number in range(4, 8)]
    apart = [
        row.fields["messages"][0]["content"]
        for row in read_rows(after, places, Counting(), held_out=True)
    ]
    assert apart[0] == "What follows 0 (validation)?"  # what no training reads is not divided
    beyond = block.model_copy(update={"skip": 3_000})
    with pytest.raises(PosttrainError, match="the first 3,000"):
        list(read_rows(beyond, places, Counting()))
    with pytest.raises(ValueError, match="`dedup`"):
        DataBlock(task="counting", skip=1, dedup="exact")


def test_rows_are_the_first_ones(places: Places) -> None:
    write(places.base / "a.jsonl", as_jsonl(PEOPLE))
    found = list(read_rows(DataBlock(file="a.jsonl", rows=3), places))
    assert [row.where for row in found] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]


def test_a_task_gives_documents_or_demonstrations(places: Places) -> None:
    block = DataBlock(task="counting")
    documents = [
        row.fields for row in read_rows(block, places, Counting(), kind="documents", seed=7)
    ]
    assert documents[0] == {"text": "After 7 comes 8."}
    first, *rest = read_rows(block, places, Counting())
    assert first.where == "task:counting#1"
    assert [each["content"] for each in first.fields["messages"]] == [
        "What follows 0 (train)?",
        "It is 1.",
    ]
    assert len(rest) + 1 == ROWS_PER_TASK
    more = read_rows(DataBlock(task="counting", rows=2_500), places, Counting())
    assert len(list(more)) == 2_500


def test_training_on_a_test_split_is_refused(places: Places) -> None:
    block = DataBlock(task="counting", split="test")
    with pytest.raises(PosttrainError, match="test split is for evaluation only"):
        next(read_rows(block, places, Counting()))
    with pytest.raises(PosttrainError, match="did you mean `validation`"):
        next(read_rows(DataBlock(task="counting", split="validate"), places, Counting()))


def test_the_hash_of_a_file_is_that_of_its_bytes(places: Places) -> None:
    data = os.urandom(300_000)
    write(places.base / "a.parquet", data)
    assert sha256(places.base / "a.parquet") == hashlib.sha256(data).hexdigest()


HUB = """
import sys
from pathlib import Path

from datasets import load_dataset
from pipeline.data.reading.sources import read_rows
from pipeline.errors import InfrastructureError
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places

# A copy as a run with a network leaves it: owner___name/config/version/commit.
cache, commit = Path(sys.argv[1]), sys.argv[2]
made = load_dataset("json", data_files=sys.argv[3], split="train")
folder = Path(made.cache_files[0]["filename"]).parent
for each in folder.glob("json*"):
    each.rename(each.with_name(each.name.replace("json", "data")))
info = folder / "dataset_info.json"
text = info.read_text().replace('"json"', '"data"').replace(folder.parts[-3], "default")
info.write_text(text)
target = cache / "me___data" / "default" / "0.0.0" / commit
target.parent.mkdir(parents=True)
folder.rename(target)

for name, revision in (("me/data", commit), ("me/data", "f" * 40), ("me/other", commit)):
    try:
        for row in read_rows(DataBlock(hub=name, revision=revision), Places(Path(), {})):
            print(row.where, row.fields)
    except InfrastructureError as error:
        print(error.exit_code, error)
"""


def test_without_a_network_the_hub_is_read_from_its_local_copy_of_that_revision(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.jsonl", '{"text": "one"}\n{"text": "two"}\n')
    cache = str(tmp_path / "cache")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": cache}
    commit = "0123456789abcdef0123456789abcdef01234567"
    done = subprocess.run(
        [sys.executable, "-c", HUB, cache, commit, str(tmp_path / "a.jsonl")],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, other_revision, unknown = done.stdout.splitlines()
    assert first == "me/data#1 {'text': 'one'}"
    assert second == "me/data#2 {'text': 'two'}"
    assert other_revision.startswith(
        "3 me/data: the hub cannot be reached, and the local copy is of revision 0123456789ab"
    )
    assert unknown.startswith("3 me/other: the hub cannot be reached")


@pytest.mark.parametrize("written", ["parquet", "jsonl"])
def test_a_stream_has_the_rows_of_its_files_in_their_order(tmp_path: Path, written: str) -> None:
    rows = [{"text": f"document {number}", "number": number} for number in range(700)]
    for number in range(2):
        part, path = rows[number * 350 : number * 350 + 350], tmp_path / f"{number}.{written}"
        if written == "parquet":
            pq.write_table(pa.Table.from_pylist(part), path)
        else:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in part))
    streamed = list(stream(str(tmp_path), None, "train", None))
    assert [row.fields for row in streamed] == rows
    assert streamed[-1].where == f"{tmp_path}#700"
    with pytest.raises(PosttrainError, match="Bad split"):
        next(stream(str(tmp_path), None, "valid", None))
    with pytest.raises(PosttrainError, match="there is a folder of this name here"):
        streamed_rows(str(tmp_path), None, "train", None)


def test_a_stream_that_cannot_be_reached_is_told_apart_from_a_local_copy() -> None:
    with pytest.raises(
        InfrastructureError, match=r"cannot be reached.*a stream leaves no local copy"
    ):
        next(streamed_rows("me/data", None, "train", "a" * 40))
