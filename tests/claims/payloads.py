"""G9: nothing that others write becomes anything but text where it is shown.

A payload goes into every field at once, beside its usual text: what is shown then has the nodes,
attributes and addresses that it has without payloads, and no character that acts on a terminal. A
field is a place in the code that writes one, an attempt is a payload in a field.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import yaml

from tests import chromium, ppo_runs, report_runs
from tests.claims.claim import Case, Claim, Outcome
from tests.claims.payload_rows import PAYLOADS
from tests.claims.payload_surfaces import (
    card_of,
    chat_lines,
    command_lines,
    recipe_errors,
    terminal_tables,
)

# What acts on a terminal or turns the direction of reading; newline and tab do neither.
_ACTING = ("Cc", "Cs", "Zl", "Zp")
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ADDRESSES = ("href", "src", "style", "action", "formaction", "srcdoc", "http-equiv", "content")
_ADDRESSES += ("type", "rel", "xlink:href", "class", "id", "name", "for")
_ADDRESS = re.compile(r"https?://|(?<!\w)www\.\S|\S@\S|\$\S", re.IGNORECASE)
Told = Callable[[str], str]


class _Fields:
    """Puts payloads behind every text, and counts the places in the code that give one.

    Several at once save time: one that stays text hides none behind it, and else it is found.
    """

    def __init__(self, payloads: Sequence[str]) -> None:
        self._payload = "".join(payloads)
        self._num_payloads = len(payloads)
        self._places: set[tuple[str, int]] = set()

    def __call__(self, text: str) -> str:
        frame = sys._getframe(1)
        self._places.add((frame.f_code.co_name, frame.f_lasti))
        return text + self._payload

    @property
    def attempts(self) -> int:
        return len(self._places) * self._num_payloads


def acting(text: str) -> set[str]:
    """Return what in a text would act on a terminal, as code points."""
    return {
        f"U+{ord(c):04X}"
        for c in set(text) - set("\n\t")
        if unicodedata.category(c) in _ACTING or c in _TURNING
    }


class _Page(HTMLParser):
    """The elements of a page: tag, names of attributes, and the values that lead somewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nodes: list[tuple[str, ...]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A table is marked as too wide for the page, which depends on what it says.
        seen = ((k, (v or "").removesuffix(" goes-on")) for k, v in attrs)
        told = sorted(f"{k}={v if k in _ADDRESSES else ''}" for k, v in seen)
        self.nodes.append((tag, *told))

    def handle_comment(self, data: str) -> None:
        self.nodes.append(("a comment", data[:40]))

    def handle_pi(self, data: str) -> None:
        self.nodes.append(("an instruction", data[:40]))


@contextmanager
def _few_figures() -> Iterator[None]:
    """Let a run have few curves and items, since drawing takes most of a page's time."""
    small = {"_ITEMS": 3, "WAYS": (("zero-shot", 0),), "_curve": lambda _keys: []}
    with patch.multiple(report_runs, **small):
        yield


_LEFT_OUT = ("objective/e", "objective/r", "loss", "val", "policy", "eps", "num", "lr", "eos")
_RUNS: dict[str, Callable[..., Path]] = {
    "run and comparison": report_runs.write_run,
    "ppo": partial(ppo_runs.write_ppo_run, rollouts=2, leave_out=_LEFT_OUT),
}


def _report(folder: Path, kind: str, told: Told) -> str:
    from pipeline.report.html import run_of_folder, write

    with _few_figures():
        run = _RUNS[kind](folder / "runs", told=told)
        page = write(run_of_folder(run), folder / "report.html")
    return page.read_text(encoding="utf-8")


@cache
def _plain_report(kind: str) -> list[tuple[str, ...]]:
    with TemporaryDirectory() as folder:
        return _Page(_report(Path(folder), kind, report_runs.plain)).nodes


def _in_report(kind: str, payloads: Sequence[str], folder: Path) -> Outcome:
    from pipeline.text.visible import visible

    fields = _Fields(payloads)
    html = _report(folder, kind, fields)
    failures = _differences(_Page(html).nodes, _plain_report(kind))
    if "content=\"default-src 'none'; style-src 'sha256-" not in html:
        failures.append("it has no policy")
    if acting(html):
        failures.append(f"it holds {acting(html)}")
    for payload in payloads:
        lines = [line.strip() for line in visible(payload).split("\n")]
        if not any(_escaped(line) in html for line in lines):
            failures.append(f"nowhere to be seen: {payload!r}")
    return Outcome(fields.attempts, tuple(failures))


def _escaped(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))


def _differences(found: list[Any], expected: list[Any]) -> list[str]:
    if found == expected:
        return []
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((number for number, (one, other) in pairs if one != other), -1)
    return [f"{len(found)} nodes, not {len(expected)}; the first other one: {found[at]}"]


def _in_card(payloads: Sequence[str], folder: Path) -> Outcome:
    fields = _Fields(payloads)
    card = card_of(folder, fields)
    failures = _differences(_markdown(card), _plain_card())
    front, plain = _shape(_front_matter(card)), _shape(_front_matter(_whole_plain_card()))
    if front != plain:
        failures.append(f"its front matter is {front}, not {plain}")
    if acting(card):
        failures.append(f"it holds {acting(card)}")
    return Outcome(fields.attempts, tuple(failures))


@cache
def _whole_plain_card() -> str:
    with TemporaryDirectory() as folder:
        return card_of(Path(folder), report_runs.plain)


@cache
def _plain_card() -> list[tuple[str, ...]]:
    return _markdown(_whole_plain_card())


def _front_matter(card: str) -> Any:
    return yaml.safe_load(card.split("---\n", 2)[1])


