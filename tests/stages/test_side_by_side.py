"""`posttrain run -j 2`: stages in processes side by side, with the results of one after another."""

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.commands.seeds import run_seeds
from pipeline.errors import PosttrainError
from pipeline.plan import room
from pipeline.plan.room import check_jobs
from pipeline.run import runner
from pipeline.run.recipe_run import RecipeRun, plan_run
from pipeline.run.runner import graph_of, twins_of
from pipeline.run.selection import Selection
from pipeline.run.slots import Slots
from pipeline.store.store import Store
from tests.command import Command, is_like, the_line
from tests.conftest import TINY
from tests.forked import in_child, run_forked, warm
from tests.forked_ranks import fork_ranks, fork_slots
from tests.kills import hashes
from tests.together import ranks_of
from tests.trained import Trained

TWO = ("sft", "more_lora")  # neither needs the other


def without(trained: Trained, folder: Path, *stages: str) -> Path:
    """Return a copy of the runs in which some stages have not been trained."""
    warm()
    runs = trained.without(stages[0], folder)
    for stage in stages[1:]:
        shutil.rmtree((runs / "tiny" / stage).resolve())
    return runs


@pytest.mark.enable_socket  # a slot's process takes its socket by its number
def test_a_stage_that_fails_lets_the_others_come_to_the_same_bytes(
    trained: Trained, tmp_path: Path
) -> None:
    """And those that need it, at any distance, are told as not run."""
    runs = without(trained, tmp_path, *TWO)
    wrong = ["stages.sft_lora.training_args.learning_rate=1e30"]
    ended = run_forked(trained.recipe, runs, overrides=wrong, jobs=2, first=fork_slots)
    assert ended.code == 2, ended.output
    said = ended.output.splitlines()
    assert said[0] == "jobs           2 side by side, 1 thread each"
    assert said[-1].startswith("sft_lora: the ")
    assert f"sft_lora       failed: {said[-1]}" in said
    for later in ("rm_lora", "dpo_lora", "dpo_again", "kto_lora", "merged"):
        assert f"{later:<14} not run, since `sft_lora` failed" in said
    assert "Traceback" not in ended.output
    for stage in TWO:
        assert hashes(runs, stage) == hashes(trained.runs, stage)


def one_gpu() -> None:
    """Have this process fork its slots, and believe that there is a GPU."""
    fork_slots()
    runner.visible_gpus = lambda _: ["7"]  # type: ignore[attr-defined]


@pytest.mark.enable_socket
def test_on_one_gpu_a_stage_waits_for_the_other_and_both_come_to_the_same_bytes(
    trained: Trained, tmp_path: Path
) -> None:
    runs = without(trained, tmp_path, *TWO)
    ended = run_forked(trained.recipe, runs, jobs=2, first=one_gpu)
    assert ended.code == 0, ended.output
    said = re.sub(" +", " ", ended.output)
    assert "1 GPU: what uses one waits until one is free" in said.splitlines()[0]
    first, second = re.findall(r"^(\w+) runs \(.*\) on GPU 7", said, re.MULTILINE)
    assert said.count(f"\n{second} waits for a GPU\n") == 1
    assert said.index(f"\n{first} done in") < said.index(f"\n{second} runs")
    for stage in TWO:
        assert hashes(runs, stage) == hashes(trained.runs, stage)


def three_gpus() -> None:
    """Have this process fork the processes of its stages, and believe that there are GPUs."""
    fork_ranks()
    fork_slots()
    runner.visible_gpus = lambda _: ["0", "1", "2"]  # type: ignore[attr-defined]
    room.visible_gpus = lambda _: ["0", "1", "2"]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.enable_socket
def test_on_gpus_of_their_own_several_processes_run_beside_other_stages_and_stop_with_them(
    trained: Trained, tmp_path: Path
) -> None:
    runs = without(trained, tmp_path, *TWO)
    launched = ["stages.sft.launch={with: accelerate, processes: 2}"]

    def stopped_when_both_train(_: float) -> bool:
        logs = (runs / "store/.working").glob("*/out/metrics.jsonl")
        return len({path.parents[1].name.partition("-")[0] for path in logs}) == 2

    stopped = run_forked(
        trained.recipe,
        runs,
        overrides=launched,
        jobs=2,
        first=three_gpus,
        signal_when=stopped_when_both_train,
        number=signal.SIGINT,
    )
    assert stopped.code == 130, stopped.output
    again = run_forked(trained.recipe, runs, overrides=launched, jobs=2, first=three_gpus)
    assert again.code == 0, again.output
    said = re.sub(" +", " ", again.output)
    assert re.search(r"^sft resumes from .* on GPUs [01], [12]", said, re.MULTILINE), said
    assert re.search(r"^more_lora resumes from .* on GPU [02]", said, re.MULTILINE), said
    assert hashes(runs, "more_lora") == hashes(trained.runs, "more_lora")


