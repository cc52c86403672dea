"""Trackers (TensorBoard, trackio, wandb) write into the stage's folder, and so into its artifact.

`report_to` says who is told; how is upstream's. Each stage is a run of its own under its name, in
the project named like the recipe, so that the stages of a run stand side by side. What the user has
set in the environment or in `training_args` takes precedence.
"""

from __future__ import annotations

import copy
import json
import logging
import netrc
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from pipeline.files.names import METRICS

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    from pipeline.config.stage import StageContext

_WANDB_HOST = "api.wandb.ai"
_FOLDERS = {
    "tensorboard": "TENSORBOARD_LOGGING_DIR",
    "trackio": "TRACKIO_DIR",
    "wandb": "WANDB_DIR",
}
# What trackers read from the environment, and what the user had there before any stage ran.
_READ = (*_FOLDERS.values(), "WANDB_PROJECT", "WANDB_MODE", "WANDB_SILENT", "WANDB_CONSOLE")
_OF_THE_USER = {name: os.environ[name] for name in _READ if name in os.environ}


def run_names(context: StageContext) -> dict[str, str]:
    """Return the names of a stage's run and project as upstream's arguments.

    One of several seeds is named so: `sft-seed-3`.
    """
    project, _, seed = context.run.partition("/")
    run_name = "-".join(filter(None, (context.name, seed)))
    return {"run_name": run_name, **({"project": project} if project else {})}


def write_into(context: StageContext, project: str) -> None:
    """Have every tracker write into the stage's folder; called before a trainer is made."""
    folder = context.out.absolute()
    variables = {
        _FOLDERS["tensorboard"]: str(folder / "tensorboard"),
        _FOLDERS["trackio"]: str(folder / "trackio"),
        _FOLDERS["wandb"]: str(folder),  # wandb makes a folder `wandb` in it
        "WANDB_PROJECT": project,
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        **({} if _has_wandb_key() else {"WANDB_MODE": "offline"}),
    }
    for name, value in variables.items():
        os.environ[name] = _OF_THE_USER.get(name, value)
    # It reads its folder when it is imported; an earlier stage of this process may have done so.
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]


@contextmanager
def end_trackers(trainer: Trainer, context: StageContext) -> Generator[None]:
    """Replay a resumed training's earlier logs to the trackers; end their runs with the training.

    Without an end wandb would add the next stage to this run.
    """
    trackers = _trackers_of(trainer, context)
    if trackers and context.resume_from is not None:
        trainer.add_callback(_Replay(trackers, context.out / METRICS))
    try:
        yield
    finally:
        wandb: Any = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish()
            wandb.teardown()  # its settings, the folder among them, are those of the first run
        _drop_links(context.out / "wandb")


def replay_to_trackers(trainer: Trainer, context: StageContext) -> None:
    """Replay all logs to the trackers where training had ended before it was stopped."""
    handler = trainer.callback_handler
    trackers = _trackers_of(trainer, context)
    parts = {"model": trainer.model, "processing_class": handler.processing_class}
    with end_trackers(trainer, context):
        for tracker in trackers:
            tracker.on_train_begin(trainer.args, trainer.state, trainer.control, **parts)
        replay = _Replay(trackers, context.out / METRICS)
        replay.on_train_begin(trainer.args, trainer.state, trainer.control, **parts)
        for tracker in trackers:
            tracker.on_train_end(trainer.args, trainer.state, trainer.control, **parts)


class _Replay(TrainerCallback):
    """Tells trackers what was logged before a stop: their files went back to the checkpoint too."""

    def __init__(self, trackers: list[TrainerCallback], metrics: Path) -> None:
        self._trackers = trackers
        self._metrics = metrics

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Log every line that metrics.jsonl has up to the checkpoint, at its step."""
        if not state.is_world_process_zero or not self._metrics.exists():
            return
        for line in self._metrics.read_text(encoding="utf-8").splitlines():
            logs = json.loads(line)
            then = copy.copy(state)
            then.global_step = logs.pop("step")
            for tracker in self._trackers:
                tracker.on_log(args, then, control, logs=dict(logs), **parts)


def _trackers_of(trainer: Trainer, context: StageContext) -> list[TrainerCallback]:
    """Return the trackers that write into the stage's folder."""
    folder = context.out.absolute()
    here = {
        INTEGRATION_TO_CALLBACK[name]
        for name, variable in _FOLDERS.items()
        if Path(os.environ.get(variable, "/")).is_relative_to(folder)
    }
    return [callback for callback in trainer.callback_handler.callbacks if type(callback) in here]


def _has_wandb_key() -> bool:
    """Whether wandb can log in without asking; without, it writes files to be sent later."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    with suppress(OSError, netrc.NetrcParseError, RuntimeError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_WANDB_HOST) is not None
    return False


def _drop_links(folder: Path) -> None:
    """Remove the links that wandb leaves beside its files; an artifact holds files alone."""
    if not folder.is_dir():
        return
    for path in folder.rglob("*"):
        if path.is_symlink():
            path.unlink()
    logging.getLogger(__name__).info("wandb's files are in %s; `wandb sync` sends them", folder)
