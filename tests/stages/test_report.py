"""`posttrain report` on a run that really trained: rows as the model saw them, folders, files."""

import re
import shutil
import subprocess
import sys
from html import unescape

import pytest

from pipeline.web.connections import bind_socket
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


def test_a_run_that_fails_leaves_a_report_of_what_there_is_and_says_why_everywhere(
    tiny_recipe, tmp_path, posttrain, monkeypatch
):
    monkeypatch.setenv("POSTTRAIN_REPORT", "1")
    here = (str(tiny_recipe), "--runs", str(tmp_path / "runs"))
    wrong = ("--set", "stages.sft.training_args.learning_rate=1e30")
    ran = posttrain("run", *here, *wrong)
    assert (ran.code, ran.out.count("report of what there is so far")) == (2, 1)
    assert "is not finite at step" in ran.err
    page = (tmp_path / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "sft failed : sft: the " in text
    assert "is not finite at step" in text
    assert "Not there yet: sft." in text
    state = " ".join(posttrain("status", *here, *wrong).out.split())
    assert "failed (sft: the " in state
    assert posttrain("run", *here).code == 0
    assert "failed" not in posttrain("status", *here).out


def test_a_report_is_of_the_last_run_though_all_its_results_were_there(
    trained, tmp_path, tiny_recipe, posttrain, monkeypatch
):
    monkeypatch.setenv("POSTTRAIN_REPORT", "1")
    shutil.copytree(trained.runs, tmp_path / "runs", symlinks=True)
    here = (str(tiny_recipe), "--runs", str(tmp_path / "runs"), "--stage", "tokenizer")
    page = tmp_path / "runs" / "tiny" / "report.html"
    assert posttrain("run", *here).code == 0
    first = page.read_text()
    assert posttrain("run", *here, "--set", "stages.tokenizer.vocab_size=299").code == 0
    assert page.read_text() != first
    again = posttrain("run", *here)
    assert (again.code, "cached" in again.out) == (0, True)
    assert page.read_text() == first


_FOLLOWED = """
import sys
from pathlib import Path
from pipeline.cli.report import follow_run
with follow_run(Path(sys.argv[1]), ["seed=5"], None, Path(sys.argv[2])):
    sys.stdin.read(1)
"""


@pytest.mark.enable_socket
def test_a_run_is_followed_by_a_page_that_ends_with_it(tiny_recipe, tmp_path, posttrain):
    command = [sys.executable, "-c", _FOLLOWED, str(tiny_recipe), str(tmp_path / "runs")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as run:
        line = run.stdout.readline()
        port = re.fullmatch(r"the run can be followed at http://127\.0\.0\.1:(\d+)/#\S+\n", line)[1]
        run.communicate("x")
    assert run.returncode == 0
    with bind_socket(int(port)) as free:
        assert free.getsockname()[1] == int(port)
    refused = posttrain("run", str(tiny_recipe), "--live", "--seeds", "1,2")
    assert (refused.code, "cannot follow several seeds" in refused.err) == (2, True)
