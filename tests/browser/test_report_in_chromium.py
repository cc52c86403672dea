"""The report in a real browser: hostile texts stay text, the filter works, nothing is too wide.

Skipped where no Chromium is installed.
"""

import pytest

from pipeline.report.html import run_of_folder, write
from tests.chromium import CHROMIUM, Nodes, assert_nothing_runs_or_sticks_out, chromium, look
from tests.hostile_texts import hostile
from tests.report_runs import plain, write_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

FILTER = """
found.first = shown().length;
found.count = page.getElementById("filter-count").textContent;
const text = page.getElementById("filter-text");
text.value = "Number 17";
text.dispatchEvent(new Event("input"));
found.searched = shown().map((e) => e.textContent.includes("number 17"));
text.value = "";
page.querySelector("button[data-kind=lost]").click();
found.lost = shown().map((e) => e.dataset.kind);
page.querySelector("button[data-kind='']").click();
page.getElementById("more").click();
found.more = shown().length;
"""


def report(folder, told):
    folder.mkdir()
    return write(run_of_folder(write_run(folder / "runs", told=told)), folder / "report.html")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return report(folder / "plain", plain), report(folder / "hostile", hostile)


def test_a_browser_makes_no_other_nodes_of_hostile_texts(tmp_path, pages):
    ordinary, attacked = (Nodes(chromium(tmp_path, page)).found for page in pages)
    assert len(ordinary) > 3_000
    assert attacked == ordinary


@pytest.mark.parametrize("width", [390, 1280])
def test_the_hostile_report_works_and_nothing_in_it_runs_or_sticks_out(tmp_path, pages, width):
    found = look(tmp_path, pages[1], width, FILTER)
    assert_nothing_runs_or_sticks_out(found, width, name="example")
    assert (found["first"], found["count"]) == (20, "20 of 120")
    assert found["searched"] == [True]
    assert found["lost"]
    assert set(found["lost"]) == {"lost"}
    assert found["more"] == 40