def test_one_signal_stops_all_and_each_goes_on_from_its_checkpoint(
    trained: Trained, tmp_path: Path
) -> None:
    """Also in the process of the run, one after another: a checkpoint knows no difference."""
    runs = without(trained, tmp_path, *TWO)
    stopped = run_forked(
        trained.recipe, runs, jobs=2, signal_when=has_begun(runs), number=signal.SIGINT
    )
    assert stopped.code == 130, stopped.output
    assert stopped.output.count("stopping after this step") == 1
    # One of them may have been before its first step or past its last, and has no checkpoint then.
    sealed = (runs / "store/.working").glob("*/checkpoints/*/MANIFEST.json")
    num_sealed = len({path.parents[2] for path in sealed})
    again = run_forked(trained.recipe, runs)
    assert again.code == 0, again.output
    assert again.output.count("resumes from") == num_sealed
    for stage in TWO:
        assert hashes(runs, stage) == hashes(trained.runs, stage)


@pytest.mark.slow
def test_no_process_outlives_a_killed_run_and_each_holds_its_stages_lock(
    trained: Trained, tmp_path: Path
) -> None:
    runs = without(trained, tmp_path, *TWO)
    slots: list[int] = []
    held: set[str] = set()

    def are_seen(_: float) -> bool:
        (runner,) = children()
        slots[:] = ranks_of(runner)
        held.clear()
        held.update(name for slot in slots for name in open_files(slot) if ".locks" in name)
        return len(held) == 2

    run_forked(trained.recipe, runs, jobs=2, signal_when=are_seen)
    assert len(slots) >= 2  # one more may stand ready
    assert {Path(name).name.partition("-")[0] for name in held} == {"sft", "pretrain"}
    until_s = time.monotonic() + 30
    while any(Path(f"/proc/{slot}").exists() for slot in slots) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{slot}").exists() for slot in slots)
    again = run_forked(trained.recipe, runs, jobs=2)
    assert again.code == 0, again.output
    for stage in TWO:
        assert hashes(runs, stage) == hashes(trained.runs, stage)


def has_begun(runs: Path) -> Callable[[float], bool]:
    """Return whether a stage has logged steps."""
    return lambda _: any((runs / "store/.working").glob("*/out/metrics.jsonl"))


def children() -> list[int]:
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(number) for number in text.split()]


def open_files(process: int) -> set[str]:
    found: set[str] = set()
    for each in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(each.readlink()))
    return found


@pytest.mark.slow
def test_stages_of_several_seeds_run_side_by_side_and_what_they_share_once(
    trained: Trained, tmp_path: Path
) -> None:
    runs = without(trained, tmp_path, "base", "sft")

    def run() -> None:
        recipe = load_recipe(trained.recipe, overrides=["stages.base.seed=3"])
        until = Selection(until="sft")
        say = lambda line: print(line, flush=True)  # noqa: E731
        run_seeds(recipe, Store(runs), (3, 4), selection=until, jobs=2, say=say)

    ended = in_child(run, tmp_path / "said.log")
    assert ended.code == 0, ended.output
    said = re.sub(" +", " ", ended.output)
    assert "seed 4: base cached" in said
    assert said.index("seed 4: sft runs") < said.index("seed 3: sft done in")
    assert said.index("seed 3: sft runs") < said.index("seed 4: sft done in")
    one, other = runs / "tiny/seed-3/sft", runs / "tiny/seed-4/sft"
    assert one.resolve().name == (trained.runs / "tiny/sft").resolve().name
    assert other.resolve() != one.resolve()
    assert hashes(runs, "seed-3/sft") == hashes(trained.runs, "sft")


