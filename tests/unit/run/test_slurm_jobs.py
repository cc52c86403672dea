"""A recipe on Slurm: what is submitted, what a run tells of its jobs, and when one is put back."""

import json
import os
import shlex
from pathlib import Path

import pytest

from pipeline import load_recipe, run_recipe
from pipeline.cli import slurm_job
from pipeline.commands.status import status
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError
from pipeline.plan.plan import make
from pipeline.run.interrupt import StopRequest
from pipeline.run.recipe_run import RecipeRun, plan_run
from pipeline.run.selection import Selection
from pipeline.run.slurm import submission, team
from pipeline.run.slurm.job_folder import JobFolder, job_folder
from pipeline.run.slurm.team import OnSlurm
from pipeline.run.team import Seat
from pipeline.store.store import Store
from tests.command import Command, the_line
from tests.conftest import TINY
from tests.slurm_commands import Slurm, put_on_path
from tests.trained import Trained

ON_SLURM = ["launch={with: slurm, sbatch: {partition: gpu, exclusive: true}}"]
DONE = '{"status": "ran", "seconds": 4.0}'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setattr(team, "_LOOK_S", 0.01)
    monkeypatch.setattr(team, "_ASK_S", 0.02)
    folder = tmp_path / "slurm"
    folder.mkdir()
    return put_on_path(folder, monkeypatch)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def recipe_run(path: Path, runs: Path, said: list[str]) -> RecipeRun:
    """Return a run whose jobs can be submitted."""
    store = Store(runs)
    plan = plan_run(load_recipe(path, overrides=ON_SLURM), store)
    return RecipeRun(
        plan=plan,
        store=store,
        selection=Selection(),
        resume_anyway=False,
        say=said.append,
        describe=lambda artifact: "",
    )


def submit(each: RecipeRun) -> list[str]:
    """Submit the jobs of a run; return their numbers."""
    jobs = submission.submit_all([each], {}, is_stopped=lambda: False)
    return [job.number for job in jobs.values()]


