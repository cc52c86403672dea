"""docs/picture.py: the README's picture and table of any finished run, and the ones it shows."""

import importlib.util
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.pages.page import DOCS, page
from tests.report_runs import write_run

SVG = "{http://www.w3.org/2000/svg}"
_SPEC = importlib.util.spec_from_file_location("picture", DOCS / "picture.py")
assert _SPEC is not None
picture = importlib.util.module_from_spec(_SPEC)
assert _SPEC.loader is not None
_SPEC.loader.exec_module(picture)


def _texts(path: Path) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.parse(path).iter(f"{SVG}text")]


def test_the_picture_shows_the_chain_and_every_difference(tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "picture.svg"
    monkeypatch.setattr(sys, "argv", ["picture.py", str(write_run(tmp_path / "runs")), str(out)])
    picture.main()
    texts = _texts(out)
    assert {"tokenizer", "base", "tuned", "preference", "ppo", "difference to base"} <= set(texts)
    assert "compare" not in texts
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| task | `base` | `tuned` | `ppo` |"
    tasks = [row.split("`")[1] for row in table[2:] if "`" in row]
    assert tasks
    assert set(tasks) <= set(texts)


def test_text_of_others_is_escaped(tmp_path, monkeypatch) -> None:
    out = tmp_path / "picture.svg"
    folder = write_run(tmp_path / "runs", told=lambda text: f"<b>{text}&")
    monkeypatch.setattr(sys, "argv", ["picture.py", str(folder), str(out)])
    picture.main()
    assert any("<b>base&" in text for text in _texts(out))


def test_the_picture_of_the_readme_has_the_figures_of_its_table() -> None:
    path = DOCS / "quickstart.svg"
    assert path.stat().st_size < 150_000
    shown = [text.partition(" [")[0] for text in _texts(path)]
    rows = re.findall(r"^\| `?(\w[\w ]*)`? \| [\d.]+ (\|.+\|)$", page("README.md").text, re.M)
    assert len(rows) == 9
    for task, cells in rows:
        assert task in shown
        for difference in re.findall(r"\(([^\s\\)]+)", cells):
            assert difference in shown, task


@pytest.mark.parametrize("scheme", ["--ink", "prefers-color-scheme: dark"])
def test_the_picture_follows_the_readers_theme(scheme: str) -> None:
    assert scheme in (DOCS / "quickstart.svg").read_text(encoding="utf-8")
