"""SFT, reward model and DPO with one `posttrain run` against `trl sft`, `trl reward`, `trl dpo`.

The same base model, tokenizer, rows, settings, threads and number of checkpoints, on the CPU in
float32, each side as a user starts it. What they differ in is what is measured:

- `align_against_trl`: seconds of the commands. We import the libraries once and they in each
  command, and TRL's command starts a process of Accelerate's that starts another. Ours, and not
  theirs, checks its data before, hashes what it writes, and after DPO samples from the policy to
  measure its divergence.
- `align_throughput_against_trl`: seconds between the first and the last log line of a stage, so
  inside of `train()`, the first ten steps aside; the worst stage of three. Of the seconds between
  two lines the fewest of all turns count: the order of the rows is the same on both sides, so the
  same work lies between them. In the second epoch our DPO needs no reference any more: its
  log-probabilities were computed before `train()`, which only the first figure has in it.

Both are separate programs, so they take turns as a whole and the fastest of each counts. The data
sets' cache is a new one in every turn. Before that each is started once with a few steps, for its
byte code and the system's cache of files.

Void unless every log line of both counts as many tokens and the losses of the second epoch are
equal: to a hundredth for SFT and DPO, where order and loss mask are the same and only rounding may
differ (measured: not in the first four digits); to a tenth of log 2, which it begins with, for the
reward model, whose head is random.

On one thread, unless OMP_NUM_THREADS says more; pretrain_throughput.py says why.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tests.benchmarks.align_inputs import (
    BATCH_SIZE,
    LOGGING_STEPS,
    ROWS,
    STAGES,
    STEPS,
    Inputs,
    make_inputs,
    our_recipe,
    their_config,
)
from tests.benchmarks.command import POSTTRAIN, run
from tests.benchmarks.log_times import LogTimes
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GOAL = 1.5
_THROUGHPUT_GOAL = 0.95
_TURNS = 2
_TOLERANCE = 0.01  # of the loss
_REWARD_TOLERANCE = 0.1 * math.log(2)
_TRL = str(Path(sys.executable).parent / "trl")
_IMPORTS = "from trl import DPOTrainer, RewardTrainer, SFTTrainer"
_TRAIN_RUNTIME = re.compile(r"'train_runtime': '?([0-9.e+]+)")

Environment = dict[str, str]


@dataclass(frozen=True)
class Trained:
    """One stage of one side; loss: the mean of the second epoch's log lines.

    train_s: what it says that `train()` took. gaps_s: between its log lines. num_tokens: up to each
    log line.
    """

    train_s: float
    gaps_s: list[float]
    loss: float
    num_tokens: list[int]
    steps: int


@dataclass(frozen=True)
class Turn:
    """One side, once. command_s: of each of its commands."""

    command_s: dict[str, float]
    cpu_s: float
    stages: dict[str, Trained]

    @property
    def total_s(self) -> float:
        """Seconds from the start of the first command to the end of the last."""
        return sum(self.command_s.values())

    @property
    def outside_train_s(self) -> float:
        """Seconds of the commands that are not inside `train()`."""
        return self.total_s - sum(each.train_s for each in self.stages.values())


@dataclass(frozen=True)
class Measured:
    """All turns of both sides. import_s: of the libraries, in a process that does nothing else."""

    ours: list[Turn]
    theirs: list[Turn]
    import_s: float
    threads: int

    def steady_s(self, stage: str) -> tuple[float, float]:
        """Return the fewest seconds from the first to the last log line, ours and theirs."""
        ours, theirs = (
            sum(
                min(gaps)
                for gaps in zip(*(turn.stages[stage].gaps_s for turn in turns), strict=True)
            )
            for turns in (self.ours, self.theirs)
        )
        return ours, theirs

    def is_valid(self) -> bool:
        """Whether both sides did the same work and learnt the same."""
        return all(
            a.steps == b.steps == STEPS
            and len(a.gaps_s) == len(b.gaps_s) == len(a.num_tokens) - 1
            and a.num_tokens == b.num_tokens
            and abs(a.loss - b.loss)
            <= (_REWARD_TOLERANCE if stage == "reward" else _TOLERANCE * b.loss)
            for stage in STAGES
            for a, b in [(self.ours[0].stages[stage], self.theirs[0].stages[stage])]
        )


def align_against_trl() -> Result:
    """Compare the seconds of the commands."""
    measured = _measured()
    ours, theirs = (
        min(turns, key=lambda turn: turn.total_s) for turns in (measured.ours, measured.theirs)
    )
    their_import_s = len(STAGES) * measured.import_s
    return Result(
        "align_against_trl",
        theirs.total_s / ours.total_s,
        _GOAL,
        {
            "seconds": _pair(ours.total_s, theirs.total_s),
            "seconds_of_commands": {
                name: round(value, 1) for name, value in (ours.command_s | theirs.command_s).items()
            },
            "seconds_outside_train": _pair(ours.outside_train_s, theirs.outside_train_s),
            "import_share": _pair(
                measured.import_s / ours.total_s, their_import_s / theirs.total_s, 2
            ),
            "import_seconds": round(measured.import_s, 1),
            "cpu_seconds": _pair(ours.cpu_s, theirs.cpu_s),
            "seconds_of_all_turns": {
                "ours": [round(turn.total_s, 1) for turn in measured.ours],
                "theirs": [round(turn.total_s, 1) for turn in measured.theirs],
            },
            "second_epoch_losses": {
                stage: _pair(ours.stages[stage].loss, theirs.stages[stage].loss, 4)
                for stage in STAGES
            },
            "num_tokens": {
                stage: _pair(ours.stages[stage].num_tokens[-1], theirs.stages[stage].num_tokens[-1])
                for stage in STAGES
            },
            "threads": measured.threads,
            "best_of": _TURNS,
        },
        is_valid=measured.is_valid(),
    )


def align_throughput_against_trl() -> Result:
    """Compare rows a second inside `train()`."""
    measured = _measured()
    by_stage = {stage: measured.steady_s(stage) for stage in STAGES}
    ratios = {stage: theirs / ours for stage, (ours, theirs) in by_stage.items()}
    rows = (STEPS - LOGGING_STEPS) * BATCH_SIZE
    return Result(
        "align_throughput_against_trl",
        min(ratios.values()),
        _THROUGHPUT_GOAL,
        {
            "ratios": {stage: round(ratio, 3) for stage, ratio in ratios.items()},
            "rows_per_second": {
                stage: _pair(rows / ours, rows / theirs)
                for stage, (ours, theirs) in by_stage.items()
            },
            "train_seconds_of_all_turns": {
                stage: {
                    "ours": [turn.stages[stage].train_s for turn in measured.ours],
                    "theirs": [turn.stages[stage].train_s for turn in measured.theirs],
                }
                for stage in STAGES
            },
            "rows": ROWS,
            "batch_size": BATCH_SIZE,
            "steps": STEPS,
            "threads": measured.threads,
            "best_of": _TURNS,
        },
        is_valid=measured.is_valid(),
    )


@functools.cache
def _measured() -> Measured:
    """Let both sides take turns: once for both benchmarks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        environment = _environment(folder, threads)
        inputs = make_inputs(folder, environment)
        for side in (_ours, _theirs):
            side(inputs, _new(folder / f"warm-up{side.__name__}"), environment, LOGGING_STEPS)
        turns: dict[Any, list[Turn]] = {_ours: [], _theirs: []}
        import_s: list[float] = []
        for number in range(_TURNS):
            imported = run(sys.executable, "-c", _IMPORTS, environment=environment, cwd=folder)
            import_s.append(imported.wall_s)
            for side, taken in turns.items():
                work = _new(folder / f"turn-{number}{side.__name__}")
                taken.append(side(inputs, work, environment, STEPS))
        return Measured(turns[_ours], turns[_theirs], min(import_s), threads)


