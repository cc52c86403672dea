"""The page of a `ppo` stage in a real browser: hostile texts stay text, nothing overlaps.

Skipped where no Chromium is installed.
"""

import pytest

from pipeline.report.html import run_of_folder, write
from tests.chromium import CHROMIUM, Nodes, assert_nothing_runs_or_sticks_out, chromium, look
from tests.hostile_texts import hostile
from tests.ppo_runs import write_ppo_run
from tests.report_runs import plain

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

LOOK = """
const box = (e) => e.getBoundingClientRect();
const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
const shut = (e) => e.closest("details:not([open])");
const plots = [...page.querySelectorAll("#rollouts .plot")].filter((e) => !shut(e)).map((plot) => ({
  name: plot.querySelector("strong").textContent,
  parts: [...plot.querySelectorAll("figcaption strong, figcaption .sub, svg.figure, .legend")]
    .map(box),
  ticks: [...plot.querySelectorAll("svg.figure text")].map(box),
  top: box(plot).top,
  svgTop: box(plot.querySelector("svg.figure")).top,
}));
found.plots = plots.length;
found.touching = plots.filter(({ parts }) =>
  parts.some((a, i) => parts.slice(i + 1).some((b) => overlap(a, b)))).map((p) => p.name);
found.crowded = plots.filter(({ ticks }) =>
  ticks.some((a, i) => ticks.slice(i + 1).some((b) => overlap(a, b)))).map((p) => p.name);
found.uneven = plots.filter((p) =>
  plots.some((q) => q.top === p.top && Math.abs(q.svgTop - p.svgTop) > 1)).map((p) => p.name);
const list = page.querySelector("#rollouts [data-browse]");
const rollout = list.querySelector("select[data-key=rollout]");
rollout.value = "45";
rollout.dispatchEvent(new Event("change"));
found.rollouts = [...new Set([...list.querySelectorAll(".response")]
  .filter((e) => e.offsetHeight > 0).map((e) => e.dataset.rollout))];
rollout.value = "";
rollout.dispatchEvent(new Event("change"));
list.querySelector("button[data-kind=cut]").click();
found.cutOnes = shown().map((e) => e.textContent.includes("not ended"));
list.querySelector("button[data-kind='']").click();
const text = list.querySelector("input");
text.value = "otters sleep? (3)";
text.dispatchEvent(new Event("input"));
found.searched = shown().length;
found.count = list.querySelector("output").textContent;
"""


def report(folder, told):
    folder.mkdir()
    run = run_of_folder(write_ppo_run(folder / "runs", told=told))
    return write(run, folder / "report.html")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ppo-reports")
    return report(folder / "plain", plain), report(folder / "hostile", hostile)


def test_a_browser_makes_no_other_nodes_of_hostile_texts_of_a_ppo_stage(tmp_path, pages):
    ordinary, attacked = (Nodes(chromium(tmp_path, page)).found for page in pages)
    assert len(ordinary) > 3_000
    assert attacked == ordinary


@pytest.mark.parametrize("width", [390, 1280])
def test_its_page_works_and_nothing_in_it_runs_overlaps_or_sticks_out(tmp_path, pages, width):
    found = look(tmp_path, pages[1], width, LOOK)
    assert_nothing_runs_or_sticks_out(found, width, name="rl")
    assert found["plots"] == 14
    assert (found["touching"], found["crowded"], found["uneven"]) == ([], [], [])
    assert found["rollouts"] == ["45"]
    assert found["cutOnes"]
    assert all(found["cutOnes"])
    assert (found["searched"], found["count"]) == (1, "1 of 1")
