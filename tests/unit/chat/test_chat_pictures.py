"""Replies that are pictures: found by the tasks that a model was trained on, and shown."""

import io
import json

import pytest
from rich.console import Console

from pipeline.chat.layout import Column, lay_out
from pipeline.chat.pictures import no_picture, pictures_of
from pipeline.chat.session import begin_answer
from pipeline.chat.settings import Settings
from pipeline.store.fingerprint import fingerprint
from pipeline.store.lineage import as_input
from pipeline.store.store import Store
from tests.chat_page import Running
from tests.unit.chat.test_chat_page import call

DRAWING = "aq" * 32
LEVELS = [[255, 0] * 4] * 8
ASKED = {
    "model": 0,
    "earlier": [],
    "prompt": "3",
    "settings": {"temperature": 0, "max_new_tokens": 4},
}


def trained_on(tmp_path, *tasks):
    """Return a model that was trained on tasks, as `chat` is handed it."""
    store = Store(tmp_path)
    identity = {"data": [{"task": {"task": name, "version": 1}} for name in tasks]}
    named = {"kind": "pretrain", "fingerprint": fingerprint(identity)}
    working = store.working(**named)
    working.out.mkdir(parents=True)
    empty = {name: {} for name in ("inputs", "properties", "metrics", "provenance")}
    record = {**named, "name": "base", "produces": "policy", "identity": identity, **empty}
    return as_input(store.publish(working, record=record), "base")


def test_replies_are_pictures_where_a_task_that_was_trained_on_says_so(tmp_path):
    pictures = pictures_of(trained_on(tmp_path, "arithmetic", "digits"))
    assert pictures(f" {DRAWING}") == LEVELS
    assert pictures("aq") is None
    assert pictures_of(trained_on(tmp_path, "arithmetic")) is no_picture


def test_a_task_that_is_gone_or_of_an_unknown_recipe_finds_none(tmp_path):
    source = trained_on(tmp_path, "digits(size=3)", "mine:Mine", "no_such_task")
    assert pictures_of(source) is no_picture
    assert pictures_of(source, tmp_path) is no_picture


def test_a_terminal_shows_the_picture_below_the_answer_once_it_is_there(document_model):
    answer = begin_answer(document_model, (), "3", Settings())
    answer.segments[0].text = f" {DRAWING}"
    column = Column("base", answer, is_document=True, pictures=lambda reply: LEVELS)
    console = Console(file=io.StringIO(), width=100)
    assert not any("▀" in line.plain for line in lay_out([column], console, 100).settled)
    column.is_over = True
    found = [line.plain.strip() for line in lay_out([column], console, 100).settled]
    assert found[-5:-1] == ["▀" * 8] * 4


@pytest.mark.enable_socket
def test_the_page_is_sent_the_picture_of_a_reply_that_is_one(make_model, socket_enabled):
    running = Running([make_model(form="document")])
    try:
        for found, kinds in ((None, set()), (LEVELS, {"picture"})):
            running.page.voices[0].side.pictures = lambda reply, found=found: found
            status, _, text = call(running, body=ASKED)
            lines = [json.loads(line) for line in text.splitlines()]
            assert status == 200
            assert {key for line in lines for key in line} & {"picture"} == kinds
        (picture,) = [line["picture"] for line in lines if "picture" in line]
        assert picture["source"].startswith("data:image/png;base64,")
        assert (picture["width_px"], picture["height_px"]) == (160, 160)
        assert "ended" in lines[-1]
    finally:
        running.stop()
