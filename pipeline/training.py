"""Drives an upstream Trainer so that a stage can be killed, resumed, stopped and watched.

Not a trainer: the loop is transformers' own. Here are the arguments it gets (the user's over ours,
the batch split derived), and the one callback that checkpoints, stops on request or on a non-finite
number, and writes metrics.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from pipeline.errors import InterruptedRunError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    from pipeline.recipe.config import TrainingStage
    from pipeline.stage import StageContext

_CHECKPOINTS_A_STAGE = 10
_CHECKPOINT_EVERY_S = 60.0
_LARGEST_DEFAULT_PER_DEVICE = 16
_LOG_STATE_FILE = "log_state.json"
_LOG_STATE = ("_tr_loss", "_globalstep_last_logged")


def split_batch(batch_size: int, *, per_device: int | None, world_size: int) -> tuple[int, int]:
    """Return (sequences per device and forward pass, passes per optimizer step).

    Without `per_device`: the largest divisor of a device's share up to 16. Raises ValueError when
    the global batch cannot be split evenly, since it would then mean something else.
    """
    share, rest = divmod(batch_size, world_size)
    if rest:
        raise ValueError(f"batch_size {batch_size} is not a multiple of {world_size} processes")
    if per_device is None:
        limit = min(share, _LARGEST_DEFAULT_PER_DEVICE)
        per_device = next(size for size in range(limit, 0, -1) if share % size == 0)
    steps, rest = divmod(share, per_device)
    if rest:
        raise ValueError(
            f"batch_size {batch_size} is not a multiple of {per_device} per device "
            f"x {world_size} processes"
        )
    return per_device, steps


def arguments(
    config_class: type[TrainingArguments],
    config: TrainingStage,
    context: StageContext,
    *,
    defaults: Mapping[str, Any],
    forced: Mapping[str, Any] | None = None,
) -> Any:
    """Return the upstream config object: `training_args` over `defaults`, under what is ours.

    Raises PosttrainError for values that upstream refuses.
    """
    given = {**defaults, **config.training_args}
    world_size = distributed.get_world_size() if distributed.is_initialized() else _world_size()
    try:
        per_device, accumulation = split_batch(
            config.batch_size,
            per_device=given.get("per_device_train_batch_size"),
            world_size=world_size,
        )
        return config_class(
            **{
                "report_to": "none",
                "save_strategy": "steps" if "save_steps" in given else "no",
                **given,
                "output_dir": str(context.checkpoints),
                "per_device_train_batch_size": per_device,
                "gradient_accumulation_steps": accumulation,
                "seed": context.seed,
                "bf16": config.precision == "bf16",
                "fp16": config.precision == "fp16",
                "save_total_limit": None,  # ours are dropped only after a newer one verifies
                "logging_nan_inf_filter": False,  # on, it logs NaN as 0.0 and trains on
                "disable_tqdm": True,
                "remove_unused_columns": False,
                "push_to_hub": False,
                **(forced or {}),
            }
        )
    except (ValueError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise PosttrainError(f"{context.name}: training_args", first) from error


def _world_size() -> int:
    from accelerate import PartialState

    return PartialState().num_processes


def train(
    trainer: Trainer,
    context: StageContext,
    *,
    keeps_own_cadence: bool,
    carried: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train to the last step, from the newest whole checkpoint if there is one; return metrics.

    keeps_own_cadence: whether the user gave a save cadence; else a checkpoint every tenth of the
    steps, at most one a minute. carried: attributes of the trainer that feed its log lines and that
    upstream forgets on resume. Raises InterruptedRunError when asked to stop (a checkpoint is then
    there) and PosttrainError when a loss or gradient is not finite.
    """
    supervisor = Supervisor(
        context, trainer, keeps_own_cadence=keeps_own_cadence, carried=(*_LOG_STATE, *carried)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(supervisor)
    finished = _finished_step(context)
    if finished is not None:
        # Upstream trains one step more each time a finished run is resumed off an epoch boundary.
        trainer._load_from_checkpoint(str(context.resume_from))  # pyright: ignore[reportPrivateUsage]
        return {"steps": finished, **supervisor.last_logged()}
    started_s = time.monotonic()
    trainer.train(resume_from_checkpoint=str(context.resume_from) if context.resume_from else None)
    if supervisor.was_stopped:
        raise InterruptedRunError(
            context.name,
            f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}",
            "run again to go on from there",
        )
    return {
        "steps": trainer.state.global_step,
        **supervisor.last_logged(),
        "train_seconds": round(time.monotonic() - started_s, 1),
    }


