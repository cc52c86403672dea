"""A report of a run that is not over: what is there is shown, what is under way says how far."""

import json
import re

import pytest

from pipeline.errors import PosttrainError
from pipeline.files.names import ATTEMPT
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.report.html import ReportedRun, run_of_folder, run_of_plan, write
from pipeline.report.html.palette import palette_of
from pipeline.report.html.rollouts.section import stage_rollouts
from pipeline.report.html.run_source import ReportedStage
from pipeline.run.progress import silent
from pipeline.store.attempt import Attempt, Recorder, end_attempt
from pipeline.store.store import Store
from tests.report_page import Page
from tests.report_runs import write_run


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


def test_reward_less_kl_is_that_and_what_a_missing_end_costs_is_a_line_of_its_own(tmp_path):
    for name, penalty in (("all ended", 0.0), ("some did not", 0.15)):
        out = tmp_path / name
        out.mkdir()
        lines = (
            {
                **{"step": step, "episode": 8 * step, "objective/scores": 0.5 + step / 10},
                "objective/non_score_reward": -0.2,
                "objective/rlhf_reward": 0.5 + step / 10 - 0.2 - penalty,
            }
            for step in range(1, 4)
        )
        (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        stage = ReportedStage(
            *("ppo", "ppo", "0" * 64, (), "running", None), attempt=Attempt("running"), begun_in=out
        )
        run = ReportedRun("rl", 1, tmp_path, (stage,), tmp_path / "rl.yaml", "")
        (found,) = stage_rollouts(run, palette_of(["ppo"]))
        reward = next(figure for figure in found.curves if figure.title == "Reward")
        assert reward.rows[0][1:3] == ("0.6", "0.4")
        assert ("less KL and missing ends" in reward.head) == (penalty > 0)
        if penalty:
            assert reward.rows[0][3] == "0.25"


def test_groups_and_what_is_left_out_are_shown_and_no_critic_where_there_is_none(tmp_path):
    lines = [
        {
            **{"step": step, "episode": 8 * step, "objective/scores": 0.5, "objective/kl": 0.1},
            **{"objective/non_score_reward": -0.0, "objective/rlhf_reward": 0.5},
            **{"rollout/tokens": 100.0, "groups/without_spread": 0.25, "groups/replaced": 3.0},
            **{"completions/masked": 0.1, "importance/mean": 1.0, "importance/left_out": 0.0},
        }
        for step in range(1, 4)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage = ReportedStage(
        *("rl", "grpo", "0" * 64, (), "running", None),
        **{"attempt": Attempt("running"), "begun_in": tmp_path},
    )
    run = ReportedRun("rl", 1, tmp_path, (stage,), tmp_path / "rl.yaml", "")
    (found,) = stage_rollouts(run, palette_of(["rl"]))
    told = {label: value for label, value, _ in found.facts}
    assert (told["tokens sampled"], told["groups without spread replaced"]) == (300, 9)
    curves = {figure.title: figure.head for figure in found.curves}
    assert curves["Reward"] == ("rollout", "reward")  # KL costs nothing
    assert curves["Left out of the loss"] == ("rollout", "responses cut", "tokens weighed 0")
    assert {"Groups without spread", "Groups replaced", "Importance weight"} <= curves.keys()
    assert not {"Explained variance", "Value loss"} & curves.keys()


def test_a_model_has_one_colour_in_all_of_a_report_and_the_baseline_is_grey(tmp_path):
    html = write(run_of_folder(write_run(tmp_path / "runs")), tmp_path / "r.html").read_text()
    chips = re.findall(r'<span class="chip c(\d)"><svg [^>]*><circle [^>]*></svg>([^<]+)<', html)
    colours = {name: {number for number, other in chips if other == name} for _, name in chips}
    assert colours["base"] == {"0"}
    assert colours["tuned"] == {"1"}
    assert len(colours["ppo"]) == 1
    assert len(chips) > 40
