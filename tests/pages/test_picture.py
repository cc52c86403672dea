"""docs/picture.py and docs/curves.py: pictures of any finished run, and those that pages show."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.pages.page import DOCS, page
from tests.report_runs import write_run

SVG = "{http://www.w3.org/2000/svg}"


def _module_of(name: str) -> ModuleType:
    """Return a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


picture, curves = _module_of("picture"), _module_of("curves")


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


def test_curves_stand_side_by_side_with_what_they_measure_and_their_models(
    tmp_path, monkeypatch
) -> None:
    out = tmp_path / "curves.svg"
    run = str(write_run(tmp_path / "runs"))
    asked = ["compare", "compare:verified_accuracy"]
    monkeypatch.setattr(sys, "argv", ["curves.py", run, str(out), *asked])
    curves.main()
    texts = _texts(out)
    assert texts.count("arithmetic: answers that verify") == 2
    assert texts.count("demonstrations in the prompt") == 2
    assert {"base", "tuned", "ppo"} <= set(texts)
    nodes = [dict(node.attrib) for node in ElementTree.parse(out).iter()]
    ids = [node["id"] for node in nodes if "id" in node]
    assert len(ids) == len(set(ids))
    referred = {node["href"] for node in nodes if "href" in node}
    assert referred <= {f"#{known}" for known in ids}


@pytest.mark.parametrize(("module", "asked"), [(picture, []), (curves, ["<b>compare&"])])
def test_text_of_others_is_escaped(tmp_path, monkeypatch, module, asked) -> None:
    out = tmp_path / "picture.svg"
    folder = write_run(tmp_path / "runs", told=lambda text: f"<b>{text}&")
    monkeypatch.setattr(sys, "argv", ["picture.py", str(folder), str(out), *asked])
    module.main()
    assert any("<b>base&" in text for text in _texts(out))


def test_the_picture_of_the_readme_has_the_figures_of_its_table() -> None:
    path = DOCS / "quickstart.svg"
    assert path.stat().st_size < 150_000
    shown = [text.partition(" [")[0] for text in _texts(path)]
    rows = re.findall(r"^\| `?(\w[\w ]*)`? \| [\d.]+ (\|.+\|)$", page("README.md").text, re.M)
    assert len(rows) == 8  # seven tasks and their mean
    for task, cells in rows:
        assert task in shown
        for difference in re.findall(r"\(([^\s\\)]+)", cells):
            assert difference in shown, task


@pytest.mark.parametrize("name", ["quickstart.svg", "world.svg"])
@pytest.mark.parametrize("scheme", ["--ink", "prefers-color-scheme: dark"])
def test_the_pictures_follow_the_readers_theme(scheme: str, name: str) -> None:
    assert scheme in (DOCS / name).read_text(encoding="utf-8")
