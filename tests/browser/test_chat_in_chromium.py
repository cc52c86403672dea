"""The chat's page in a real browser: a link lets one tab in, a conversation outlives a reload.

Skipped where no Chromium is installed. Hostile texts are the subject of tests/claims/payloads.py.
"""

from dataclasses import replace

import pytest

from pipeline.models.language import wrap
from pipeline.tools.use import with_tools
from tests.chat_page import Running, running_page
from tests.chromium import CHROMIUM
from tests.devtools import Tab
from tests.talking_models import calculator_tool, question, talking_model, talking_tokenizer

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    pytest.mark.enable_socket,
]
IS_THERE = "typeof byId == 'function' && document.querySelectorAll('#models > div').length == 2"
ASK = """
byId("settings").elements.max_new_tokens.value = 12;
byId("prompt").value = "What is 3 + 4, and why?";
byId("ask").requestSubmit();
"""


def test_a_link_lets_one_tab_in_whose_conversation_outlives_a_reload(tmp_path, socket_enabled):
    with running_page() as page, Tab(tmp_path, width=390) as tab:
        link = page.address
        tab.open(link)
        tab.wait_for(IS_THERE)
        assert "#" not in tab.run("location.href")
        tab.run(ASK)
        tab.wait_for("exchanges.length == 1 && !asking")
        said = tab.run("exchanges[0].sides.map((side) => [side.took.tokens, side.error ?? null])")
        assert all(0 < tokens <= 12 for tokens, _ in said)
        assert all(error is None for _, error in said)
        assert tab.run("document.documentElement.scrollWidth") <= 390
        tab.run("window.old = true; location.reload()")
        tab.wait_for(f"window.old === undefined && {IS_THERE}")
        assert tab.run("exchanges.length") == 1
        tab.run("sessionStorage.clear()")
        tab.open(link + "x")
        tab.wait_for("document.readyState == 'complete' && document.querySelector('.bad')")
        assert "this link is void" in tab.run("document.querySelector('.bad').textContent")


def test_what_a_tool_answers_stands_apart_and_does_nothing(tmp_path, socket_enabled):
    tokenizer = talking_tokenizer()
    model = wrap(talking_model(tokenizer), tokenizer, name="talker", form="chat")
    hostile = "<img src=x onerror=window.pwned=1>\u202e" + "long" * 25
    tool = replace(calculator_tool(), function=lambda expression: hostile)
    running = Running([with_tools(model, [tool], max_turns=2)])
    try:
        with Tab(tmp_path, width=390) as tab:
            tab.open(running.page.address)
            tab.wait_for("typeof byId == 'function' && document.querySelector('#models > div')")
            assert "may call calculator" in tab.run("byId('models').textContent")
            tab.run("byId('settings').elements.temperature.value = 0")
            tab.run("byId('settings').elements.max_new_tokens.value = 320")
            tab.run(f"byId('prompt').value = {question('47 * 35')!r}")
            tab.run("byId('ask').requestSubmit()")
            tab.wait_for("exchanges.length == 1 && !asking")
            shown = tab.run("document.querySelector('.answer .tool').textContent")
            assert shown.startswith("→ calculator: <img src=x onerror")
            assert "\\u202e" in shown
            assert tab.run("window.pwned ?? null") is None
            assert tab.run("document.querySelectorAll('img').length") == 0
            assert tab.run("document.documentElement.scrollWidth") <= 390
            reply = tab.run("exchanges[0].sides[0].reply")
            assert reply == tab.run("exchanges[0].sides[0].parts.at(-1).text")
            assert tab.run("exchanges[0].sides[0].parts.length") == 3
    finally:
        running.stop()
