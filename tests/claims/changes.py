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
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.claims.bad_inputs import made_models
from tests.claims.claim import Case, Claim, Outcome
from tests.forked import run_forked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from pipeline.run.plan import PlannedStage

RECIPE = """\
name: small
seed: 3
stages:
  tuned:
    stage: sft
    model: ./model
    data: [{file: rows.jsonl}, {task: 'sums:Sums', rows: 20}]
    batch_size: 8
    lora: {r: 4, lora_dropout: 0.1}
    training_args: {learning_rate: 1e-3, max_length: 64, max_steps: 6, save_steps: 1,
                    per_device_train_batch_size: 4, logging_steps: 1}
  ppo:
    stage: ppo
    model: ./model
    prompts: [{file: rows.jsonl}]
    reward: [{use: 'reward:score', weight: 1.0}]
    critic: policy
    kl: {coef: 0.05}
    batch_size: 8
    training_args: {max_steps: 8, max_completion_length: 16}
  words: {stage: tokenizer, data: [{file: book.txt, separator: '--'}], vocab_size: 300}
"""
_TASK = """\
from eval.task import Example, Task
from reward.verdict import Verdict


class Sums(Task):
    name = "sums"
    version = 1
    kind = "skill"
    summary = "one more"
    metrics = ("verified_accuracy",)
    max_new_tokens = 6

    def examples(self, split):
        for number in range(100):
            asked, answer = f"{number}+1=", str(number + 1)
            yield Example(f"{split} {number}", asked, answer, answer, asked, answer)

    def documents(self, seed):
        return (f"{number}+1={number + 1}" for number in range(100))

    def verify(self, response, reference):
        return Verdict(float(response == reference), response, "compared")
"""
_REWARD = "def score(completions, **rest):\n    return [float(len(each)) for each in completions]\n"
_ROWS = 24
_OF_OURS = ("small.yaml", "rows.jsonl", "reward.py", "sums.py", "book.txt")


@dataclass(frozen=True)
class Change:
    """name: what is changed. make: changes the project in a folder, or what is around it.

    stage: the one that was stopped. identity: keys of its identity that are other then, in full;
    execution: those that it names when it starts over. Without either it goes on: nothing that a
    number depends on is another.
    """

    name: str
    make: Callable[[Path, ExitStack], object]
    identity: tuple[str, ...] = ()
    execution: tuple[str, ...] = ()
    stage: str = "tuned"


def _text(file: str, old: str, new: str) -> Callable[[Path, ExitStack], None]:
    """Replace a text in a file; it must be there."""

    def change(folder: Path, _: ExitStack) -> None:
        before = (folder / file).read_text()
        assert old in before
        (folder / file).write_text(before.replace(old, new, 1))

    return change


def _recipe(old: str, new: str) -> Callable[[Path, ExitStack], None]:
    return _text("small.yaml", old, new)


def _arguments(text: str) -> Callable[[Path, ExitStack], None]:
    """Add to the training arguments of the sft stage."""
    return _recipe("{learning_rate: 1e-3,", f"{{learning_rate: 1e-3, {text},")


def _fields(file: str, **fields: Any) -> Callable[[Path, ExitStack], None]:
    """Set fields of a JSON object."""

    def change(folder: Path, _: ExitStack) -> None:
        given = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**given, **fields}))

    return change


def _lines(change_lines: Callable[[list[str]], list[str]]) -> Callable[[Path, ExitStack], None]:
    """Change the rows of the data."""

    def change(folder: Path, _: ExitStack) -> None:
        path = folder / "rows.jsonl"
        path.write_text("".join(change_lines(path.read_text().splitlines(keepends=True))))

    return change


def _environment(name: str, value: str) -> Callable[[Path, ExitStack], None]:
    """Set a variable of the environment."""

    def change(_: Path, after: ExitStack) -> None:
        before = os.environ.get(name)
        os.environ[name] = value
        after.callback(
            lambda: os.environ.pop(name) if before is None else os.environ.update({name: before})
        )

    return change


def _library(name: str) -> Callable[[Path, ExitStack], None]:
    """Install another version of a library, as far as its metadata say."""

    def change(folder: Path, after: ExitStack) -> None:
        metadata = folder / "installed" / f"{name}-99.9.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.9\n")
        sys.path.insert(0, str(metadata.parent))
        after.callback(sys.path.remove, str(metadata.parent))

    return change


def _our_version(kind: str) -> Callable[[Path, ExitStack], None]:
    """Raise the version of a kind of stage, as a change of ours to its results does."""

    def change(_: Path, after: ExitStack) -> None:
        from pipeline.stages import stage_of

        stage, before = stage_of(kind), stage_of(kind).version
        object.__setattr__(stage, "version", before + 1)
        after.callback(object.__setattr__, stage, "version", before)

    return change


