"""`posttrain report` on a run that really trained: rows as the model saw them, folders, files."""

import re
from html import unescape

import pytest

from tests.command import command


@pytest.fixture
def posttrain(monkeypatch, capsys):
    return command(monkeypatch, capsys)


def test_a_run_is_reported_by_its_recipe_and_by_its_folder(tiny_recipe, tmp_path, posttrain):
    runs = tmp_path / "runs"
    before = posttrain("report", str(tiny_recipe), "--runs", str(runs))
    assert (before.code, before.out) == (2, "")
    assert "no stage of this recipe has run" in before.err
    assert posttrain("run", str(tiny_recipe), "--runs", str(runs)).code == 0

    by_recipe = posttrain("report", str(tiny_recipe), "--runs", str(runs))
    assert (by_recipe.code, by_recipe.err) == (0, "")
    page = (runs / "tiny" / "report.html").read_text(encoding="utf-8")
    text = unescape(re.sub(r"<[^>]+>", "", page))
    assert "posttrain run tiny.yaml" in text
    assert tiny_recipe.read_text() in text
    assert "This run compares no models" in text
    marked = [unescape(part) for part in re.findall(r"<mark>(.*?)</mark>", page, re.DOTALL)]
    assert len(marked) == 1 + 2 + 2  # in the explanation, documents of base, answers of sft
    assert [part.endswith("<|end|>") for part in marked[-2:]] == [True, True]
    assert '<span class="read">&lt;|user|&gt;' in page

    other = tmp_path / "elsewhere" / "page.html"
    assert posttrain("report", str(runs / "tiny"), "--out", str(other)).code == 0
    assert other.read_text(encoding="utf-8") == page
    tiny_recipe.unlink()
    assert posttrain("report", str(runs / "tiny")).code == 0
    page = (runs / "tiny" / "report.html").read_text(encoding="utf-8")
    assert "no such file" in page
    assert page.count("<mark>") == 1
