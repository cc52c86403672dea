"""Answers to free-form prompts: how they are named among results, and what stands side by side.

A prompt that several rewards judge is an item of several tasks, one a reward: so each has a mean,
differences and win rates of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eval.results import REWARD, WRITTEN, ItemResult

NUM_SHOWN = 10
ALL_REWARDS = "all rewards"  # the weighted sum of several
_BY = " by "


@dataclass(frozen=True)
class Answer:
    """What one model wrote. rewards: what each reward makes of it; None where it has no say."""

    text: str
    tokens: int
    reason: str
    rewards: dict[str, float | None] = field(default_factory=dict[str, "float | None"])


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what each model answered to it, by name. source: as the recipe names it."""

    source: str
    item: str
    prompt: str
    answers: dict[str, Answer]


def judged_task(source: str, reward: str) -> str:
    """Return the name of the task that the prompts of a source are to one reward."""
    return f"{source}{_BY}{reward}"


def gather_answers(results: Mapping[str, Sequence[ItemResult]]) -> list[Prompt]:
    """Return the first prompts of each source with all models' answers, of samples the first."""
    prompts: dict[tuple[str, str], Prompt] = {}
    shown: dict[str, int] = {}
    for model, items in results.items():
        for item in items:
            if item.metric not in (REWARD, WRITTEN) or item.sample:
                continue
            source, reward = item.task, ""
            if item.metric == REWARD:
                source, _, reward = item.task.rpartition(_BY)
            key = (source, item.item)
            if key not in prompts:
                if shown.get(source, 0) == NUM_SHOWN:
                    continue
                shown[source] = shown.get(source, 0) + 1
                prompts[key] = Prompt(source, item.item, item.prompt, {})
            answers = prompts[key].answers
            if model not in answers:
                answers[model] = Answer(item.response, item.num_tokens, item.reason)
            if reward:
                answers[model].rewards[reward] = item.score
    return list(prompts.values())