def _weights(folder: Path, _: ExitStack) -> None:
    """Flip the last bit of the model's weights."""
    path = folder / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


_ARGS = "training_args"
_FILE = "data[0].file.sha256"
CHANGES = (
    # the recipe
    Change("seed", _recipe("seed: 3", "seed: 4"), ("seed",)),
    Change("a stage's own seed", _recipe("stage: sft", "stage: sft\n    seed: 9"), ("seed",)),
    Change("batch size", _recipe("batch_size: 8", "batch_size: 16"), ("batch_size",)),
    Change("precision", _recipe("stage: sft", "stage: sft\n    precision: bf16"), ("precision",)),
    Change("learning rate", _recipe("1e-3", "2e-3"), (f"{_ARGS}.learning_rate",)),
    Change("steps", _recipe("max_steps: 6", "max_steps: 7"), (f"{_ARGS}.max_steps",)),
    Change("length", _recipe("max_length: 64", "max_length: 63"), (f"{_ARGS}.max_length",)),
    Change("weight decay", _arguments("weight_decay: 0.1"), (f"{_ARGS}.weight_decay",)),
    Change("warm-up", _arguments("warmup_steps: 2"), (f"{_ARGS}.warmup_steps",)),
    Change("epochs", _arguments("num_train_epochs: 2"), (f"{_ARGS}.num_train_epochs",)),
    Change("optimizer", _arguments("optim: adafactor"), (f"{_ARGS}.optim",)),
    Change(
        "schedule", _arguments("lr_scheduler_type: linear"), (f"{_ARGS}.lr_scheduler_type",)
    ),
    Change("clipping", _arguments("max_grad_norm: 0.5"), (f"{_ARGS}.max_grad_norm",)),
    Change("noise", _arguments("neftune_noise_alpha: 5.0"), (f"{_ARGS}.neftune_noise_alpha",)),
    Change("loss", _arguments("loss_type: dft"), (f"{_ARGS}.loss_type",)),
    Change("rank", _recipe("r: 4", "r: 8"), ("lora.r",)),
    Change("dropout", _recipe("lora_dropout: 0.1", "lora_dropout: 0.2"), ("lora.lora_dropout",)),
    Change("DoRA", _recipe("r: 4,", "r: 4, use_dora: true,"), ("lora.use_dora",)),
    Change("rows", _recipe("rows: 20", "rows: 21"), ("data[1].rows",)),
    Change("a limit of rows", _recipe("jsonl}, {t", "jsonl, rows: 5}, {t"), ("data[0].rows",)),
    Change(
        "held-out rows", _recipe("jsonl}, {t", "jsonl, holdout: 0.2}, {t"), ("data[0].holdout",)
    ),
    Change("weight of a source", _recipe("rows: 20", "rows: 20, weight: 2.0"), ("data[1].weight",)),
    Change("kind of KL", _recipe("coef: 0.05", "coef: 0.06"), ("kl.coef",), stage="ppo"),
    Change(
        "weight of a reward",
        _recipe("weight: 1.0", "weight: 0.5"),
        ("reward[0].weight",),
        stage="ppo",
    ),
    Change("critic", _recipe("    critic: policy\n", ""), ("critic",), stage="ppo"),
    Change("vocabulary", _recipe("size: 300", "size: 301"), ("vocab_size",), (), "words"),
    Change("separator", _recipe("'--'", "'-'"), ("data[0].separator",), (), "words"),
    # files
    Change("a row more", _lines(lambda lines: [*lines, lines[0]]), (_FILE,)),
    Change("a row less", _lines(lambda lines: lines[1:]), (_FILE,)),
    Change("rows in another order", _lines(lambda lines: lines[::-1]), (_FILE,)),
    Change("one letter of a row", _text("rows.jsonl", "question 7", "question q"), (_FILE,)),
    Change("a blank line", _lines(lambda lines: [*lines, "\n"]), (_FILE,)),
    Change("a text", _text("book.txt", "chapter 3", "chapter 4"), (_FILE,), (), "words"),
    Change(
        "the reward function's code",
        _text("reward.py", "len(each)", "-len(each)"),
        ("reward[0].use.source",),
        stage="ppo",
    ),
    Change(
        "which function rewards",
        lambda folder, after: (
            _text("reward.py", "def score", "def other")(folder, after),
            _recipe("reward:score", "reward:other")(folder, after),
        ),
        ("reward[0].use.object", "reward[0].use.source"),
        stage="ppo",
    ),
    Change("the task's code", _text("sums.py", "+ 1", "+ 2"), ("data[1].task.source",)),
    Change(
        "the task's version",
        _text("sums.py", "version = 1", "version = 2"),
        ("data[1].task.source", "data[1].task.version"),
    ),
    Change("the model's weights", _weights, ("model.files.model.safetensors",)),
    Change(
        "the model's config",
        _fields("model/config.json", rms_norm_eps=1e-4),
        ("model.files.config.json",),
    ),
    Change(
        "the tokenizer",
        _fields("model/tokenizer_config.json", model_max_length=77),
        ("model.files.tokenizer_config.json",),
    ),
    Change(
        "the chat template",
        _text("model/chat_template.jinja", "<|end|>", "<|end|>\\n"),
        ("model.files.chat_template.jinja",),
    ),
    Change(
        "how the model ends",
        _fields("model/generation_config.json", eos_token_id=[1, 2]),
        ("model.files.generation_config.json",),
    ),
    Change("our own version of the stage", _our_version("sft"), ("version",)),
    # how it runs
    *(Change(f"version of {name}", _library(name), (), (name,)) for name in (
        "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers"
    )),
    Change("threads", _environment("OMP_NUM_THREADS", "2"), (), ("threads",)),
    Change(
        "rows a forward pass",
        _recipe("train_batch_size: 4", "train_batch_size: 2"),
        (),
        ("per_device_train_batch_size",),
    ),
    Change("memory", _arguments("gradient_checkpointing: true"), (), ("gradient_checkpointing",)),
    Change("workers", _arguments("dataloader_num_workers: 1"), (), ("dataloader_num_workers",)),
    Change("a device", _arguments("use_cpu: true"), (), ("use_cpu",)),
    Change("compilation", _arguments("torch_compile: true"), (), ("torch_compile",)),
    Change("a process of its own", _recipe("seed: 3", "seed: 3\nlaunch: python"), (), ("with",)),
    Change(
        "two processes",
        _recipe("seed: 3", "seed: 3\nlaunch: {with: accelerate, processes: 2}"),
        (),
        ("processes", "with"),
    ),
    Change(
        "two things at once",
        lambda folder, after: (
            _environment("OMP_NUM_THREADS", "2")(folder, after),
            _library("trl")(folder, after),
        ),
        (),
        ("threads", "trl"),
    ),
    # what no number depends on
    Change("nothing", lambda *_: None),
    Change("a comment", _recipe("name: small", "name: small  # that is all")),
    Change("how often is logged", _recipe("logging_steps: 1", "logging_steps: 2")),
    Change("how often is saved", _recipe("save_steps: 1", "save_steps: 3")),
    Change("who is told", _arguments("report_to: tensorboard")),
    Change("a file that no stage reads", lambda folder, _: (folder / "notes.md").write_text("x")),
    Change("another stage", _recipe("vocab_size: 300", "vocab_size: 400")),
)  # fmt: skip


