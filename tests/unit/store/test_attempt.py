"""How far an unfinished stage is: written while it runs, read by whoever looks on."""

import json
import time
from dataclasses import replace

import pytest

from pipeline.files.names import ATTEMPT
from pipeline.run.course import Course, course_of
from pipeline.run.progress import silent
from pipeline.store.attempt import Attempt, Recorder, attempt_at, end_attempt, forget_attempt
from pipeline.store.store import Store

KEY = "0" * 64


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def working(store):
    found = store.working("sft", KEY)
    found.start_over()
    return found


def said(working):
    return json.loads((working.path / ATTEMPT).read_text())


def test_progress_is_passed_on_and_written_down_once_a_second_at_most(working):
    passed = []
    record = Recorder(working, lambda *given: passed.append(given))
    for step in range(1000):
        record("step", step, 1000, "loss 1")
    assert passed[-1] == ("step", 999, 1000, "loss 1")
    assert len(passed) == 1000
    assert said(working)["done"] < 999
    record("held-out pairs", 0, 3)
    assert said(working)["label"] == "held-out pairs"


def test_a_stage_goes_on_where_its_progress_cannot_be_written(working):
    record = Recorder(working, silent)
    working.path.joinpath(ATTEMPT).mkdir()
    record("step", 1, 2)


def test_what_runs_is_running_while_it_says_so_and_while_its_lock_is_held(store, working):
    Recorder(working, silent)("step", 3, 9)
    assert attempt_at(store, "sft", KEY).state == "running"
    old = {**said(working), "time_s": time.time() - 100}
    (working.path / ATTEMPT).write_text(json.dumps(old))
    assert attempt_at(store, "sft", KEY).state == "stopped"
    with store.lock("sft", KEY):
        assert attempt_at(store, "sft", KEY).state == "running"


def test_a_failed_attempt_says_why_until_the_next_one_begins(store, working):
    Recorder(working, silent)("step", 3, 9)
    end_attempt(working, "failed", "sft: the loss is not finite at step 4")
    found = attempt_at(store, "sft", KEY)
    assert (found.state, found.error, found.done) == (
        "failed",
        "sft: the loss is not finite at step 4",
        3,
    )
    forget_attempt(working)
    assert attempt_at(store, "sft", KEY).error == ""


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"state": "running", "other": 1}'])
def test_a_torn_word_is_passed_over(store, working, torn):
    (working.path / ATTEMPT).write_text(torn)
    assert attempt_at(store, "sft", KEY).state == "stopped"
    assert attempt_at(store, "dpo", KEY) is None


def test_the_time_left_is_told_by_the_rate_of_the_present_label():
    found = Attempt("running", "step", 30, 90, label_since_s=100.0, done_at_first=20, time_s=105.0)
    assert found.left_s == pytest.approx(30.0)
    assert replace(found, done=20).left_s is None
    assert replace(found, state="failed").left_s is None


def test_the_time_for_all_is_told_where_every_later_stage_was_timed():
    last = {"b": {"kind": "sft", "seconds": 5.0}, "c": {"kind": "evaluate", "seconds": 7.0}}
    kinds = {"a": "pretrain", "b": "sft", "c": "evaluate", "d": "dpo", "e": "evaluate"}
    assert course_of("a", ["a", "b", "c"], kinds, last) == Course(1, 3, 12.0)
    assert course_of("c", ["a", "b", "c"], kinds, last) == Course(3, 3, 0.0)
    assert course_of("a", ["a", "b", "d"], kinds, last) == Course(1, 3, None)
    assert course_of("a", ["a", "b", "e"], kinds, last) == Course(1, 3, 12.0), (
        "as others of its kind"
    )
