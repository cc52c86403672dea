"""The recipe whose stages are killed, a store in which all are done, and what each must end in."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pkgutil
import shutil
import signal
import tempfile
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

from tests.claims.kill_points import Points
from tests.forked import Ended, in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# As small as models come, with a checkpoint at every step or at every other one. The best reward
# model is called the one of the largest loss, so that it is not the last.
RECIPE = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{file: texts.jsonl}], vocab_size: 270}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 16, num_hidden_layers: 1,
            num_attention_heads: 2, intermediate_size: 32, max_position_embeddings: 128}
    data: [{file: texts.jsonl}]
    tokens: 1500
    sequence_length: 64
    batch_size: 4
    training_args: {learning_rate: 3e-3, logging_steps: 1, save_steps: 1}
  sft:
    stage: sft
    model: $base
    data: [{file: answers.jsonl}]
    batch_size: 4
    training_args: {learning_rate: 1e-3, logging_steps: 1, save_steps: 2}
  rm:
    stage: reward_model
    model: $sft
    data: [{file: pairs.jsonl, holdout: 0.2}]
    eval_data: [{file: pairs.jsonl, holdout: 0.2}]
    batch_size: 4
    training_args: {learning_rate: 1e-3, logging_steps: 1, save_steps: 1,
                    per_device_train_batch_size: 2, eval_strategy: steps, eval_steps: 1,
                    load_best_model_at_end: true, metric_for_best_model: loss,
                    greater_is_better: true}
  dpo:
    stage: dpo
    model: $sft
    data: [{file: pairs.jsonl, holdout: 0.2}]
    batch_size: 4
    lora: {r: 2}
    training_args: {learning_rate: 1e-3, logging_steps: 1, save_steps: 1, num_train_epochs: 1}
  kto:
    stage: kto
    model: $sft
    data: [{file: thumbs.jsonl, holdout: 0.2}]
    batch_size: 4
    training_args: {learning_rate: 1e-3, logging_steps: 1, save_steps: 1, num_train_epochs: 2,
                    per_device_train_batch_size: 2, eval_strategy: steps, eval_steps: 1}
  ppo:
    stage: ppo
    model: $sft
    prompts: [{file: answers.jsonl, holdout: 0.2}]
    reward: [{model: $rm}]
    reward_gate: off
    best_of: 2
    batch_size: 4
    training_args: {learning_rate: 1e-3, num_mini_batches: 2, max_completion_length: 4,
                    total_episodes: 24, num_ppo_epochs: 1, save_steps: 1, logging_steps: 1}
  merged: {stage: merge, model: $dpo}
  measured:
    stage: evaluate
    model: $sft
    tasks: [arithmetic]
    texts: [{file: texts.jsonl}]
    limit: 2
  compared:
    stage: compare
    baseline: $base
    candidates: [$sft]
    texts: [{file: texts.jsonl}]
"""
_SUMS = [(left, right) for left in range(2, 8) for right in range(3, 7)]
DATA = {
    "texts.jsonl": [{"text": f"{a} and {b} make {a + b}."} for a, b in _SUMS],
    "answers.jsonl": [{"instruction": f"{a} + {b}?", "output": f"{a + b}"} for a, b in _SUMS],
    "pairs.jsonl": [
        {"prompt": f"{a} + {b}?", "chosen": f"{a + b}", "rejected": f"{a - b}"} for a, b in _SUMS
    ],
    "thumbs.jsonl": [
        {"prompt": f"{a} + {b}?", "completion": f"{a + b + a % 2}", "label": a % 2 == 0}
        for a, b in _SUMS
    ],
}
EXPORT = "export"  # a command; the others are stages, whose kind is in brackets
KINDS = {
    "tokenizer": "tokenizer",
    "base": "pretrain",
    "sft": "sft",
    "rm": "reward_model",
    "dpo": "dpo",
    "kto": "kto",
    "ppo": "ppo",
    "merged": "merge",
    "measured": "evaluate",
    "compared": "compare",
    EXPORT: "export",
}
# What the clock makes another in every run, and what libraries said.
_NOT_COMPARED = {"artifact.json", "log.txt", "posttrain.json"}


@dataclass(frozen=True)
class Whole:
    """One thing done without a break: what it left, what it did to files, how long it took."""

    hashes: list[str]
    points: int
    last_step: int
    processor_s: float