def changed(random: Random, times: int) -> Sequence[Case]:
    """Return each change once, and some of them with real runs."""
    del random, times  # they are all there are
    return [
        *(Case(each.name, partial(_asked, each)) for each in CHANGES),
        *(Case(f"run: {name}", partial(_run_again, name), 300.0) for name in _IN_RUNS),
    ]


def _asked(change: Change, folder: Path) -> Outcome:
    """Stop a stage, on paper: a sealed checkpoint lies there. Change something, and ask again."""
    from pipeline.run.fingerprint import explain

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
        for number in range(_ROWS)
    ]
    files = {
        "small.yaml": RECIPE,
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "reward.py": _REWARD,
        "sums.py": _TASK,
        "book.txt": "--".join(f"chapter {number}\n" for number in range(9)),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    shutil.copytree(made_models() / "whole", folder / "model")
    return folder


def _planned(project: Path, stage: str) -> PlannedStage:
    from pipeline.recipe.load import load
    from pipeline.run.plan import make
    from pipeline.run.store import Store

    return make(load(project / "small.yaml"), Store(project / "runs")).stage(stage)


def _execution(project: Path, planned: PlannedStage) -> dict[str, Any]:
    from pipeline.recipe.launching import processes_of
    from pipeline.recipe.load import load
    from pipeline.run.resume import execution_of

    recipe = load(project / "small.yaml")
    block = planned.config.launch or recipe.launch
    processes = processes_of(recipe, planned.config)
    return execution_of(planned.config, block.launcher, processes.count)


def _leave_a_checkpoint(project: Path, planned: PlannedStage) -> None:
    """Leave what a stage that was stopped in its third step leaves."""
    from pipeline.run import checkpoints
    from pipeline.run.store import Store

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
    from pipeline.run.store import Store

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
