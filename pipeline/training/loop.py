"""Runs an upstream Trainer to its last step, from wherever a killed run stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerState,
)

from pipeline.errors import InterruptedRunError
from pipeline.models.quantised import train_in_fp32
from pipeline.models.training import check_adapter
from pipeline.training.arguments import refusals
from pipeline.training.rows import NumberedRows
from pipeline.training.sharding import Gathering, splits_weights
from pipeline.training.supervisor import Supervisor, find_best
from pipeline.training.trackers import end_trackers, replay_to_trackers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import Trainer

    from pipeline.config.stage import StageContext
    from pipeline.config.training_stage import TrainingStage


def train(
    trainer: Trainer,
    config: TrainingStage,
    context: StageContext,
    *,
    rows: Sequence[str],
    carried: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train to the last step, from the newest whole checkpoint if there is one; return metrics.

    Unless the user sets `save_steps`: a checkpoint every tenth of the steps, at most one a minute.
    rows: the training rows' names by number (the column `row` of both datasets), for errors.
    carried: attributes of the trainer that feed its log lines and that upstream forgets on resume.
    Where weights are split over processes, the trainer's model is a plain one afterwards on the
    first of them, and of no use on the others.
    Raises InterruptedRunError when asked to stop (a checkpoint is then there) and PosttrainError
    when a loss or gradient is not finite.
    """
    module: Any = getattr(trainer.model, "policy", trainer.model)
    check_adapter(module, config, context)
    if config.lora is not None and config.lora.load_in_4bit:
        train_in_fp32(module)
    supervisor = Supervisor(
        context,
        trainer,
        keeps_own_cadence="save_steps" in config.training_args,
        carried=carried,
        rows=rows,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if config.early_stopping is not None:
        stopping = config.early_stopping
        trainer.add_callback(EarlyStoppingCallback(stopping.patience, stopping.threshold))
    trainer.add_callback(supervisor)
    trainer.data_collator = NumberedRows(trainer.data_collator)
    finished = _load_finished(trainer, context)
    if finished is not None:
        replay_to_trackers(trainer, context)
        return {"steps": finished, **_best(trainer), **supervisor.last_logged()}
    checkpoint = str(context.resume_from) if context.resume_from else None
    gathering = Gathering(trainer, context) if splits_weights(context) else None
    with refusals(context), end_trackers(trainer, context):
        output = trainer.train(resume_from_checkpoint=checkpoint)
    if supervisor.was_stopped:
        raise InterruptedRunError(
            context.name,
            f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}",
            "run again to go on from there",
        )
    if gathering is not None:
        gathering.finish()
    return {
        "steps": trainer.state.global_step,
        **_best(trainer),
        **supervisor.last_logged(),
        "train_seconds": output.metrics["train_runtime"],
    }


def _best(trainer: Trainer) -> dict[str, Any]:
    """Return the step of the best evaluation, if one was looked for."""
    state = trainer.state
    return {} if state.best_metric is None else {"best_step": state.best_global_step}


def _load_finished(trainer: Trainer, context: StageContext) -> int | None:
    """Load a checkpoint that is at the end of training already, and return its step; else None.

    Upstream trains one more step whenever a finished run is resumed off an epoch boundary.
    """
    checkpoint = context.resume_from
    if checkpoint is None:
        return None
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    if state["global_step"] < state["max_steps"]:
        return None
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    find_best(trainer.state, context)
    trainer._load_from_checkpoint(str(checkpoint))  # pyright: ignore[reportPrivateUsage]
    if trainer.args.load_best_model_at_end and state["best_model_checkpoint"]:
        trainer._load_best_model()  # pyright: ignore[reportPrivateUsage]
    return state["global_step"]