@dataclass(frozen=True)
class Place:
    """A recipe and a store; `do` runs one stage of it, or exports from it, in a forked child."""

    recipe: Path
    runs: Path

    def do(
        self,
        name: str,
        *,
        first: Callable[[], None] | None = None,
        processor_s: float | None = None,
        signal_when: Callable[[float], bool] | None = None,
        number: int = signal.SIGKILL,
        times: int = 1,
        sets: Sequence[str] = (),
        log: str = "said.log",
    ) -> Ended:
        """Do it so many times in one child; each must end well for the next to begin.

        The rest is as of `in_child`.
        """

        def repeated() -> None:
            for _ in range(times):
                _do(self, name, sets)

        return in_child(
            repeated,
            self.runs.parent / log,
            signal_when=signal_when,
            number=number,
            first=first,
            processor_s=processor_s,
        )

    def moved(self, name: str) -> Place:
        """Move the store to another name and return where it is now."""
        return replace(self, runs=self.runs.rename(self.runs.with_name(name)))

    def working(self) -> list[Path]:
        """Return the folders of unfinished stages."""
        return list((self.runs / "store" / ".working").glob("*-*"))

    def sealed(self) -> list[int]:
        """Return the steps of the checkpoints that count, in order."""
        found = self.runs.glob("store/.working/*/checkpoints/checkpoint-*/MANIFEST.json")
        return sorted(int(path.parent.name.partition("-")[2]) for path in found)

    def is_inside_a_save(self) -> bool:
        """Say whether a save was begun and not ended: of a checkpoint, a result, or an export."""
        for working in self.working():
            for checkpoint in working.glob("checkpoints/checkpoint-*"):
                if not (checkpoint / "MANIFEST.json").exists():
                    return True
            kept = {"log.txt", "metrics.jsonl", "samples.jsonl"}
            if any(path.name not in kept for path in working.glob("out/*")):
                return True
            if not (working / "out").exists():  # it was renamed, and not yet cleaned up after
                return True
        return any(self.runs.parent.glob(".exported*"))

    def hashes(self, name: str) -> list[str]:
        """Return the sha256 of all that a stage or an export left, but for clocks and logs."""
        folder = self.runs.parent / "exported"
        if name != EXPORT:
            folder = (self.runs / "tiny" / name).resolve()
            record = json.loads((folder / "artifact.json").read_text())
            measured = {k: v for k, v in record["metrics"].items() if "seconds" not in k}
            assert record["provenance"]["exact"]
            first = [f"metrics {json.dumps(measured, sort_keys=True)}"]
        else:
            first = []
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return first + [
            f"{path.relative_to(folder)} {_sha256(path, self.runs)}"
            for path in paths
            if path.name not in _NOT_COMPARED
        ]


def _sha256(path: Path, runs: Path) -> str:
    content = path.read_bytes().replace(str(runs.resolve()).encode(), b"RUNS")
    return hashlib.sha256(content).hexdigest()


def _do(place: Place, name: str, sets: Sequence[str] = ()) -> None:
    from pipeline import load_recipe, run_recipe
    from pipeline.cli.app import app
    from pipeline.run.runner import Selection

    if name == EXPORT:
        exported = place.runs.parent / "exported"
        given = ["export", str(place.recipe), "dpo", str(exported), "--merged"]
        app([*given, "--runs", str(place.runs), "--force"], standalone_mode=False)
        return
    outcomes = run_recipe(
        load_recipe(place.recipe, overrides=sets),
        runs=place.runs,
        selection=Selection(only=name),
        say=lambda line: print(line, flush=True),
    )
    print("status", outcomes[0].status, flush=True)


def write_recipe(folder: Path) -> None:
    """Write the recipe and the data that it reads."""
    (folder / "tiny.yaml").write_text(RECIPE)
    for name, rows in DATA.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def load_what_stages_load() -> None:
    """Import every module of ours, and so what stages import late, before anything is forked."""
    for package in ("pipeline", "eval"):
        for found in pkgutil.walk_packages([package], f"{package}."):
            if not found.name.endswith(("__main__", "vllm_engines", ".harness")):
                import_module(found.name)


@functools.cache
def done() -> tuple[Place, dict[str, Whole]]:
    """Return a store in which everything was done without a break; once per process."""
    folder = Path(tempfile.mkdtemp(prefix="posttrain-whole-"))
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=1)
    place = Place(folder / "tiny.yaml", folder / "runs")
    write_recipe(folder)
    load_what_stages_load()
    wholes: dict[str, Whole] = {}
    for name in KINDS:
        points = Points(folder, folder / f"{name}.trace")
        spent_s = os.times().children_user + os.times().children_system
        ended = place.do(name, first=points.watch)
        assert ended.code == 0, f"{name}: {ended.output}"
        spent_s = os.times().children_user + os.times().children_system - spent_s
        did = points.done()
        sealed = [n for n, (_, path) in enumerate(did, 1) if path.endswith("MANIFEST.json.partial")]
        last = sealed[-1] if sealed else 0
        wholes[name] = Whole(place.hashes(name), len(did), last, spent_s)
    return place, wholes


def prepared(folder: Path, name: str) -> Place:
    """Return a copy of that store in which one thing is not done yet."""
    whole, _ = done()
    place = Place(folder / "tiny.yaml", folder / "runs")
    write_recipe(folder)
    shutil.copytree(whole.runs, place.runs, symlinks=True)
    if name != EXPORT:
        link = place.runs / "tiny" / name
        shutil.rmtree(link.resolve())
    return place
