"""G4: what changed between a stop and the next run is never taken over in silence.

Either the stage is another one, with a fingerprint of its own, or it starts over and names exactly
the keys that changed. Most cases ask the planner and `prepare` about a working folder with a sealed
checkpoint; some stop a real run and start it again.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.claims.bad_inputs import made_models
from tests.claims.change_rows import CHANGES, RECIPE, REWARD, ROWS, TASK, Change
from tests.claims.claim import Case, Claim, Outcome
from tests.forked import run_forked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from pipeline.plan.plan import PlannedStage


def changed(random: Random, times: int) -> Sequence[Case]:
    """Return each change once, and some of them with real runs."""
    del random, times  # they are all there are
    return [
        *(Case(each.name, partial(_asked, each)) for each in CHANGES),
        *(Case(f"run: {name}", partial(_run_again, name), 300.0) for name in _IN_RUNS),
    ]


def _asked(change: Change, folder: Path) -> Outcome:
    """Stop a stage, on paper: a sealed checkpoint lies there. Change something, and ask again."""
    from pipeline.store.fingerprint import explain

    project = _project(folder / "project")
    before, start = _planned(project, change.stage), None
    _leave_a_checkpoint(project, before)
    with ExitStack() as after:
        change.make(project, after)
        now = _planned(project, change.stage)
        told = tuple(line.partition(": ")[0] for line in explain(before.identity, now.identity))
        if now.fingerprint == before.fingerprint:
            start = _prepared(project, now)
    if start is None:
        problems = [] if now.status == "run" else [f"a new stage that is {now.status}"]
        named = ()
    else:
        problems = []
        named = _keys_named(start.notes)
        if start.checkpoint is None and not named:
            problems.append(f"starts over without a reason: {start.notes}")
        if start.checkpoint is not None and (change.identity or change.execution):
            problems.append("went on in silence")
    if sorted(told) != sorted(change.identity):
        problems.append(f"identity says {told}, changed was {change.identity}")
    if sorted(named) != sorted(change.execution):
        problems.append(f"says {named}, changed was {change.execution}")
    label = "others" if change.identity else "start over" if change.execution else "go on"
    return Outcome(failures=tuple(problems), labels={label: 1})


def _keys_named(notes: Sequence[str]) -> tuple[str, ...]:
    for note in notes:
        found = re.fullmatch(r"starts over, since this changed: (.*) \(--resume-anyway .*\)", note)
        if found:
            return tuple(part.partition(":")[0] for part in found[1].split("; "))
    return ()


def _project(folder: Path) -> Path:
    """Write the recipe and all that it reads into a folder."""
    folder.mkdir(parents=True)
    rows = [
        {"prompt": f"question {number}", "completion": f" answer {number}"}
        for number in range(ROWS)
    ]
    files = {
        "small.yaml": RECIPE,
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "reward.py": REWARD,
        "sums.py": TASK,
        "book.txt": "--".join(f"chapter {number}\n" for number in range(9)),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    shutil.copytree(made_models() / "whole", folder / "model")
    return folder


def _planned(project: Path, stage: str) -> PlannedStage:
    from pipeline.plan.plan import make
    from pipeline.recipe.load import load
    from pipeline.store.store import Store

    return make(load(project / "small.yaml"), Store(project / "runs")).stage(stage)


def _execution(project: Path, planned: PlannedStage) -> dict[str, Any]:
    from pipeline.recipe.launching import processes_of
    from pipeline.recipe.load import load
    from pipeline.run.resume import execution_of

    recipe = load(project / "small.yaml")
    block = planned.config.launch or recipe.launch
    processes = processes_of(recipe, planned.config)
    return execution_of(planned.config, block.launcher, processes.count, processes.sharding)


def _leave_a_checkpoint(project: Path, planned: PlannedStage) -> None:
    """Leave what a stage that was stopped in its third step leaves."""
    from pipeline.store import checkpoints
    from pipeline.store.store import Store

    working = Store(project / "runs").working(planned.kind, planned.fingerprint)
    saved = working.checkpoints / "checkpoint-3"
    saved.mkdir(parents=True)
    working.out.mkdir()
    (saved / "model.safetensors").write_bytes(b"weights")
    metrics = working.out / "metrics.jsonl"
    metrics.write_text('{"step": 3}\n')
    made = checkpoints.Made(planned.fingerprint, _execution(project, planned), True)
    checkpoints.seal(saved, 3, 6, made=made, metrics=metrics)


def _prepared(project: Path, planned: PlannedStage) -> Any:
    from pipeline.run.resume import prepare
    from pipeline.store.store import Store

    working = Store(project / "runs").working(planned.kind, planned.fingerprint)
    execution = _execution(project, planned)
    return prepare(working, planned.fingerprint, execution, resume_anyway=False)


# Tried with real runs too: what must be said.
_IN_RUNS = {
    "nothing": "resumes from checkpoint-",
    "learning rate": "runs (training_args.learning_rate: 0.001 -> 0.002)",
    "one letter of a row": "runs (data[0].file.sha256: ",
    "rows a forward pass": "starts over, since this changed: per_device_train_batch_size: 4 -> 2 (",
    "version of trl": "starts over, since this changed: trl: ",
}


def _run_again(name: str, folder: Path) -> Outcome:
    """Kill a run behind a checkpoint, change something, run it to its end."""
    change = next(each for each in CHANGES if each.name == name)
    project = folder / "project"
    shutil.copytree(_stopped(), project)
    with ExitStack() as after:
        change.make(project, after)
        ended = run_forked(project / "small.yaml", project / "runs", until="tuned")
    problems = [] if ended.code == 0 else [f"left with {ended.code}: {ended.output[-300:]}"]
    if _IN_RUNS[name] not in ended.output:
        problems.append(f"does not say `{_IN_RUNS[name]}`: {ended.output[-300:]}")
    return Outcome(failures=tuple(problems), labels={"real runs": 1})


@cache
def _stopped() -> Path:
    """Return a project whose first stage was killed behind its second checkpoint."""
    kept, owner = Path(tempfile.mkdtemp(prefix="posttrain-claim-stopped-")), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(kept, ignore_errors=True))
    project = _project(kept / "project")

    def is_saved(_: float) -> bool:
        return any((project / "runs").glob("**/checkpoint-2/MANIFEST.json"))

    ended = run_forked(
        project / "small.yaml", project / "runs", until="tuned", signal_when=is_saved
    )
    assert ended.code is None, ended.output
    return project


CLAIM = Claim(
    "G4",
    "a change between stop and next run gives another stage, or starts over and names its keys",
    changed,
    least=40,
)
