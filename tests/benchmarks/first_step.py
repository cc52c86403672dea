"""From `posttrain run` to the first step of a stage: seconds and memory, first and again.

What large_data and large_text measure with: a tiny model, words for its rows, and the run itself.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.command import POSTTRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOAL_CACHED_S = 5.0
_POLL_S = 0.05
_POLLS_A_LOOK = 5  # at memory; more often, that would be what is measured
_YOUNG_S = 2.5  # a younger file is hashed again


@dataclass(frozen=True)
class Taken:
    """Until the first step: seconds; of all processes: their memory, processor seconds."""

    seconds: float
    peak_mb: float
    cpu_s: float


@dataclass(frozen=True)
class Twice:
    """A run for the first time, and again."""

    first: Taken
    cached: Taken

    def beyond(self, few: Twice) -> dict[str, float]:
        """Return what it took more than the same run on little."""
        pairs = {"first": (self.first, few.first), "cached": (self.cached, few.cached)}
        return {
            **{
                f"{name}_s": round(much.seconds - less.seconds, 1)
                for name, (much, less) in pairs.items()
            },
            **{
                f"{name}_cpu_s": round(much.cpu_s - less.cpu_s, 1)
                for name, (much, less) in pairs.items()
            },
            **{
                f"{name}_mb": round(much.peak_mb - less.peak_mb)
                for name, (much, less) in pairs.items()
            },
        }


def measure(
    stage: str, write: Callable[[Path, int], None], few: int, sizes: list[int]
) -> tuple[Twice, dict[int, Twice]]:
    """Run a stage on few rows and on each size, twice each. write: the recipe and its data."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model")

        def run(size: int) -> Twice:
            shutil.rmtree(folder / "runs", ignore_errors=True)
            write(folder, size)
            time.sleep(_YOUNG_S)
            return Twice(run_once(folder, stage), run_once(folder, stage))

        return run(few), {size: run(size) for size in sizes}


def sizes_asked(variable: str, default: str) -> list[int]:
    """Return the sizes that an environment variable asks for."""
    return [int(part) for part in os.environ.get(variable, default).split(",")]


def figures(
    what: str, few: Twice, found: dict[int, Twice], goals: dict[str, float]
) -> dict[str, Any]:
    """Return the figures of a Result. what: the sizes are of."""
    return {
        "libraries": {"first": vars(few.first), "cached": vars(few.cached)},
        what: {size: each.beyond(few) for size, each in found.items()},
        "goals": {"cached_s": GOAL_CACHED_S, **goals},
    }


def run_once(folder: Path, stage: str) -> Taken:
    """Run the stage, and time it up to its first step."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s, first_step_s, peak = time.monotonic(), None, 0.0
    command = [POSTTRAIN, "run", "recipe.yaml", "--stage", stage, "--force"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for number in count():
            if process.poll() is not None:
                break
            if number % _POLLS_A_LOOK == 0:
                peak = max(peak, _private_mb(process.pid))
            if first_step_s is None and _is_training(folder):
                first_step_s = time.monotonic()
            time.sleep(_POLL_S)
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}:\n{output}")
    if first_step_s is None:  # the steps were over between two looks: not later than the end
        first_step_s = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(round(first_step_s - began_s, 1), round(peak), round(cpu_s, 1))


def _is_training(folder: Path) -> bool:
    for path in (folder / "runs").glob("store/.working/*/attempt.json"):
        try:
            return json.loads(path.read_text(encoding="utf-8"))["label"] == "step"
        except (OSError, ValueError, KeyError):
            continue  # it is being written
    return False


def _private_mb(pid: int) -> float:
    """Return what a process and those below it have for themselves, in MB."""
    total_kb = 0
    for each in _tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:  # it has ended
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    return total_kb / 1000


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def words() -> list[str]:
    """Return words of one to four syllables, which a tokenizer of 8,192 tokens cuts in parts."""
    draw = random.Random(1)
    syllables = [c + v for c in "bcdfghklmnprstvwz" for v in "aeiou"]
    return sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(8_000)})


def save_model(folder: Path) -> None:
    """Save a tiny Llama with a tokenizer of its own, trained on such words."""
    code = f"from tests.benchmarks.first_step import save_here; save_here({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def save_here(folder: str) -> None:
    """Save the model; in a process that need not be small afterwards."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    known, draw = words(), random.Random(2)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    core.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=8_192,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((" ".join(draw.choices(known, k=100)) for _ in range(2_000)), trainer)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=end, pad_token=end).save_pretrained(
        folder
    )
    config = LlamaConfig(
        vocab_size=8_192,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
