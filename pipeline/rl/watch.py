"""Watches a training: gold scores of what was sampled, and samples to read. Rewards nothing.

A gold score is what a task's author finds of a response (`Task.gold_score`); where it falls while
the reward rises, the reward is being exploited.
"""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from pipeline.files.names import SAMPLES
from pipeline.rewards.responses import REFERENCE, source_in, text_of
from pipeline.rl.experience import kl_per_sequence
from pipeline.rl.prompts import plain
from pipeline.rl.ranking_check import check_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from eval.task import Task
    from pipeline.rewards.composition import Combined
    from pipeline.rl.collector import Prompt
    from pipeline.rl.experience import ScoredRow
    from pipeline.rl.trainer import PPOTrainer

_SNAPSHOTS = 20
_ROWS = 8
_NOTE = "samples"


class Watch:
    """Called with every rollout (PPOTrainer's `on_rollout`), on every process.

    tasks: by the prompts' column `source`, for gold scores; none for none. gated: names of the
    reward terms that are reward models, "" for others; None without a gate. is_main: whether this
    process writes.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        tasks: Mapping[str, Task],
        *,
        gated: Sequence[str] | None,
        is_main: bool,
    ) -> None:
        self._name = name
        self._path = out / SAMPLES
        self._tasks = tasks
        self._gated = gated
        self._is_main = is_main
        self._trainer: PPOTrainer | None = None

    def follow(self, trainer: PPOTrainer) -> None:
        """Say whose rollouts they are, and whose evaluations."""
        self._trainer = trainer
        trainer.on_evaluation = self.on_evaluation

    def on_evaluation(
        self, rows: Sequence[ScoredRow], prompts: Sequence[Prompt]
    ) -> dict[str, float]:
        """Return gold scores of held-out prompts' answers as metrics."""
        assert self._trainer is not None
        texts = [self._text(self._trainer, row) for row in rows]
        return gold_metrics(gold_scores(self._tasks, prompts, texts), prompts)

    def __call__(
        self, rows: list[ScoredRow], combined: Combined, metrics: dict[str, float]
    ) -> dict[str, float]:
        """Return gold scores as metrics; write samples every few rollouts."""
        trainer = self._trainer
        assert trainer is not None
        if trainer.rollout < 0 and self._gated is not None:
            check_scores(self._name, self._gated, _raw(rows))
        prompts = [trainer.prompts[row.prompt] for row in rows]
        texts = [self._text(trainer, row) for row in rows]
        gold = gold_scores(self._tasks, prompts, texts)
        rollout = trainer.rollout + 1
        rollouts = trainer.args.max_steps // trainer.args.steps_per_rollout
        if rollout % max(1, rollouts // _SNAPSHOTS) == 0 or rollout == rollouts - 1:
            kl = kl_per_sequence(rows)
            names = [term.name for term in trainer.rewards.terms]
            lines = [
                {
                    "rollout": rollout,
                    "episode": rollout * trainer.rollout_size,
                    "prompt": shown(prompts[number].shown),
                    "completion": texts[number],
                    "ended": row.has_eos,
                    "scores": {
                        name: value
                        for name, value in zip(names, row.rewards.tolist(), strict=True)
                        if value == value
                    },
                    "score": _or_none(float(combined.scores[number])),
                    "kl": kl[number],
                    "gold": gold[number],
                    "source": source_in(prompts[number].columns),
                    **({"logged": _as_json(row.logged)} if row.logged else {}),
                }
                for number, row in enumerate(rows[:_ROWS])
            ]
            trainer.notes.setdefault(_NOTE, []).extend(lines)
            self.write()
        return gold_metrics(gold, prompts)

    def write(self) -> None:
        """Write all samples so far: a resumed run has them from its checkpoint."""
        assert self._trainer is not None
        lines = self._trainer.notes.get(_NOTE, [])
        if self._is_main:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            self._path.write_text(text, encoding="utf-8")

    @staticmethod
    def _text(trainer: PPOTrainer, row: ScoredRow) -> str:
        return text_of(
            trainer.collector.tokenizer,
            row.prompt_ids,
            row.completion_ids,
            has_ended=row.has_eos,
            stop=trainer.args.stop_strings or (),
        )


def gold_scores(
    tasks: Mapping[str, Task], prompts: Sequence[Prompt], texts: Sequence[str]
) -> list[float | None]:
    """Return the gold score of each response; None where its prompt is of no task."""
    found: list[float | None] = []
    for prompt, text in zip(prompts, texts, strict=True):
        task = tasks.get(source_in(prompt.columns) or "")
        reference = prompt.columns.get(REFERENCE)
        found.append(task.gold_score(text, reference) if task and reference is not None else None)
    return found


def gold_metrics(gold: Sequence[float | None], prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return the mean gold score, of all and of each source."""
    by_source: dict[str, list[float]] = {}
    for score, prompt in zip(gold, prompts, strict=True):
        if score is not None:
            by_source.setdefault(f"gold/{source_in(prompt.columns)}", []).append(score)
    if not by_source:
        return {}
    every = [score for scores in by_source.values() for score in scores]
    return {"gold/mean": fmean(every)} | {key: fmean(each) for key, each in by_source.items()}


def shown(prompt: Any) -> str:
    """Return a prompt as a person reads it."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(str(message["content"]) for message in prompt)


def _or_none(number: float) -> float | None:
    return number if number == number else None


def _as_json(logged: Mapping[str, Any]) -> Any:
    """Return what functions logged as JSON has it; other objects as they print."""
    return json.loads(json.dumps(plain(dict(logged)), default=str))


def _raw(rows: Sequence[ScoredRow]) -> Tensor:
    return torch.stack([row.rewards for row in rows])