def test_each_stage_is_a_job_that_waits_for_those_it_is_built_on(
    slurm: Slurm, recipe: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    assert submit(recipe_run(recipe, tmp_path / "runs", said)) == ["11", "12", "13"]
    first, _, last = slurm.jobs()
    assert not [word for word in first if word.startswith("--dependency")]
    assert {"--partition=gpu", "--exclusive", "--kill-on-invalid-dep=yes", "--requeue"} <= set(last)
    assert "--dependency=afterok:12" in last
    folder = JobFolder(Path(shlex.split(last[-1])[-1]))
    assert folder.job().stage == "sft"
    assert f"--output={folder.output}" in last
    assert said[-1] == "sft            job 13, after 12"


def test_what_still_waits_or_runs_is_taken_over_and_the_rest_submitted(
    slurm: Slurm, recipe: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    submit(recipe_run(recipe, runs, []))
    slurm.answer("states", "11|RUNNING|None\n12|CANCELLED|None\n13|PENDING|Dependency\n")
    said: list[str] = []
    assert submit(recipe_run(recipe, runs, said)) == ["11", "14", "15"]
    assert said[0] == "tokenizer      is job 11 already"
    assert "--dependency=afterok:11" in slurm.jobs()[3]
    assert "--dependency=afterok:14" in slurm.jobs()[4], "13 waits for one that is gone"


def test_only_what_is_missing_is_submitted_and_its_result_is_taken(
    slurm: Slurm, trained: Trained, tmp_path: Path
) -> None:
    """Lines that the job writes are shown as the run's own."""
    runs = trained.without("sft", tmp_path)
    results = tmp_path / "runs" / "store"
    (gone,) = {path.name for path in (trained.runs / "store").glob("sft-*")} - {
        path.name for path in results.glob("sft-*")
    }
    slurm.answer(
        "job",
        f"echo 'sft            done in 4 s' > $1/output.txt\n"
        f"cp -r {trained.runs}/store/{gone} {results}/\necho '{DONE}' > $1/ended.json\n",
    )
    said: list[str] = []
    outcomes = run_recipe(
        load_recipe(trained.recipe, overrides=ON_SLURM),
        runs=runs,
        selection=Selection(until="sft"),
        say=said.append,
    )
    assert [outcome.status for outcome in outcomes] == ["cached", "cached", "ran"]
    assert len(slurm.jobs()) == 1
    assert "sft            done in 4 s" in said


def fail(slurm: Slurm, recipe: Path, runs: Path, job: str) -> tuple[PosttrainError, list[str]]:
    """Run a recipe whose every job does this; return what is raised, and what is said."""
    slurm.answer("job", job)
    said: list[str] = []
    with pytest.raises(PosttrainError) as caught:
        run_recipe(load_recipe(recipe, overrides=ON_SLURM), runs=runs, say=said.append)
    return caught.value, said


def test_a_job_that_fails_raises_its_own_error_and_the_others_are_told_as_not_run(
    slurm: Slurm, recipe: Path, tmp_path: Path
) -> None:
    ending = {"kind": "CorruptArtifactError", "where": "a.json", "message": "is torn"}
    job = f"echo '{json.dumps(ending)}' > $1/ended.json\n"
    error, said = fail(slurm, recipe, tmp_path / "runs", job)
    assert (error.exit_code, str(error)) == (4, "a.json: is torn")
    assert said[-2:] == [
        f"{name:<14} not run, since `tokenizer` failed" for name in ("base", "sft")
    ]


def test_a_job_that_leaves_no_word_is_told_with_slurms(
    slurm: Slurm, recipe: Path, tmp_path: Path
) -> None:
    for state, words in (
        ("NODE_FAIL", "do the nodes share"),
        ("OUT_OF_MEMORY", "ask for more memory"),
        ("CANCELLED", "was cancelled; run again to go on"),
    ):
        touch = "" if state == "NODE_FAIL" else "touch $1/errors.txt\n"
        job = f"{touch}sed -i 's/PENDING/{state}/' {slurm.folder}/states\n"
        error, _ = fail(slurm, recipe, tmp_path / state, job)
        assert error.exit_code == (130 if state == "CANCELLED" else 3)
        assert words in str(error)
        assert state == "CANCELLED" or f"Slurm says {state}" in str(error)


def test_a_stopped_job_that_slurm_will_run_again_has_not_ended(
    slurm: Slurm, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said so as it was stopped; then somebody asks the run itself to stop."""
    each = recipe_run(recipe, tmp_path / "runs", [])
    following, stop = OnSlurm(lambda line: None), StopRequest()
    with following.at_work(stop):
        following.submit([each], {})
        ending = {"kind": "InterruptedRunError", "where": "tokenizer", "message": "stopped"}
        folder = job_folder(each.store, each.plan.stage("tokenizer"))
        (folder.path / "ended.json").write_text(json.dumps(ending))
        following.begin(
            (0, "tokenizer"), each.stage_run("tokenizer", at_once=4, stop=stop), {}, Seat("")
        )
        looks: list[float] = []

        def sleep(seconds: float) -> None:
            looks.append(seconds)
            stop.is_requested = len(looks) > 20

        monkeypatch.setattr(team.time, "sleep", sleep)
        with pytest.raises(InterruptedRunError) as caught:
            following.wait()
    assert "3 jobs go on" in caught.value.message
    assert "scancel 11 12 13" in caught.value.hint
    assert "scancel" not in slurm.controlled()


def test_a_job_is_put_back_while_it_runs_but_not_when_cancelled_or_without_progress(
    slurm: Slurm, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = recipe_run(recipe, tmp_path / "runs", [])
    submit(each)
    folder = job_folder(each.store, each.plan.stage("sft"))
    job, stopped = folder.job(), InterruptedRunError("sft", "stopped on request")
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    slurm.answer("states", "13|CANCELLED|None\n")
    assert slurm_job._put_back(job, folder, stopped) is stopped
    assert slurm.controlled() == ""
    slurm.answer("states", "13|RUNNING|None\n")
    for _ in range(2):
        assert slurm_job._put_back(job, folder, stopped) is None
    assert slurm.controlled() == "requeue 13\n" * 2
    last = slurm_job._put_back(job, folder, stopped)
    assert isinstance(last, InfrastructureError)
    assert "stopped 3 times at the same step" in last.message


def test_a_job_refuses_what_is_no_longer_what_was_submitted(
    slurm: Slurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A recipe that was edited meanwhile is none of its business, a file of rows is."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n')
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nstages:\n"
        "  words: {stage: tokenizer, data: [{file: rows.jsonl}], vocab_size: 300}\n"
    )
    each = recipe_run(path, tmp_path / "runs", [])
    submit(each)
    folder = job_folder(each.store, each.plan.stage("words"))
    path.write_text("name: gone\n")
    assert make(slurm_job._recipe(folder.job()), each.store).stages[0].fingerprint == (
        folder.job().fingerprint
    )
    rows.write_text('{"text": "other"}\n')
    monkeypatch.setattr("sys.argv", ["slurm_job", str(folder.path)])
    assert slurm_job.main() == 2
    ending = folder.ending()
    assert ending is not None
    assert "has changed since its job was submitted" in ending.message
    assert "run again" in capsys.readouterr().err


def test_status_says_which_jobs_wait(slurm: Slurm, recipe: Path, tmp_path: Path) -> None:
    each = recipe_run(recipe, tmp_path / "runs", [])
    submit(each)
    states = {state.name: state.state for state in status(each.plan, each.store)}
    assert states["sft"] == "waits as job 13 (Priority)"
    slurm.answer("states", "")
    assert status(each.plan, each.store)[2].state == "first time"


def test_what_sbatch_refuses_is_one_line_at_the_option(
    slurm: Slurm, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Command
) -> None:
    text = recipe.read_text().replace(
        "seed: 3\n", "seed: 3\nlaunch:\n  with: slurm\n  sbatch:\n    partition: gpuu\n"
    )
    recipe.write_text(text)
    options = (str(recipe), "--runs", str(tmp_path / "runs"))
    said = ask("check", *options)
    assert "Slurm takes the options of 3 jobs" in said.out
    slurm.answer("refusal", "sbatch: error: invalid partition specified: gpuu\nfailure: no\n")
    for name in ("check", "run"):
        line = the_line(ask(name, *options))
        assert line.startswith(f"{recipe}:6:16: sbatch refuses the job of `tokenizer`: invalid ")
    slurm.answer("refusal", "sbatch: error: Unable to contact slurm controller (connect failure)\n")
    said = ask("check", *options)
    assert (said.code, said.err.startswith("sbatch: Unable to contact")) == (3, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = ask("run", *options)
    assert (said.code, said.err.count("\n")) == (3, 1)
    assert said.err.startswith("sbatch: is not installed here; run this")
    assert not slurm.jobs()


def test_a_plan_says_what_would_be_submitted(recipe: Path, tmp_path: Path, ask: Command) -> None:
    """And asks nobody."""
    own = "stages.base.launch={with: slurm, sbatch: {mem: 4G}}"
    options = ("--runs", str(tmp_path / "runs"), "--set", ON_SLURM[0], "--set", own)
    said = " ".join(ask("plan", str(recipe), *options).out.split())
    assert "Slurm: 2 jobs, `sbatch --partition=gpu --exclusive`: tokenizer, sft" in said
    assert "Slurm: 1 job, `sbatch --partition=gpu --exclusive --mem=4G`: base" in said


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    from tests.command import command

    return command(monkeypatch, capsys)


def test_a_job_has_the_threads_of_its_own_cores(
    slurm: Slurm, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = recipe_run(recipe, tmp_path / "runs", [])
    submit(each)
    job = job_folder(each.store, each.plan.stage("sft")).job()
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert slurm_job._recipe(job).threads is None, os.environ["OMP_NUM_THREADS"]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert slurm_job._recipe(job).threads == 1
