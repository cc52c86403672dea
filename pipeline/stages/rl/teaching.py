"""The teacher of a `distill` stage: loaded, and how far its student is from it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.rewards.vocabulary import check_teacher
from pipeline.rl.evaluation import evaluate_prompts

if TYPE_CHECKING:
    from pipeline.config.stage import StageContext
    from pipeline.stages.rl.assembly import Assembly
    from pipeline.stages.rl.distill_config import DistillStage

_LOG = logging.getLogger(__name__)


def load_teacher(config: DistillStage, context: StageContext) -> Any:
    """Return the teacher; refuse one to which an id of the student's is another token."""
    source = context.model(config.teacher)
    own, student = load_tokenizer(source), load_tokenizer(context.model(config.model))
    try:
        check_teacher(config.teacher, own, student)
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    if own.chat_template != student.chat_template:
        _LOG.warning(
            "the teacher `%s` has another chat template than its student, by which it is asked",
            config.teacher,
        )
    return load_policy(source)


def measure_distance(stage: Assembly, context: StageContext) -> dict[str, float]:
    """Return how far the student is from its teacher on held-out prompts, in nats a response.

    Called on all processes. Nothing where there are no such prompts.
    """
    if not stage.held_out:
        return {}
    trainer = stage.trainer
    context.progress("distance to the teacher", 0, len(stage.held_out))
    found = evaluate_prompts(
        trainer.collector,
        stage.held_out,
        at_once=trainer.args.evaluated_at_once,
        state=trainer.state,
    )
    return {"teacher_kl": found["teacher/kl"]}
