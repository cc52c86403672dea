"""The report in a real browser: hostile texts stay text, the filter works, nothing is too wide.

Skipped where no Chromium is installed.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from pipeline.report.html import run_of_folder, write
from tests.hostile_texts import hostile
from tests.report_runs import plain, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

# Looks at a report from outside, in a frame of a given width: the report's own policy lets no other
# script run in it. What it found goes into its own page.
LOOK = """<!doctype html><meta charset="utf-8"><iframe id="frame" width="WIDTH" height="900"
 src="REPORT"></iframe><pre id="found"></pre><script>
const frame = document.getElementById("frame");
frame.onload = () => {
  const page = frame.contentDocument, inside = frame.contentWindow;
  const shown = () => [...page.querySelectorAll(".sample")].filter((e) => e.offsetHeight > 0);
  const found = {
    title: page.title,
    flag: inside.pwned ?? null,
    ownTitle: document.title,
    scripts: page.scripts.length,
    listening: [...page.querySelectorAll("*")].filter((e) =>
      e.getAttributeNames().some((name) => name.startsWith("on"))).length,
    loaded: inside.performance.getEntriesByType("resource").map((e) => e.name),
    wide: page.documentElement.scrollWidth,
    cut: [...page.querySelectorAll("main *")].filter((e) => {
      const box = e.getBoundingClientRect();
      return box.width && box.right > WIDTH + 1 && !e.closest(".scroll, .sr");
    }).map((e) => e.className.baseVal ?? e.className).slice(0, 5),
    font: inside.getComputedStyle(page.querySelector("h1")).fontWeight,
    first: shown().length,
    count: page.getElementById("filter-count").textContent,
  };
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
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def chromium(tmp_path, page, *options):
    """Return a page's DOM after its scripts have run, as HTML."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions"]
    command += ["--allow-file-access-from-files", "--virtual-time-budget=4000", *options]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return done.stdout.decode("utf-8", errors="replace")


def report(folder, told):
    folder.mkdir()
    return write(run_of_folder(write_run(folder / "runs", told=told)), folder / "report.html")


def look(tmp_path, page, width):
    text = LOOK.replace("WIDTH", str(width)).replace("REPORT", page.resolve().as_uri())
    outer = tmp_path / f"look-{width}.html"
    outer.write_text(text, encoding="utf-8")
    dumped = chromium(tmp_path, outer)
    (found,) = re.findall(r'<pre id="found">(.+?)</pre>', dumped, re.DOTALL)
    unescaped = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(unescaped)


class Nodes(HTMLParser):
    """The elements of a page in order, each with the names of its attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *sorted(name for name, _ in attributes)))


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
    found = look(tmp_path, pages[1], width)
    assert found["flag"] is None
    assert found["title"].startswith("example")
    assert found["title"].endswith(": report")
    assert found["ownTitle"] == ""
    assert (found["scripts"], found["listening"], found["loaded"]) == (1, 0, [])
    assert found["font"] == "700", "the style is not applied"
    assert (found["wide"] <= width, found["cut"]) == (True, [])
    assert (found["first"], found["count"]) == (20, "20 of 120")
    assert found["searched"] == [True]
    assert found["lost"]
    assert set(found["lost"]) == {"lost"}
    assert found["more"] == 40