def test_of_several_seeds_what_is_the_same_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("stage: pretrain", "stage: pretrain\n    seed: 9"))
    recipe, store = load_recipe(path), Store(tmp_path / "runs")
    runs = [
        RecipeRun(
            plan=plan_run(recipe.with_seed(seed), store),
            store=store,
            selection=Selection(),
            resume_anyway=False,
            say=lambda line: None,
            describe=lambda artifact: "",
        )
        for seed in (1, 2)
    ]
    twins = twins_of(runs)
    assert twins == {(1, "tokenizer"): (0, "tokenizer"), (1, "base"): (0, "base")}
    graph = graph_of(runs, twins)
    assert graph.needs[1, "base"] == [(0, "base")]
    assert graph.needs[1, "sft"] == [(1, "base")]
    assert graph.free == {(1, "tokenizer"), (1, "base")}


def test_a_stage_with_processes_of_its_own_or_a_served_judge_runs_alone(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    launched = TINY.replace("batch_size: 8\n    training_args: {learning_rate: 1e-3", LAUNCHED)
    path.write_text(launched + JUDGED)
    recipe, store = load_recipe(path), Store(tmp_path / "runs")
    run = RecipeRun(
        plan=plan_run(recipe, store),
        store=store,
        selection=Selection(),
        resume_anyway=False,
        say=lambda line: None,
        describe=lambda artifact: "",
    )
    assert graph_of([run], {}).alone == {(0, "sft"), (0, "judged")}


JUDGED = """\
  judged:
    stage: grpo
    model: $sft
    prompts: {task: arithmetic}
    reward: {judge: {endpoint: {url: "http://127.0.0.1:1/v1", model: m}}}
"""
LAUNCHED = (
    "batch_size: 8\n    launch: {with: accelerate, processes: 2}\n"
    "    training_args: {learning_rate: 1e-3"
)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("-j", "0"), "posttrain run: invalid value for...-j...: ..."),
        (("-j", "x"), "posttrain run: invalid value for...-j...: ..."),
        (
            ("-j", "9999"),
            "-j: 9999 stages are to run side by side, and this machine has...cores;...",
        ),
        (("--set", "jobs=0"), "--set jobs: `jobs` is 0; it must be above 0"),
        (("--set", "threads=none"), "--set threads: `threads` is `none`, not a whole number..."),
    ],
)
def test_a_number_that_is_none_is_one_line(
    posttrain: Command,
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tiny_recipe.parent)
    said = the_line(posttrain("run", "tiny.yaml", *given))
    assert is_like(said, line), said


def test_more_may_run_side_by_side_than_there_are_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that use one wait; as many as the cores allow still is the most."""
    (tmp_path / "tiny.yaml").write_text(TINY.replace("seed: 3", "seed: 3\njobs: 9"))
    recipe = load_recipe(tmp_path / "tiny.yaml")
    monkeypatch.setattr("pipeline.plan.room.num_gpus", lambda _: 1)
    monkeypatch.setattr("pipeline.plan.room.num_cores", lambda: 2)
    check_jobs(recipe, 8)
    with pytest.raises(PosttrainError, match=r"tiny.yaml:3:.*and this machine has 2 cores"):
        check_jobs(recipe)


def test_the_process_of_a_slot_sees_its_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment, as it is given to what starts it."""
    seen: list[str] = []

    class Started:
        """A process that ends when its slot is closed."""

        def __init__(self, command: object, *, env: dict[str, str], **_: object) -> None:
            seen.append(env.get("CUDA_VISIBLE_DEVICES", "all"))
            self.stdout: list[bytes] = []

        def poll(self) -> int | None:
            return None

        def kill(self) -> None:
            seen.append("ended")

        def wait(self, timeout: float | None = None) -> int:
            return 0

    monkeypatch.setattr("pipeline.run.slots.subprocess.Popen", Started)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    slots = Slots(2, print)
    first, second = slots.take(("4",)), slots.take(())
    assert seen == ["4", ""]
    slots.give_back(first)
    assert slots.take(("4",)) is first, "its process has the libraries already"
    slots.give_back(first)
    both = slots.take(("4", "6"))
    assert seen == ["4", "", "ended", "4,6"], "it held memory on GPU 4"
    slots.give_back(both)
    slots.give_back(second)
    slots.take(("6",))
    assert seen[4:] == ["ended", "6"]
    slots.take(("4",))
    assert seen[6:] == ["ended", "4"], "no more processes than slots"
