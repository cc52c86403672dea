"""What a run goes by when it takes up a killed one is in the checkpoint; the rest may be gone."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.errors import CorruptArtifactError
from pipeline.files.names import MANIFEST, METRICS
from pipeline.run.resume import Start, prepare
from pipeline.store import checkpoints
from pipeline.store.checkpoints import Made
from pipeline.store.store import Working

KEY = "a" * 64
EXECUTION = {"threads": 1, "training_args": {"logging_steps": 1}}
LINES = [f'{{"step": {step}, "loss": {1 / step}}}\n' for step in range(1, 7)]


@pytest.fixture
def working(tmp_path: Path) -> Working:
    """The folder of a stage that was killed at its sixth step, with checkpoints of 2 and 4."""
    return made(tmp_path / "killed")


def made(
    folder: Path,
    *,
    best: str | None = None,
    key: str = KEY,
    execution: Mapping[str, object] = EXECUTION,
) -> Working:
    working = Working(folder)
    working.out.mkdir(parents=True)
    working.request.write_text("{}")
    (working.out / "log.txt").write_text("what was logged\n")
    (working.out / "samples.jsonl").write_text("of a later moment\n")
    for step in (2, 4):
        (working.out / METRICS).write_text("".join(LINES[:step]))
        checkpoint = working.checkpoints / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights").write_bytes(bytes(range(step)))
        checkpoints.seal(
            checkpoint,
            step,
            6,
            made=Made(key, execution, is_exact=True),
            metrics=working.out / METRICS,
            best=checkpoint.with_name(best) if best else None,
        )
    (working.out / METRICS).write_text("".join(LINES))
    return working


def opened(working: Working) -> Start:
    return prepare(working, KEY, EXECUTION, resume_anyway=False)


def _nothing(working: Working) -> None:
    """Change nothing."""


def _metrics_cut(working: Working) -> None:
    (working.out / METRICS).write_text(LINES[0][:9])


def _metrics_of_nulls(working: Working) -> None:
    (working.out / METRICS).write_bytes(bytes(400))


def _metrics_gone(working: Working) -> None:
    (working.out / METRICS).unlink()


def _out_gone(working: Working) -> None:
    shutil.rmtree(working.out)


def _out_is_a_file(working: Working) -> None:
    shutil.rmtree(working.out)
    working.out.write_text("")


def _log_is_a_folder(working: Working) -> None:
    (working.out / "log.txt").unlink()
    (working.out / "log.txt").mkdir()


def _request_torn(working: Working) -> None:
    working.request.write_text('{"execution": {"thr')


def _request_gone(working: Working) -> None:
    working.request.unlink()


def _result_torn(working: Working) -> None:
    working.result.write_text('{"metrics"')


def _result_is_a_folder(working: Working) -> None:
    (working.result / "deep").mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_nothing, _metrics_cut, _metrics_of_nulls, _metrics_gone, _out_gone, _out_is_a_file),
        *(_log_is_a_folder, _request_torn, _request_gone, _result_torn, _result_is_a_folder),
    ],
)
def test_what_lies_beside_the_checkpoints_may_be_torn_or_gone(
    working: Working, spoil: Callable[[Working], None]
) -> None:
    spoil(working)
    start = opened(working)
    assert start.checkpoint == working.checkpoints / "checkpoint-4"
    assert start.is_exact
    assert start.notes == ()
    assert (working.out / METRICS).read_text() == "".join(LINES[:4])
    assert {path.name for path in working.out.iterdir()} <= {METRICS, "log.txt"}
    assert not working.result.exists()


@pytest.mark.parametrize("name", [MANIFEST, METRICS, "weights"])
def test_no_flipped_bit_of_a_checkpoint_passes(working: Working, name: str) -> None:
    newest = working.checkpoints / "checkpoint-4"
    content = (newest / name).read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (newest / name).write_bytes(flipped)
        found = checkpoints.newest_whole(working.checkpoints)
        assert found.step == 2, f"byte {place}"
        assert f"checkpoint-4: {name}" in found.passed_over[0]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _extra(path: Path) -> None:
    (path.parent / "model.safetensors.index.json").write_text("{}")


def _of_nulls(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("weights", Path.unlink, "weights is missing"),
        ("weights", _cut, "weights has 3 bytes instead of 4"),
        ("weights", _extra, "model.safetensors.index.json was not written with it"),
        (METRICS, Path.unlink, f"{METRICS} is missing"),
        (METRICS, _of_nulls, f"{METRICS} has other contents"),
        (MANIFEST, _empty, f"{MANIFEST} is empty"),
        (MANIFEST, _of_nulls, f"{MANIFEST} is empty"),
        (MANIFEST, _cut, f"{MANIFEST} is cut short"),
    ],
)
def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(
    working: Working, name: str, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(working.checkpoints / "checkpoint-4" / name)
    start = opened(working)
    assert start.checkpoint == working.checkpoints / "checkpoint-2"
    assert f"torn checkpoint: checkpoint-4: {said}" in start.notes[0]
    assert (working.out / METRICS).read_text() == "".join(LINES[:2])


def test_one_that_was_never_sealed_is_passed_over_without_a_word(working: Working) -> None:
    (working.checkpoints / "checkpoint-6").mkdir()
    start = opened(working)
    assert (start.checkpoint, start.notes) == (working.checkpoints / "checkpoint-4", ())
    assert not (working.checkpoints / "checkpoint-6").exists()


def test_a_checkpoint_under_the_name_of_another_step_is_not_taken_for_it(working: Working) -> None:
    shutil.rmtree(working.checkpoints / "checkpoint-4")
    (working.checkpoints / "checkpoint-2").rename(working.checkpoints / "checkpoint-4")
    with pytest.raises(CorruptArtifactError, match="checkpoint-4: it is the one of step 2"):
        opened(working)


def test_the_best_checkpoint_which_training_ends_with_is_verified_too(tmp_path: Path) -> None:
    working = made(tmp_path, best="checkpoint-2")
    _cut(working.checkpoints / "checkpoint-2" / "weights")
    said = "checkpoint-4: the best one so far, checkpoint-2, is not whole: weights has 1 bytes"
    with pytest.raises(CorruptArtifactError, match=said):
        opened(working)
    working = made(tmp_path / "gone", best="checkpoint-2")
    shutil.rmtree(working.checkpoints / "checkpoint-2")
    with pytest.raises(CorruptArtifactError, match="the best one so far, checkpoint-2, is gone"):
        opened(working)


def test_checkpoints_of_another_stage_are_refused_and_kept(tmp_path: Path) -> None:
    """Two working folders whose names were swapped."""
    working = made(tmp_path, key="b" * 64)
    with pytest.raises(CorruptArtifactError, match="holds checkpoints of another stage"):
        opened(working)
    assert checkpoints.newest_whole(working.checkpoints).step == 4


def test_without_checkpoints_a_stage_starts_over_whatever_lies_there(working: Working) -> None:
    shutil.rmtree(working.checkpoints)
    working.checkpoints.write_text("a file")
    _result_is_a_folder(working)
    start = opened(working)
    assert start.checkpoint is None
    assert list(working.out.iterdir()) == list(working.checkpoints.iterdir()) == []


def test_what_ran_otherwise_starts_over_and_an_inexact_run_stays_one(working: Working) -> None:
    now = {**EXECUTION, "threads": 2}
    start = prepare(working, KEY, now, resume_anyway=True)
    assert (start.is_exact, start.checkpoint) == (False, working.checkpoints / "checkpoint-4")
    start = prepare(working, KEY, now, resume_anyway=False)
    assert start.checkpoint is None
    assert "threads: 1 -> 2" in start.notes[-1]


def _launched(processes: int, zero: int | None = None, split: str = "moments") -> dict[str, object]:
    by = {"deepspeed": {"zero_optimization": {"stage": zero}}} if zero else {}
    return {**EXECUTION, "launch": {"processes": processes, "split": split, **by}}


@pytest.mark.parametrize(
    ("before", "now", "goes_on"),
    [
        (_launched(2), _launched(4), True),  # torch's parts are read by any number
        (_launched(2), _launched(2, split="weights"), False),
        (_launched(2, zero=2), _launched(4, zero=2), False),
        (_launched(2, zero=2), _launched(2, zero=1), False),
        (_launched(2, zero=2), _launched(2), False),
    ],
)
def test_what_is_asked_to_go_on_anyway_does_if_its_parts_can_be_read(
    tmp_path: Path, before: dict[str, object], now: dict[str, object], *, goes_on: bool
) -> None:
    working = made(tmp_path / "killed", execution=before)
    found = prepare(working, KEY, now, resume_anyway=True)
    assert (found.checkpoint is not None) is goes_on
    assert found.is_exact is not goes_on  # over again is exact
    assert ("starts over" in found.notes[0]) is not goes_on
