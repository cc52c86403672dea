"""PPO of an adapter at several learning rates: what it reaches, how far it goes, whether it breaks.

Three tasks with what a recipe has by default (4 epochs a rollout, a rate that falls linearly):
stories260K going on happily, by the words of recipes/happy_endings.py, with the KL coefficient of
0.05; the bandit of tests/ppo_tasks.py with both adapters on one network, and its early end with a
critic of its own, both without a penalty. The last two adapt random networks, which needs larger
steps than a trained one does. Rank 8 is run on stories only, with one seed.

    python -m tests.benchmarks.adapter_rates STORIES_FOLDER RUNS.jsonl    # runs what is missing
    python -m tests.benchmarks.adapter_rates --table RUNS.jsonl
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.ppo import PPOTrainer
from recipes.happy_endings import HAPPY, NAMES, SAD, THINGS
from tests.ppo_tasks import EARLY_END, SHARED_BANDIT, Task, learn, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
RANKS = (16, 8)
SEEDS = (0, 1, 2)
TASKS = ("stories", "bandit", "early end")
_BY_DEFAULT: dict[str, Any] = {
    **{"num_ppo_epochs": 4, "num_mini_batches": 1, "lr_scheduler_type": "linear"},
    "activation_checkpointing": False,
}
_ROLLOUTS = 8  # of stories
_LAST = 3  # rollouts that are "the end"


@dataclass(frozen=True)
class Run:
    """One training. kl: nats a response to the start. entropy: nats a token. lost: see `_lost`."""

    task: str
    rate: float
    rank: int
    seed: int
    before: float
    reached: float
    kl: float
    entropy_before: float
    entropy: float
    lost: float
    cpu_s: float


def main(arguments: Sequence[str]) -> None:
    """Run what is missing of the sweep, or print its table."""
    runs = Path(arguments[1])
    if arguments[0] == "--table":
        print("\n".join(_table(_read(runs))))
        return
    torch.set_num_threads(1)
    done = {(run.task, run.rate, run.rank, run.seed) for run in _read(runs)}
    for task, rank, seed, rate in sorted(_grid(), key=_order):
        if (task, rate, rank, seed) in done:
            continue
        began = time.process_time()
        lines = _lines(task, rate, rank, seed, Path(arguments[0]))
        run = _run(lines, task, rate, rank, seed, time.process_time() - began)
        with runs.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(run)) + "\n")


def _grid() -> Iterator[tuple[str, int, int, float]]:
    for task, rank, seed, rate in product(TASKS, RANKS, SEEDS, RATES):
        if rank == RANKS[0] or (task == TASKS[0] and seed == 0):
            yield task, rank, seed, rate


def _order(run: tuple[str, int, int, float]) -> tuple[int, int]:
    """What tells most comes first: one seed everywhere, the larger rates of the others."""
    _, rank, seed, rate = run
    return (0 if seed == 0 and rank == RANKS[0] else 1 if rate >= 1e-4 else 2, seed)


def _read(runs: Path) -> list[Run]:
    if not runs.exists():
        return []
    return [Run(**json.loads(line)) for line in runs.read_text(encoding="utf-8").splitlines()]


def _lines(task: str, rate: float, rank: int, seed: int, stories: Path) -> list[dict[str, float]]:
    """Train; return a line of figures a rollout."""
    with tempfile.TemporaryDirectory() as folder:
        if task == "stories":
            return _stories(stories, rate, rank, seed, Path(folder))
        chosen = {"bandit": SHARED_BANDIT, "early end": EARLY_END}[task]
        layout = "shared_lora" if task == "bandit" else "separate"
        settings = {**chosen.settings, **_BY_DEFAULT, "layout": layout}
        given: Task = replace(
            chosen, within=12, is_learnt=None, is_adapted=True, rank=rank, settings=settings
        )
        return learn(given, seed, Path(folder), learning_rate=rate).lines


def _stories(
    stories: Path, rate: float, rank: int, seed: int, folder: Path
) -> list[dict[str, float]]:
    prompts = [{"prompt": f"{name} had a {thing}."} for name, thing in product(NAMES, THINGS)]
    args = PPOConfig(
        **plain(folder),
        seed=seed,
        learning_rate=rate,
        per_device_train_batch_size=32,
        scoring_batch_size=32,
        max_completion_length=32,
        total_episodes=32 * _ROLLOUTS,
    )
    module = AutoModelForCausalLM.from_pretrained(stories)
    adapter = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    tokenizer = AutoTokenizer.from_pretrained(stories)
    trainer = PPOTrainer(module, [_happiness], args, prompts, tokenizer, peft_config=adapter)
    kept: list[dict[str, float]] = []
    trainer.add_callback(_Keep(kept))
    trainer.train()
    return kept


def _happiness(completions: list[str], **_: object) -> list[float]:
    moods = [
        len(HAPPY.findall(text.lower())) - len(SAD.findall(text.lower())) for text in completions
    ]
    return [max(-1.0, min(1.0, mood / 3)) for mood in moods]


class _Keep(TrainerCallback):
    """Keeps a rollout's line."""

    def __init__(self, kept: list[dict[str, float]]) -> None:
        self._kept = kept

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "objective/scores" in logs:
            self._kept.append(dict(logs))


def _run(
    lines: Sequence[dict[str, float]], task: str, rate: float, rank: int, seed: int, cpu_s: float
) -> Run:
    scores = [line["objective/scores"] for line in lines]
    end = lines[-_LAST:]
    return Run(
        *(task, rate, rank, seed),
        before=scores[0],
        reached=fmean(scores[-_LAST:]),
        kl=fmean(line["objective/kl"] for line in end),
        entropy_before=lines[0]["objective/entropy"],
        entropy=fmean(line["objective/entropy"] for line in end),
        lost=_lost(scores),
        cpu_s=round(cpu_s, 1),
    )


def _lost(scores: Sequence[float]) -> float:
    """Return by how much the end is below the best stretch before it."""
    means = [fmean(scores[at : at + _LAST]) for at in range(len(scores) - _LAST + 1)]
    return max(means) - means[-1]


def _table(runs: Iterable[Run]) -> list[str]:
    """Return one line of markdown for each task, rank and rate: means, and the span over seeds."""
    found: dict[tuple[str, int, float], list[Run]] = {}
    for run in runs:
        found.setdefault((run.task, run.rank, run.rate), []).append(run)
    head = (
        "| task | rank | rate | score | reached (lowest, highest) | KL | entropy | fell back by |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for (task, rank, rate), group in sorted(found.items()):
        reached = [run.reached for run in group]
        entropies = [fmean(getattr(r, key) for r in group) for key in ("entropy_before", "entropy")]
        lines.append(
            f"| {task} | {rank} | {rate:.0e} | {fmean(r.before for r in group):.2f} "
            f"| {fmean(reached):.2f} ({min(reached):.2f}, {max(reached):.2f}) "
            f"| {fmean(r.kl for r in group):.2f} (to {max(r.kl for r in group):.2f}) "
            f"| {entropies[0]:.2f} -> {entropies[1]:.2f} | {max(r.lost for r in group):.2f} |"
        )
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