def _finished_step(context: StageContext) -> int | None:
    """Return the last step if the checkpoint to resume from is at the end of training already."""
    if context.resume_from is None:
        return None
    state = json.loads((context.resume_from / "trainer_state.json").read_text())
    return state["global_step"] if state["global_step"] >= state["max_steps"] else None


@dataclass
class _Due:
    """What all ranks agreed on after a step."""

    stop: bool
    save: bool


class Supervisor(TrainerCallback):
    """Checkpoints that count, clean stops, metrics by line, and a stop at the first bad number."""

    def __init__(
        self,
        context: StageContext,
        trainer: Trainer,
        *,
        keeps_own_cadence: bool,
        carried: tuple[str, ...],
    ) -> None:
        self._context = context
        self._carried = carried
        self._trainer = trainer
        self._keeps_own_cadence = keeps_own_cadence
        self._metrics_path = context.out / "metrics.jsonl"
        self._last_saved_s = time.monotonic()
        self._note = ""
        self.was_stopped = False

    def last_logged(self) -> dict[str, float]:
        """Return loss and token accuracy of the last logging step."""
        if not self._metrics_path.exists():
            return {}
        lines = self._metrics_path.read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1]) if lines else {}
        return {key: last[key] for key in ("loss", "mean_token_accuracy") if key in last}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Bring back what log lines are made of, so that a resumed run writes the same ones."""
        if self._context.resume_from is not None:
            saved = json.loads((self._context.resume_from / _LOG_STATE_FILE).read_text())
            for name in self._carried:
                current = getattr(self._trainer, name)
                setattr(self._trainer, name, _unpacked(saved[name], current))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the first step before it is over: it is the slowest."""
        if state.global_step == 0:
            self._context.progress("step", 0, state.max_steps)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop before a non-finite loss or gradient reaches the weights."""
        loss = self._trainer._tr_loss  # pyright: ignore[reportPrivateUsage]
        gradients = [
            parameter.grad
            for parameter in self._trainer.model.parameters()  # pyright: ignore[reportOptionalMemberAccess]
            if parameter.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss).all()):
            what = "gradient" if bool(torch.isfinite(loss).all()) else "loss"
            raise PosttrainError(
                self._context.name,
                f"the {what} is not finite at step {state.global_step + 1}",
                "lower `learning_rate`, or look at the data with `posttrain check --show-mask`",
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save or stop when it is due; show how far training is."""
        self._context.progress("step", state.global_step, state.max_steps, self._note)
        due = self._due(state)
        if due.save or due.stop:
            control.should_save = True
        if due.stop:
            control.should_training_stop = True
            self.was_stopped = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Make the checkpoint that was just written count."""
        if distributed.is_initialized():
            distributed.barrier()  # every rank has written its random state
        folder = self._context.checkpoints / f"checkpoint-{state.global_step}"
        if self._context.is_main:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; never read again
            saved = {name: _packed(getattr(self._trainer, name)) for name in self._carried}
            (folder / _LOG_STATE_FILE).write_text(json.dumps(saved), encoding="utf-8")
            self._context.seal(folder, state.global_step, state.max_steps)
        self._last_saved_s = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Append a line to metrics.jsonl."""
        if not logs or "train_runtime" in logs or not self._context.is_main:
            return
        line = {"step": state.global_step, **logs}
        with self._metrics_path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if "loss" in logs:
            self._note = f"loss {logs['loss']:.3f}"

    def _due(self, state: TrainerState) -> _Due:
        """Decide on saving and stopping, all ranks alike."""
        is_last = state.global_step >= state.max_steps
        every = max(1, state.max_steps // _CHECKPOINTS_A_STAGE)
        waited_s = time.monotonic() - self._last_saved_s
        save = (
            not self._keeps_own_cadence
            and not is_last
            and state.global_step % every == 0
            and waited_s >= _CHECKPOINT_EVERY_S
        )
        stop = self._context.should_stop() and not is_last
        if distributed.is_initialized() and distributed.get_world_size() > 1:
            flags = torch.tensor([int(stop), int(save)], device=self._trainer.args.device)
            distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
            stop, save = bool(flags[0]), bool(flags[1])
        return _Due(stop, save)


def _packed(value: Any) -> Any:
    """Return a trainer's log state as JSON; a float32 survives as a double exactly."""
    return {"tensor": value.item()} if isinstance(value, torch.Tensor) else value


def _unpacked(saved: Any, current: Any) -> Any:
    """Return saved log state in the shape of the current one; dicts are filled, not replaced."""
    if isinstance(current, torch.Tensor):
        return torch.tensor(saved["tensor"], dtype=current.dtype, device=current.device)
    if isinstance(current, dict):
        for key, value in saved.items():
            current[key] = _unpacked(value, current.get(key))
        return current
    return saved
