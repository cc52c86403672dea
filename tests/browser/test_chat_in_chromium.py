"""The chat's page in a real browser: a link lets one tab in, a conversation outlives a reload.

Skipped where no Chromium is installed. Hostile texts are the subject of tests/claims/payloads.py.
"""

import pytest

from tests.chat_page import running_page
from tests.chromium import CHROMIUM
from tests.devtools import Tab

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
