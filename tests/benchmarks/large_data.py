"""From `posttrain run` to the first SFT step on many chats: seconds and memory, first and again.

Chats of about 200 tokens are made, by default 10,000 of them; more with

    POSTTRAIN_CHATS=10000,100000,1000000 python -m tests.benchmarks large_data

The ratio is the time allowed over the time taken, for the largest number: 240 s a million chats,
beyond what the same run takes on ten. Memory is what all processes have for themselves, beyond that
of the run on ten; pages of files are the system's to take back. A busy machine shows in the
difference between seconds and processor seconds.
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
from typing import TYPE_CHECKING

from tests.benchmarks.command import POSTTRAIN
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

_GOAL_S_PER_CHAT = 240 / 1_000_000
_GOAL_CACHED_S, _GOAL_MB = 5.0, 2_000
_FEW = 10
_WORDS_A_TURN = 64
_POLL_S = 0.05
_POLLS_A_LOOK = 5  # at memory; more often, that would be what is measured
_RECIPE = """\
name: large
seed: 1
stages:
  sft:
    stage: sft
    model: ./model
    data: [{file: chats.jsonl}]
    batch_size: 4
    training_args: {max_steps: 8, learning_rate: 1e-3}
"""


@dataclass(frozen=True)
class Taken:
    """Until the first step: seconds; of all processes: their memory, processor seconds."""

    seconds: float
    peak_mb: float
    cpu_s: float


def large_data() -> Result:
    """Run on few and on many chats, twice each."""
    numbers = [int(part) for part in os.environ.get("POSTTRAIN_CHATS", "10000").split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(_RECIPE)
        save_model(folder / "model")
        few_first, few_cached = _measure(folder, _FEW)
        found = {number: _measure(folder, number) for number in numbers}
    largest = max(numbers)
    first, cached = found[largest]
    beyond_s = max(1e-3, first.seconds - few_first.seconds)
    return Result(
        "large_data",
        _GOAL_S_PER_CHAT * largest / beyond_s,
        1.0,
        {
            "libraries": {"first": vars(few_first), "cached": vars(few_cached)},
            "chats": {
                number: {
                    "first_s": round(each[0].seconds - few_first.seconds, 1),
                    "cached_s": round(each[1].seconds - few_cached.seconds, 1),
                    "first_cpu_s": round(each[0].cpu_s - few_first.cpu_s, 1),
                    "cached_cpu_s": round(each[1].cpu_s - few_cached.cpu_s, 1),
                    "first_mb": round(each[0].peak_mb - few_first.peak_mb),
                    "cached_mb": round(each[1].peak_mb - few_cached.peak_mb),
                }
                for number, each in found.items()
            },
            "goals": {"cached_s": _GOAL_CACHED_S, "mb": _GOAL_MB},
        },
        is_valid=first.peak_mb - few_first.peak_mb <= _GOAL_MB
        and cached.seconds - few_cached.seconds <= _GOAL_CACHED_S,
    )


def _measure(folder: Path, number: int) -> tuple[Taken, Taken]:
    """Run on so many chats for the first time, and again."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    _write_chats(folder / "chats.jsonl", number)
    time.sleep(2.5)  # a younger file is hashed again
    return run_once(folder, "sft"), run_once(folder, "sft")


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


def _write_chats(path: Path, number: int) -> None:
    known, draw = words(), random.Random(number)
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(number):
            turns = [
                {"role": role, "content": f"{' '.join(draw.choices(known, k=_WORDS_A_TURN))}."}
                for role in ("user", "assistant")
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")


def words() -> list[str]:
    """Return words of one to four syllables, which a tokenizer of 8,192 tokens cuts in parts."""
    draw = random.Random(1)
    syllables = [c + v for c in "bcdfghklmnprstvwz" for v in "aeiou"]
    return sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(8_000)})


def save_model(folder: Path) -> None:
    """Save a tiny Llama with a tokenizer of its own, trained on such words."""
    code = f"from tests.benchmarks.large_data import save_here; save_here({str(folder)!r})"
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
