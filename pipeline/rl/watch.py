"""Watches a training: gold scores of what was sampled, samples to read, signs. Rewards nothing.

It also keeps a few first responses for probes, and the counts of judges.

A gold score is what a task's author finds of a response (`Task.gold_score`); where it falls while
the reward rises, the reward is being exploited.
"""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from eval.results import grey_levels
from pipeline.files.names import SAMPLES
from pipeline.rewards.responses import REFERENCE, source_in
from pipeline.rl.guarding import sign_line, warn_of_sign
from pipeline.rl.probing import note_honest
from pipeline.rl.prompts import plain
from pipeline.rl.ranking_check import check_scores
from pipeline.rl.rollout import kl_per_sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eval.task import Task
    from pipeline.rl.gaps import Gaps
    from pipeline.rl.judging import JudgeCounts
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import Rollout, ScoredResponses
    from pipeline.rl.signs import Shown

_SNAPSHOTS = 20  # rollouts of a run that samples are kept of
_ROWS = 8  # of each
_NOTE = "samples"


class Watch:
    """Called with every Rollout (PPOTrainer's `on_rollout`), on every process.

    tasks: by the prompts' column `source`, for gold scores; none for none. gated: names of the
    reward terms that are reward models, "" for others; None without a gate. probed: names of the
    terms that are probed when training is over, drawn by the seed. is_main: whether this process
    writes. say: shows a line on the terminal. gaps: looks at those of another engine.
    judges: what counts the judges, once there is a trainer.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        tasks: Mapping[str, Task],
        *,
        gated: Sequence[str] | None,
        is_main: bool,
        say: Callable[[str], None],
        probed: Sequence[str] = (),
        seed: int = 0,
        gaps: Gaps | None = None,
    ) -> None:
        self._name = name
        self._path = out / SAMPLES
        self._tasks = tasks
        self._gated = gated
        self._probed, self._seed = probed, seed
        self.judges: JudgeCounts | None = None
        self._is_main = is_main
        self._say = say
        self._gaps = gaps
        self._seen: tuple[Rollout, list[float | None]] | None = None  # the last rollout

    def on_evaluation(self, answered: ScoredResponses) -> dict[str, float]:
        """Return the gold scores of responses to held-out prompts as metrics."""
        self._count_judges()
        return gold_metrics(self._gold(answered), answered.prompts)

    def __call__(self, rollout: Rollout) -> dict[str, float]:
        """Return gold scores as metrics; write samples every few rollouts."""
        if rollout.number == 0 and self._gated is not None:
            raw = torch.stack([row.rewards for row in rollout.rows])  # (B, K)
            check_scores(self._name, self._gated, raw)
        if rollout.number == 0 and self._probed:
            note_honest(rollout, self._probed, seed=self._seed)
        self._count_judges()
        gold = self._gold(rollout)
        self._seen = rollout, gold
        every = max(1, rollout.num_rollouts // _SNAPSHOTS)
        if rollout.number % every == 0 or rollout.number == rollout.num_rollouts - 1:
            self._keep_samples(rollout, gold)
        seen = self._gaps.look(rollout.rows, rollout.number, rollout.notes) if self._gaps else {}
        return gold_metrics(gold, rollout.prompts) | seen

    def on_sign(self, shown: Shown) -> None:
        """Say which sign of reward hacking shows, and keep samples of what it shows in."""
        warn_of_sign(shown)
        self._say(sign_line(shown))
        if self._seen is not None:
            self._keep_samples(*self._seen)

    def _count_judges(self) -> None:
        if self.judges is not None:
            self.judges.note()

    def _keep_samples(self, rollout: Rollout, gold: Sequence[float | None]) -> None:
        kept = rollout.notes.setdefault(_NOTE, [])
        if not kept or kept[-1]["rollout"] != rollout.number:
            kept.extend(_sample_lines(rollout, gold, self._tasks))
            self.write(rollout.notes)

    def write(self, notes: Mapping[str, Any]) -> None:
        """Write all samples so far: a resumed run has them from its checkpoint's notes."""
        if self._is_main:
            text = "".join(json.dumps(line) + "\n" for line in notes.get(_NOTE, []))
            self._path.write_text(text, encoding="utf-8")

    def _gold(self, scored: ScoredResponses) -> list[float | None]:
        texts = [row.response for row in scored.rows]
        return gold_scores(self._tasks, scored.prompts, texts)


def _sample_lines(
    rollout: Rollout, gold: Sequence[float | None], tasks: Mapping[str, Task]
) -> list[dict[str, Any]]:
    """Return the first rows of a rollout as JSON."""
    kl = kl_per_sequence(rollout.rows)
    return [
        {
            "rollout": rollout.number,
            "episode": rollout.number * len(rollout.rows),
            "prompt": _prompt_text(rollout.prompts[number].shown),
            "completion": row.response,
            "ended": row.has_eos,
            "scores": {
                name: value
                for name, value in zip(rollout.terms, row.rewards.tolist(), strict=True)
                if value == value
            },
            "score": _or_none(float(rollout.scores[number])) if rollout.terms else None,
            "kl": kl[number],
            "gold": gold[number],
            "source": source_in(rollout.prompts[number].columns),
            **({"logged": _as_json(row.logged)} if row.logged else {}),
            **({"turns": row.messages} if row.conversation and row.conversation.calls else {}),
            **_picture(tasks, rollout.prompts[number], row.response),
        }
        for number, row in enumerate(rollout.rows[:_ROWS])
    ]


def _picture(tasks: Mapping[str, Task], prompt: Prompt, response: str) -> dict[str, Any]:
    """Return what a response shows, where its prompt is of a task that has it be a picture."""
    task = tasks.get(source_in(prompt.columns) or "")
    levels = grey_levels(task, response) if task is not None else None
    return {} if levels is None else {"picture": levels}


def gold_scores(
    tasks: Mapping[str, Task], prompts: Sequence[Prompt], texts: Sequence[str]
) -> list[float | None]:
    """Return the gold score of each response; None where its prompt is not a task's."""
    scores: list[float | None] = []
    for prompt, text in zip(prompts, texts, strict=True):
        task = tasks.get(source_in(prompt.columns) or "")
        reference = prompt.columns.get(REFERENCE)
        scores.append(task.gold_score(text, reference) if task and reference is not None else None)
    return scores


def gold_metrics(gold: Sequence[float | None], prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return the mean gold score, of all and of each source."""
    by_source: dict[str, list[float]] = {}
    for score, prompt in zip(gold, prompts, strict=True):
        if score is not None:
            by_source.setdefault(f"gold/{source_in(prompt.columns)}", []).append(score)
    if not by_source:
        return {}
    every = [score for scores in by_source.values() for score in scores]
    means = {name: fmean(scores) for name, scores in by_source.items()}
    return {"gold/mean": fmean(every)} | means


def _prompt_text(prompt: Any) -> str:
    """Return a prompt as a person reads it."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(str(message["content"]) for message in prompt)


def _or_none(number: float) -> float | None:
    return number if number == number else None


def _as_json(logged: Mapping[str, Any]) -> Any:
    """Return what functions logged as JSON has it; other objects as they print."""
    return json.loads(json.dumps(plain(dict(logged)), default=str))
