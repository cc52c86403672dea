"""The labelling page in a real browser: by keyboard alone, across a reload, in two tabs, attacked.

Skipped where no Chromium is installed.
"""

import json
import time

import pytest

from pipeline.feedback.decisions import decisions_path, read_decisions
from tests.chromium import CHROMIUM
from tests.claims.payload_rows import PAYLOADS
from tests.claims.payloads import acting
from tests.devtools import Tab
from tests.label_page import HOSTILE, RunningLabels, hard_rows, write_lines

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    pytest.mark.enable_socket,
]
IS_THERE = "typeof byId == 'function' && state && !isBusy"
# What is said of a page that nobody can use with a keyboard or a screen reader.
LOOK = """({
  wide: document.documentElement.scrollWidth,
  pwned: window.pwned ?? null,
  foreign: document.querySelectorAll("main img, main script, main b").length,
  unnamed: [...document.querySelectorAll("button, progress, [tabindex='0']")].filter((each) =>
    !(each.textContent.trim() || each.ariaLabel)).length,
  loaded: performance.getEntriesByType("resource").map((each) => new URL(each.name).host)
    .filter((host) => host !== location.host),
})"""


def press(tab: Tab, key: str) -> None:
    """Press a key as a person does: no sooner than the page takes it for a decision."""
    time.sleep(0.16)
    tab.key(key)
    tab.wait_for("!isBusy")


def opened(tab: Tab, page: RunningLabels) -> None:
    tab.open(page.page.door.address)
    tab.wait_for(IS_THERE)


def check_looks(tab: Tab, width: int) -> None:
    found = tab.run(LOOK)
    assert found["wide"] <= width
    assert (found["pwned"], found["foreign"], found["unnamed"]) == (None, 0, 0)
    assert found["loaded"] == []


def test_thirty_pairs_by_keyboard_alone_with_a_reload_in_the_middle(tmp_path, socket_enabled):
    rows = write_lines(tmp_path / "mine.jsonl", hard_rows())
    with RunningLabels(rows) as page, Tab(tmp_path, width=390) as tab:
        opened(tab, page)
        shown, pressed = [], []
        number = 0
        while tab.run("state.pair !== null"):
            pair = tab.run("state.pair")
            shown.append((pair["first"], pair["second"]))
            check_looks(tab, 390)
            assert tab.run("byId('text-first').textContent || 'empty'").startswith(
                tab.run("visible(state.pair.first).slice(0, 20).split('\\n')[0] || 'empty'")
            )
            key = "12t1s2"[number % 6]
            press(tab, key)
            pressed.append(key)
            number += 1
            if number == 11:  # one was wrong: once back, and once more
                press(tab, "u")
                assert tab.run("state.pair.first") == shown.pop()[0]
                assert pressed.pop() == key
                number -= 1
                press(tab, "t")
                shown.append((pair["first"], pair["second"]))
                pressed.append("t")
                number += 1
            if number == 15:
                tab.run("window.old = true; location.reload()")
                tab.wait_for(f"window.old === undefined && {IS_THERE}")
                assert tab.run("state.done") >= 15
        assert "Every pair is decided" in tab.run("byId('over').innerText")
        check_looks(tab, 390)
    verdicts = {"1": "first", "2": "second", "t": "tie", "s": "skip"}
    decisions = read_decisions(decisions_path(page.work.preferences))
    assert [one.verdict for one in decisions] == [verdicts[key] for key in pressed]
    assert sum(one.showing == 1 for one in decisions) == 30
    assert HOSTILE in {text for pair in shown for text in pair}
    assert all(one.seconds > 0.1 for one in decisions)


def test_two_tabs_do_not_decide_a_pair_twice(tmp_path, socket_enabled):
    rows = write_lines(tmp_path / "mine.jsonl", hard_rows())
    with RunningLabels(rows) as page:
        with Tab(tmp_path / "a") as one, Tab(tmp_path / "b") as other:
            opened(one, page)
            opened(other, page)
            assert one.run("state.pair.name") == other.run("state.pair.name")
            press(one, "1")
            press(other, "2")
            assert "another tab was faster" in other.run("byId('said').textContent")
            assert other.run("state.done") == 1
            press(other, "2")
            press(one, "1")
            press(one, "t")
            assert one.run("state.done") == 3
            check_looks(one, 1280)
        assert [each.verdict for each in page.record.decisions] == ["first", "second", "tie"]


def test_a_page_whose_command_has_ended_says_so_and_the_next_command_goes_on(
    tmp_path, socket_enabled
):
    rows = write_lines(tmp_path / "mine.jsonl", hard_rows())
    with Tab(tmp_path) as tab:
        with RunningLabels(rows) as page:
            opened(tab, page)
            press(tab, "1")
        press(tab, "2")
        assert "not saved: the command has ended" in tab.run("byId('said').textContent")
        with RunningLabels(rows) as page:
            opened(tab, page)
            assert tab.run("state.done") == 1
            press(tab, "u")
            assert tab.run("state.done") == 0


DRAW = """
draw({ done: 0, total: 1, last: null, pair: {
  name: TEXT, prompt: [{ role: TEXT, text: TEXT }], first: TEXT, second: TEXT } });
say(TEXT, true);
[[...new Set([...document.querySelectorAll("*")].map((e) =>
   [e.tagName, ...e.getAttributeNames()].join(" ")))].sort(),
 window.pwned ?? null, document.title, document.body.innerText,
 document.documentElement.scrollWidth]
"""


def test_what_attacks_a_page_is_text_on_this_one(tmp_path, socket_enabled):
    rows = write_lines(tmp_path / "mine.jsonl", hard_rows())
    with RunningLabels(rows) as page, Tab(tmp_path, width=390) as tab:
        opened(tab, page)
        tab.run("act = () => {}")  # what is drawn here is nothing to decide
        plain = tab.run(f"{{{DRAW.replace('TEXT', json.dumps('a text'))}}}")
        fenced = tab.run(f"{{{DRAW.replace('TEXT', json.dumps('```'))}}}")
        for payload in PAYLOADS:
            found = tab.run(f"{{{DRAW.replace('TEXT', json.dumps(payload))}}}")
            assert set(found[0]) <= {*plain[0], *fenced[0]}
            assert (found[1], found[2]) == (None, plain[2])
            assert acting(found[3]) == set()
            assert found[4] <= 390


def test_a_key_that_is_held_or_belongs_to_the_browser_decides_nothing(tmp_path, socket_enabled):
    rows = write_lines(tmp_path / "mine.jsonl", hard_rows())
    with RunningLabels(rows) as page, Tab(tmp_path) as tab:
        opened(tab, page)
        time.sleep(0.16)
        tab.run("document.onkeydown(new KeyboardEvent('keydown', {key: '2', repeat: true}))")
        tab.run("document.onkeydown(new KeyboardEvent('keydown', {key: 't', ctrlKey: true}))")
        tab.run("document.onkeydown(new KeyboardEvent('keydown', {key: 'q', code: 'KeyT'}))")
        assert tab.run("state.done") == 0
        tab.run("document.onkeydown(new KeyboardEvent('keydown', {key: '&', code: 'Digit1'}))")
        tab.wait_for("state.done == 1 && !isBusy")
        assert [each.verdict for each in page.record.decisions] == ["first"]
