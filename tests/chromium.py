"""A report opened in Chromium, looked at from outside; nodes of a page in order."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Looks at a report from outside, in a frame of a given width: the report's own policy lets no other
# script run in it. What it found goes into its own page.
_LOOK = """<!doctype html><meta charset="utf-8"><iframe id="frame" width="WIDTH" height="900"
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
  };
  SCRIPT
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


def look(tmp_path, page, width, script):
    """Return what a report looks like at a width; script adds to `found`, and may use `shown`."""
    text = _LOOK.replace("SCRIPT", script)
    text = text.replace("WIDTH", str(width)).replace("REPORT", page.resolve().as_uri())
    outer = tmp_path / f"look-{width}.html"
    outer.write_text(text, encoding="utf-8")
    dumped = chromium(tmp_path, outer)
    (found,) = re.findall(r'<pre id="found">(.+?)</pre>', dumped, re.DOTALL)
    unescaped = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(unescaped)


def assert_nothing_runs_or_sticks_out(found, width, *, name):
    """Check what `look` found: title and style are the report's own, and nothing is too wide."""
    assert found["flag"] is None
    assert found["title"].startswith(name)
    assert found["title"].endswith(": report")
    assert found["ownTitle"] == ""
    assert (found["scripts"], found["listening"], found["loaded"]) == (1, 0, [])
    assert found["font"] == "700", "the style is not applied"
    assert (found["wide"] <= width, found["cut"]) == (True, [])


class Nodes(HTMLParser):
    """The elements of a page in order, each with the names of its attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *sorted(name for name, _ in attributes)))