def _ours(inputs: Inputs, folder: Path, environment: Environment, steps: int) -> Turn:
    """Run the recipe in an empty folder."""
    recipe, runs = folder / "align.yaml", folder / "runs"
    our_recipe(inputs, recipe, steps=steps)
    given = {**environment, "HF_HOME": str(folder / "cache")}

    def logs() -> dict[str, Path]:
        found = [*runs.glob("store/.working/*/out/metrics.jsonl")]
        by_folder = {path.parents[1].name: path for path in found}
        by_folder |= {path.parent.name: path for path in runs.glob("store/*/metrics.jsonl")}
        return {name.partition("-")[0]: path for name, path in by_folder.items()}

    with LogTimes(logs) as watched:
        taken = run(
            *(POSTTRAIN, "run", str(recipe), "--runs", str(runs)), environment=given, cwd=folder
        )
    record = json.loads((runs / "align" / "run.json").read_text(encoding="utf-8"))
    stages: dict[str, Trained] = {}
    for stage in STAGES:
        lines = (runs / "align" / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        metrics = record["stages"][stage]["metrics"]
        times_s = watched.times_s[record["stages"][stage]["kind"]]
        logged = [json.loads(line) for line in lines]
        stages[stage] = _trained(logged, times_s, metrics["train_seconds"], metrics["steps"])
    return Turn({"posttrain run": taken.wall_s}, taken.cpu_s, stages)


def _theirs(inputs: Inputs, folder: Path, environment: Environment, steps: int) -> Turn:
    """Run TRL's three commands in an empty folder."""
    # Unbuffered, so that its log lines are written when they are.
    given = {**environment, "HF_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    output = {stage: folder / f"{stage}.txt" for stage in STAGES}
    seconds: dict[str, float] = {}
    cpu_s = 0.0
    with LogTimes(lambda: {stage: path for stage, path in output.items() if path.exists()}) as logs:
        for stage in STAGES:
            config = their_config(inputs, stage, folder, steps=steps)
            command = (_TRL, stage, "--config", str(config))
            taken = run(*command, environment=given, cwd=folder, output=output[stage])
            seconds[f"trl {stage}"] = taken.wall_s
            cpu_s += taken.cpu_s
    stages: dict[str, Trained] = {}
    for stage in STAGES:
        checkpoint = folder / stage / f"checkpoint-{steps}"
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        said = output[stage].read_text(encoding="utf-8")
        found = _TRAIN_RUNTIME.search(said)
        if found is None:
            raise RuntimeError(f"`trl {stage}` logged no train_runtime: {said}")
        train_s, logged = float(found[1]), state["log_history"]
        stages[stage] = _trained(logged, logs.times_s[stage], train_s, state["global_step"])
    return Turn(seconds, cpu_s, stages)


def _trained(
    logged: Sequence[Mapping[str, Any]], times_s: Sequence[float], train_s: float, steps: int
) -> Trained:
    """Read a stage's log lines; a warm-up has none of the second epoch."""
    lines = [line for line in logged if "loss" in line]
    losses = [line["loss"] for line in lines if line["step"] > STEPS // 2]
    return Trained(
        train_s=train_s,
        gaps_s=[after - before for before, after in pairwise(times_s)],
        loss=fmean(losses) if losses else math.nan,
        num_tokens=[int(line["num_tokens"]) for line in lines],
        steps=steps,
    )


def _environment(folder: Path, threads: int) -> Environment:
    """Return what both sides are started with: no hub, no accelerator, byte code in the folder."""
    given = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    given.pop("PYTHONDONTWRITEBYTECODE", None)
    return given


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _pair(ours: float, theirs: float, digits: int = 1) -> dict[str, float]:
    return {"ours": round(ours, digits), "theirs": round(theirs, digits)}
