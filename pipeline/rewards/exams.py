"""The exams of a stage, before it does anything costly: all its judges and reward models.

What came of them is kept beside the stage's checkpoints, so that a killed stage goes on without
another exam, and with the same figures. Taken by the first process alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.rewards.judge_exam import examine_judge
from pipeline.rewards.licence import Examined, examine_reward_model, licence_metrics
from pipeline.store.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.judge import JudgeBlock
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import StageContext
    from reward.judges.judge import Judge

_KEPT = "licences.json"


def examine_terms(
    terms: Sequence[RewardBlock],
    sources: Mapping[str, str | None],
    context: StageContext,
    judge_of: Callable[[RewardBlock], Judge],
    *,
    is_gated: bool = True,
) -> dict[str, Any]:
    """Return the exams of the terms as metrics; PosttrainError for the first that is refused.

    sources: of the prompts, with the task of each that is one. is_gated: False where the stage lets
    reward models through that have no `licence:` of their own. A term of weight 0 rewards nothing,
    and takes no exam.
    """

    def examine() -> list[Examined]:
        examined: list[Examined] = []
        for term in terms:
            tasks = [task for source, task in sources.items() if task and term.is_for(source, ())]
            is_waived = not is_gated and term.licence is None
            if not term.weight:
                continue
            for model, name in zip(term.models, term.model_names, strict=True):
                examined.append(
                    examine_reward_model(term, model, name, tasks, context, is_waived=is_waived)
                )
            if term.judge is not None:
                judge = judge_of(term)
                licence = term.judge.licence
                examined.append(
                    examine_judge(term.label, judge, licence, tasks, context, compares=False)
                )
        return examined

    return _once(context, examine)


def examine_comparing(
    block: JudgeBlock,
    judge: Judge,
    tasks: Sequence[str],
    context: StageContext,
) -> dict[str, Any]:
    """Return the exam of a judge that compares responses; PosttrainError where it is refused."""
    return _once(
        context,
        lambda: [examine_judge(block.label, judge, block.licence, tasks, context, compares=True)],
    )


def _once(context: StageContext, examine: Callable[[], list[Examined]]) -> dict[str, Any]:
    """Return the exams as metrics: those of the start that was killed, where there are some."""
    if not context.is_main:
        return {}
    path = context.checkpoints / _KEPT
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    metrics = licence_metrics(examine())
    if metrics:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, metrics)
    return metrics
