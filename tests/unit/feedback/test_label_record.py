"""Decisions on disk: what was told to be saved is there, whatever killed the process."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.feedback.decisions import Decision, decisions_path, read_decisions
from pipeline.feedback.record import check_out, open_record

VERDICTS = ("first", "tie", "second", "skip", "second", "first")


def decision(number: int, verdict: Any = "first", showing: Any = 1, **changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "pair": f"key{number}",
        "showing": showing,
        "verdict": verdict,
        "labeller": "me",
        "when": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "sources": ["sampled", "sampled"],
        "prompt": f"prompt {number} é",
        "first": [{"role": "assistant", "content": f"one {number}"}],
        "second": [{"role": "assistant", "content": f"two {number}"}],
        "columns": {"source": "x", "topic": None},
    }
    return Decision(**{**fields, **changes})


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mine.jsonl"


def write(out: Path, *decisions: Decision) -> None:
    with open_record(out, "me") as record:
        for one in decisions:
            record.add(one)


def test_preferences_have_what_training_reads_and_nothing_of_ties_skips_and_second_times(
    out: Path,
) -> None:
    all_ = [decision(number, verdict) for number, verdict in enumerate(VERDICTS)]
    write(out, *all_, decision(0, "second", 2))
    kept = rows(out)
    assert [row["prompt"][7] for row in kept] == ["0", "2", "4", "5"]
    assert kept[0]["chosen"] == [{"role": "assistant", "content": "one 0"}]
    assert kept[1]["chosen"] == [{"role": "assistant", "content": "two 2"}]
    assert kept[1]["rejected"] == [{"role": "assistant", "content": "one 2"}]
    assert list(kept[0]) == [
        *("prompt", "chosen", "rejected", "source", "topic", "labeller", "when", "seconds")
    ]
    assert read_decisions(decisions_path(out)) == [*all_, decision(0, "second", 2)]


def test_a_kill_at_any_byte_loses_nothing_that_was_told_to_be_saved(out: Path) -> None:
    log = decisions_path(out)
    states: list[tuple[bytes, bytes, int]] = []
    told = [decision(number, verdict) for number, verdict in enumerate(VERDICTS)]
    with open_record(out, "me") as record:
        for number, one in enumerate(told):
            before = out.read_bytes() if out.exists() else b""
            log_before = log.read_bytes()
            record.add(one)
            line = log.read_bytes()[len(log_before) :]
            cuts = range(len(line))
            states += [(log_before + line[:cut], before, number) for cut in cuts]
            preference = out.read_bytes()[len(before) :] if out.exists() else b""
            now, cuts = log.read_bytes(), range(len(preference) + 1)
            states += [(now, before + preference[:cut], number + 1) for cut in cuts]
    assert len(states) > 1000
    for written, preferences, number in states[::37]:
        log.write_bytes(written)
        out.write_bytes(preferences)
        with open_record(out, "me") as record:
            assert record.decisions == told[:number]
            record.add(decision(9))
        assert read_decisions(log) == [*told[:number], decision(9)]
        wanted = [one for one in [*told[:number], decision(9)] if one.is_preference]
        assert [row["prompt"] for row in rows(out)] == [one.prompt for one in wanted]


def test_what_is_taken_back_leaves_the_preferences_and_stays_in_the_record(out: Path) -> None:
    write(out, decision(0), decision(1, "tie"))
    with open_record(out, "me") as record:
        assert record.take_back("now") == decision(1, "tie")
        assert record.take_back("now") == decision(0)
        assert out.read_bytes() == b""
        record.add(decision(0, "second"))
    assert [row["chosen"][0]["content"] for row in rows(out)] == ["two 0"]
    assert read_decisions(decisions_path(out)) == [decision(0, "second")]
    assert len(decisions_path(out).read_bytes().splitlines()) == 5


def test_a_kill_between_taking_back_and_the_preferences_is_put_right(out: Path) -> None:
    write(out, decision(0), decision(1))
    both = out.read_bytes()
    with open_record(out, "me") as record:
        record.take_back("now")
    out.write_bytes(both)
    with open_record(out, "me"):
        assert len(rows(out)) == 1


def test_one_process_writes_at_a_time(out: Path) -> None:
    with open_record(out, "me") as record:
        record.add(decision(0))
        with pytest.raises(PosttrainError, match=r"another `posttrain label` writes to it"):
            open_record(out, "me").__enter__()
    with open_record(out, "me"):
        pass


def test_a_session_without_a_decision_leaves_no_file(out: Path) -> None:
    with open_record(out, "me"):
        assert decisions_path(out).exists()
    assert list(out.parent.iterdir()) == []


def test_preferences_that_are_gone_are_written_anew(out: Path) -> None:
    write(out, decision(0), decision(1))
    before = out.read_bytes()
    out.unlink()
    write(out)
    assert out.read_bytes() == before


def test_what_others_wrote_is_never_written_over(out: Path) -> None:
    out.write_text('{"prompt": "mine", "chosen": "a", "rejected": "b"}\n')
    before = out.read_bytes()
    with pytest.raises(PosttrainError, match="is no file of `posttrain label`; move it away"):
        open_record(out, "me").__enter__()
    assert out.read_bytes() == before
    out.unlink()
    write(out, decision(0), decision(1), decision(2))
    edited = out.read_bytes().replace(b"one 1", b"ONE 1")
    out.write_bytes(edited)
    with pytest.raises(PosttrainError, match="was changed by hand; move it away"):
        open_record(out, "me").__enter__()
    assert out.read_bytes() == edited


def test_a_change_while_it_runs_stops_the_next_decision(out: Path) -> None:
    with open_record(out, "me") as record:
        record.add(decision(0))
        with out.open("a") as stream:
            stream.write("{}\n")
        with pytest.raises(PosttrainError, match="was changed while `posttrain label` runs"):
            record.add(decision(1))
        assert record.decisions == [decision(0)]
    assert read_decisions(decisions_path(out)) == [decision(0)]


def test_a_file_is_one_labellers(out: Path) -> None:
    write(out, decision(0))
    with pytest.raises(PosttrainError, match="holds the decisions of `me`; go on with --labeller"):
        open_record(out, "ann").__enter__()


def test_a_full_disk_leaves_neither_half_a_decision_nor_half_a_preference(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_record(out, "me") as record:
        record.add(decision(0))
        files = [decisions_path(out), out]
        before = [path.read_bytes() for path in files]
        real_write = os.write
        whole = len(decision(1).line())
        for allowed in (0, 10, whole, whole + 20):  # bytes: of the decision, then the preference
            left = [allowed]

            def write_some(descriptor: int, data: Any, left: list[int] = left) -> int:
                if left[0] <= 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                written = real_write(descriptor, bytes(data)[: left[0]])
                left[0] -= written
                return written

            monkeypatch.setattr(os, "write", write_some)
            with pytest.raises(InfrastructureError, match="the disk is full"):
                record.add(decision(1))
            monkeypatch.undo()
            assert [path.read_bytes() for path in files] == before
        record.add(decision(1))
    assert len(rows(out)) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "mine.decisions.jsonl:2: is no decision of `posttrain label`"),
        ('{"pair": "x"}', "mine.decisions.jsonl:2: is no decision of `posttrain label` (showing"),
        ("[" * 100_000, "mine.decisions.jsonl:2: is no decision of `posttrain label`"),
        (
            '{"taken_back": "other", "showing": 1, "when": "now"}',
            "mine.decisions.jsonl:2: takes back another decision",
        ),
        (decision(1).line().decode().replace("1.5", "NaN").strip(), "is no decision"),
    ],
)
def test_a_line_that_is_not_ours_is_named(out: Path, line: str, words: str) -> None:
    write(out, decision(0))
    with decisions_path(out).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(PosttrainError) as caught:
        open_record(out, "me").__enter__()
    assert words in str(caught.value)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.decisions.jsonl")
    for name, words in (
        ("mine.json", "is not NAME.jsonl"),
        ("mine.decisions.jsonl", "is not NAME.jsonl"),
        ("none/mine.jsonl", "there is no folder"),
        ("folder.jsonl", "is a folder"),
        ("pipe.jsonl", "is a pipe"),
    ):
        with pytest.raises(PosttrainError, match=words):
            check_out(tmp_path / name)
