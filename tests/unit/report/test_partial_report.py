"""A report of a run that is not over: what is there is shown, what is under way says how far."""

import json

import pytest

from pipeline.errors import PosttrainError
from pipeline.recipe.load import load
from pipeline.report.html import run_of_plan, write
from pipeline.run.attempt import ATTEMPT, Recorder, end_attempt
from pipeline.run.plan import make
from pipeline.run.progress import silent
from pipeline.run.store import Store
from tests.report_page import Page


@pytest.fixture
def plan_and_store(tiny_recipe, tmp_path):
    store = Store(tmp_path / "runs")
    return make(load(tiny_recipe), store), store


def begin(plan, store, name, *, lines=()):
    """Have a stage be under way, with some lines of metrics."""
    planned = plan.stage(name)
    working = store.working(planned.kind, planned.fingerprint)
    working.start_over()
    Recorder(working, silent)("step", 30, 90, "loss 2.1")
    (working.out / "metrics.jsonl").write_text("".join(lines))
    return working


def said(plan, store, tmp_path):
    html = write(run_of_plan(plan, store), tmp_path / "report.html").read_text("utf-8")
    return Page(html)


CURVE = [json.dumps({"step": step, "loss": 5 - step / 10}) + "\n" for step in range(1, 31)]


def test_a_stage_that_runs_says_how_far_it_is_and_shows_its_curves_so_far(plan_and_store, tmp_path):
    plan, store = plan_and_store
    begin(plan, store, "base", lines=[*CURVE, '{"step": 31, "lo'])
    page = said(plan, store, tmp_path)
    assert "base is running: step 30 of 90" in page.text
    assert "Nothing is compared yet." in page.text
    assert any(each.get("class") == "figure" for _, each in page.elements)


def test_a_stage_that_failed_says_why(plan_and_store, tmp_path):
    plan, store = plan_and_store
    working = begin(plan, store, "base", lines=CURVE)
    end_attempt(working, "failed", "base: the loss is not finite at step 31, on <row> 7")
    page = said(plan, store, tmp_path)
    assert "base failed: base: the loss is not finite at step 31, on <row> 7" in page.text


def test_a_stage_whose_process_is_gone_was_stopped(plan_and_store, tmp_path):
    plan, store = plan_and_store
    working = begin(plan, store, "base", lines=CURVE)
    old = json.loads((working.path / ATTEMPT).read_text()) | {"time_s": 0.0}
    (working.path / ATTEMPT).write_text(json.dumps(old))
    assert "base was stopped: step 30 of 90" in said(plan, store, tmp_path).text


def test_nothing_begun_is_nothing_to_report_unless_that_is_allowed(plan_and_store):
    plan, store = plan_and_store
    with pytest.raises(PosttrainError, match="there is nothing to report"):
        run_of_plan(plan, store)
    assert run_of_plan(plan, store, may_be_empty=True).begun == ()