def _shape(value: Any) -> Any:
    """Return keys, lists and figures of a front matter, without what its texts say."""
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return "" if isinstance(value, str) else value


def _markdown(card: str) -> list[tuple[str, ...]]:
    """Return what a card's Markdown says beside text: blocks, emphasis, links, code, HTML."""
    from markdown_it import MarkdownIt

    body = card.split("---\n", 2)[2]
    nodes: list[tuple[str, ...]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body):
        nodes.append((token.type, token.tag, *map(str, token.attrs)))
        for inner in token.children or ():
            if inner.type == "text":
                found = re.findall(
                    r"https?://|(?<!\w)www\.\S|\S@\S|\$\S", inner.content, re.IGNORECASE
                )
                # A bare address is a link on the hub, unless a character of it is escaped.
                nodes += [("a bare address", each) for each in found if each in _unescaped(body)]
            elif inner.type not in ("softbreak", "text_special"):
                nodes.append((inner.type, inner.tag))
    return nodes


def _unescaped(card: str) -> str:
    return re.sub(r"\\.", "", card)


def _on_terminal(
    show: Callable[[Path, Told], Iterator[str]], payloads: Sequence[str], folder: Path
) -> Outcome:
    fields = _Fields(payloads)
    failures = []
    for number, text in enumerate(show(folder, fields)):
        if acting(text):
            failures.append(f"output {number} holds {acting(text)}: {text[:80]!r}")
        if "Traceback" in text:
            failures.append(f"output {number} is a traceback: {text[-200:]!r}")
    return Outcome(fields.attempts, tuple(failures))


def _reports_in_chromium(folder: Path) -> Outcome:
    """All payloads in one page, each field with another."""
    if chromium.CHROMIUM is None:
        return Outcome(0)
    found = []
    for name in ("plain", "attacked"):
        told = report_runs.plain if name == "plain" else _paired
        (folder / name).mkdir()
        _report(folder / name, "run and comparison", told)
        dom = chromium.chromium(folder, folder / name / "report.html")
        found.append(_Page(dom).nodes)
        if _title(dom) == "pwned":
            return Outcome(1, ("a script ran",))
    return Outcome(len(PAYLOADS), tuple(_differences(found[1], found[0])))


def _paired(text: str) -> str:
    """Return a text with always the same payload behind it."""
    return text + PAYLOADS[zlib.crc32(text.encode()) % len(PAYLOADS)]


def _title(dom: str) -> str:
    return dom.partition("<title>")[2].partition("</title>")[0]


_DRAW = """
models.forEach((model, n) => { model.name = model.source = TEXTS[n]; });
const took = { tokens: 1, seconds: 1, ended: "eos" };
const side = (text) => ({ prompt: text, reply: text, error: text, leftOut: 1, took });
exchanges = TEXTS.map((text) => ({ attempt: 0, sides: models.map(() => side(text)) }));
draw();
byId("settings").elements.system.value = TEXTS[0];
[[...document.querySelectorAll("*")].map((e) => [e.tagName, ...e.getAttributeNames()].join(" ")),
 window.pwned ?? null, document.title, document.body.innerText]
"""


def _chat_in_chromium(folder: Path) -> Outcome:
    """All payloads as names, prompts, replies and errors of one conversation."""
    if chromium.CHROMIUM is None:
        return Outcome(0)
    from tests.chat_page import running_page
    from tests.devtools import Tab

    with running_page() as page, Tab(folder) as tab:
        tab.open(page.address)
        tab.wait_for("document.querySelectorAll('#models > div').length == 2")
        plain = tab.run(f"{{{_DRAW.replace('TEXTS', json.dumps(['a text'] * len(PAYLOADS)))}}}")
        attacked = tab.run(f"{{{_DRAW.replace('TEXTS', json.dumps(PAYLOADS))}}}")
    failures = _differences(attacked[0], plain[0])
    if attacked[1] is not None or attacked[2] != plain[2]:
        failures.append("a script ran")
    if acting(attacked[3]):
        failures.append(f"it shows {acting(attacked[3])}")
    return Outcome(4 * len(PAYLOADS), tuple(failures))


_Attempt = Callable[[Sequence[str], Path], Outcome]
# Where a page takes long, with several payloads; lines that are cut short, with one.
_SEVERAL: dict[str, _Attempt] = {
    **{f"report of a {kind}": partial(_in_report, kind) for kind in _RUNS},
    "tables on a terminal": partial(_on_terminal, terminal_tables),
    "check, plan, status, why, logs, clean": partial(_on_terminal, command_lines),
}
_ONE: dict[str, _Attempt] = {
    "model card": _in_card,
    "chat on a terminal": partial(_on_terminal, chat_lines),
    "errors of recipes and data": partial(_on_terminal, recipe_errors),
}
_AT_ONCE = 4


def _cases(*_: object) -> list[Case]:
    apart = -(-len(PAYLOADS) // _AT_ONCE)
    several = [
        Case(f"{surface}, payloads {first} and each {apart} on", partial(attempt, payloads))
        for first in range(apart)
        for payloads in [PAYLOADS[first::apart]]
        for surface, attempt in _SEVERAL.items()
    ]
    one = [
        Case(f"{surface}, payload {number}", partial(attempt, [payload]))
        for number, payload in enumerate(PAYLOADS)
        for surface, attempt in _ONE.items()
    ]
    browser = [
        Case("chat page in Chromium", _chat_in_chromium),
        Case("report in Chromium", _reports_in_chromium),
    ]
    return [*browser, *several, *one]


CLAIM = Claim(
    "G9",
    "payloads x fields of report, card, terminal and chat page: text and nothing else",
    _cases,
    least=5000,
)
