"""Work of several processes comes back in order, and nothing of them stays behind."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.encoding import parts
from pipeline.data.encoding.examples import ExampleEncoder
from pipeline.data.encoding.forks import in_order
from pipeline.data.encoding.lengths import Limit
from pipeline.data.encoding.parts import encode_into
from pipeline.data.encoding.row_table import RowWriter
from pipeline.data.training_sources import Mixture
from pipeline.errors import InfrastructureError, PosttrainError
from tests.small_folders import small_tokenizer


def _work(item: int) -> tuple[int, bytes]:
    time.sleep(0.002 * (item % 3))  # they do not end in the order in which they began
    if item == 30:
        raise PosttrainError("row 30", "is wrong", "drop it")
    if item == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return item, bytes([item]) * (100_000 + item)  # more than a pipe holds


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Assert that no process stays, running or as a zombie, beside those that were there before."""
    before = _children()
    yield
    assert _children() <= before


def _children() -> set[str]:
    """Return the processes that this one has begun; a library's may be among them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_what_comes_of_work_is_in_order(processes: int):
    found = list(in_order(range(25), _work, processes))
    assert [number for number, _ in found] == list(range(25))
    assert all(content == bytes([n]) * (100_000 + n) for n, content in found)


def test_an_error_comes_in_its_turn_and_ends_all():
    seen: list[int] = []
    with pytest.raises(PosttrainError, match="row 30: is wrong; drop it"):
        seen.extend(number for number, _ in in_order(range(25, 60), _work, 3))
    with pytest.raises(InfrastructureError, match="was killed"):
        list(in_order(range(35, 60), _work, 3))


def test_processes_end_with_whoever_gives_up_on_them():
    found = in_order(range(25), _work, 2)
    assert next(found)[0] == 0
    found.close()


def _encode(folder: Path, rows: int, processes: int) -> tuple[bytes, Any]:
    (folder / "rows.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"say {n}", "completion": f" {n} " * (n % 40 + 1)}) + "\n"
            for n in range(1, rows)
        )
    )
    blocks = [DataBlock.model_validate({"file": "rows.jsonl"})]
    rows_read = Mixture(blocks, Places(folder), ("prompt_completion",), seed=1)
    encoder = ExampleEncoder(small_tokenizer(), Limit(60))
    told: list[int] = []
    with RowWriter(encoder.kind, folder / "rows.arrow") as writer:
        totals = encode_into(writer, rows_read, encoder, processes=processes, on_part=told.append)
    assert told == [*range(64, len(totals.lengths), 64), len(totals.lengths)]
    return (folder / "rows.arrow").read_bytes(), totals


def _encode_with_two(folder: Path, queue: Any) -> None:
    queue.put(_encode(folder, 2_000, 2)[0])


def test_several_processes_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 64)
    alone = _encode(tmp_path, 2_000, 1)
    assert _encode(tmp_path, 2_000, 3) == alone
    # A process of a pool may have no children of `multiprocessing`, and has these.
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    daemon = context.Process(target=_encode_with_two, args=(tmp_path, queue), daemon=True)
    daemon.start()
    assert queue.get(timeout=100) == alone[0]
    daemon.join()


def test_a_bad_row_is_named_whoever_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(ExampleEncoder, "part", _refuse_long(ExampleEncoder.part))
    with pytest.raises(PosttrainError, match=r"rows\.jsonl:1700: is the one"):
        _encode(tmp_path, 2_000, 2)


def _refuse_long(part: Any) -> Any:
    def refuse(self: ExampleEncoder, records: Any) -> Any:
        for record in records:
            if record.where == "rows.jsonl:1700":
                raise PosttrainError(record.where, "is the one")
        return part(self, records)

    return refuse
