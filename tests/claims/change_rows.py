"""What G4 changes between a stop and the next run: a project, and what is known of each change."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

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
TASK = """\
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
REWARD = "def score(completions, **rest):\n    return [float(len(each)) for each in completions]\n"
ROWS = 24
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
