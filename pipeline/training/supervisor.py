"""The callback that watches a training: whole checkpoints, clean stops, a line of metrics per log.

It stops at the first number that is not finite, before that reaches the weights.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from transformers import TrainerCallback

from pipeline.errors import PosttrainError
from pipeline.files.names import METRICS
from pipeline.training.sharding import check_sharded, whole_tensor
from pipeline.training.zero import uses_deepspeed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    from pipeline.config.stage import StageContext

_CHECKPOINTS_A_STAGE = 10
_CHECKPOINT_EVERY_S = 60.0
_LOG_STATE_FILE = "log_state.json"
_LOG_STATE = ("_tr_loss", "_globalstep_last_logged")
_HEADLINES = (
    *("loss", "mean_token_accuracy", "accuracy", "rewards/accuracies", "eval_loss"),
    *("objective/scores", "objective/kl", "gold/mean"),
    *("eval_objective/scores", "eval_objective/kl", "eval_gold/mean"),
)
_NOTED = {"loss": "loss", "objective/scores": "score", "objective/kl": "KL"}
_ROWS_NAMED = 8


@dataclass
class _Due:
    """What all ranks agreed on after a step."""

    stop: bool
    save: bool


class Supervisor(TrainerCallback):
    """Saves whole checkpoints, stops cleanly, logs metrics, and stops at the first bad number."""

    def __init__(
        self,
        context: StageContext,
        trainer: Trainer,
        *,
        keeps_own_cadence: bool,
        carried: tuple[str, ...],
        rows: Sequence[str] = (),
    ) -> None:
        self._context = context
        self._carried = (*_LOG_STATE, *carried)
        self._rows = rows
        self._trainer = trainer
        self._keeps_own_cadence = keeps_own_cadence
        self._metrics_path = context.out / METRICS
        self._last_saved_s = time.monotonic()
        self._note = ""
        self.was_stopped = False

    def last_logged(self) -> dict[str, float]:
        """Return the last logged value of each headline metric."""
        if not self._metrics_path.exists():
            return {}
        last: dict[str, float] = {}
        for line in self._metrics_path.read_text(encoding="utf-8").splitlines():
            last |= json.loads(line)
        return {key: last[key] for key in _HEADLINES if key in last}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Bring back what log lines are made of, so that a resumed run writes the same ones."""
        check_sharded(self._trainer, self._context)
        if self._context.resume_from is not None:
            find_best(state, self._context)
            saved = json.loads((self._context.resume_from / _LOG_STATE_FILE).read_text())
            for name in self._carried:
                current = getattr(self._trainer, name)
                setattr(self._trainer, name, _from_json(saved[name], current))

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
        # In fp16 gradients overflow now and then; Accelerate's scaler then leaves the step out.
        norm = torch.zeros(()) if args.fp16 else self._gradient_norm(args)
        if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss).all()):
            what = "gradient" if bool(torch.isfinite(loss).all()) else "loss"
            raise PosttrainError(
                self._context.name,
                f"the {what} is not finite at step {state.global_step + 1}{self._step_rows()}",
                "lower `learning_rate`, or look at these rows with `posttrain check --show-mask`",
            )

    def _gradient_norm(self, args: TrainingArguments) -> torch.Tensor:
        """Return the norm that upstream clips by; computed anew only where nothing is clipped."""
        norm = getattr(self._trainer, "step_norm", None) if args.max_grad_norm else None
        if isinstance(norm, torch.Tensor):
            return norm
        if uses_deepspeed(self._context):  # which has stepped by now; nothing is saved yet
            engine: Any = self._trainer.deepspeed
            return torch.as_tensor(engine.get_global_grad_norm())
        module: Any = self._trainer.model
        norm = torch.nn.utils.get_total_norm(
            [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        )
        return whole_tensor(norm)

    def _step_rows(self) -> str:
        """Say which rows this process trained on in this step."""
        numbers: Sequence[int] = getattr(self._trainer, "step_rows", ())
        names: list[str] = [self._rows[number] for number in numbers if number < len(self._rows)]
        if not names:
            return ""
        more = f" and {len(names) - _ROWS_NAMED} more" if len(names) > _ROWS_NAMED else ""
        return f", on {', '.join(names[:_ROWS_NAMED])}{more}"

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save or stop when it is due; show how far training is."""
        self._context.progress("step", state.global_step, state.max_steps, self._note)
        is_last = state.global_step >= state.max_steps
        if is_last and state.max_steps < state.logging_steps and args.logging_strategy == "steps":
            control.should_log = True  # else a short training would have no line at all
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
            saved = {name: _to_json(getattr(self._trainer, name)) for name in self._carried}
            (folder / _LOG_STATE_FILE).write_text(json.dumps(saved), encoding="utf-8")
            best = state.best_model_checkpoint if args.load_best_model_at_end else None
            self._context.seal(
                folder, state.global_step, state.max_steps, Path(best) if best else None
            )
        self._last_saved_s = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Append one line to metrics.jsonl."""
        if not logs or "train_runtime" in logs or not self._context.is_main:
            return
        steady = {key: value for key, value in logs.items() if not _is_clock(key)}
        line = {"step": state.global_step, **steady}
        with self._metrics_path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        named = [name for name in _NOTED if name in logs]
        if named:
            self._note = ", ".join(f"{_NOTED[name]} {logs[name]:.3f}" for name in named)

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


def find_best(state: TrainerState, context: StageContext) -> None:
    """Point the state at the best checkpoint: its folder may have moved since it was saved."""
    if state.best_model_checkpoint is not None:
        name = Path(state.best_model_checkpoint).name
        state.best_model_checkpoint = str(context.checkpoints / name)


def _is_clock(key: str) -> bool:
    """Whether a metric measures time, and so differs in every run."""
    return key.endswith(("_runtime", "_per_second")) or key.startswith("time/")


def _to_json(value: Any) -> Any:
    """Return a trainer's log state as JSON; a float32 survives as a double exactly."""
    return {"tensor": value.item()} if isinstance(value, torch.Tensor) else value


def _from_json(saved: Any, current: Any) -> Any:
    """Return saved log state in the shape of the current one; dicts are filled, not replaced."""
    if isinstance(current, torch.Tensor):
        return torch.tensor(saved["tensor"], dtype=current.dtype, device=current.device)
    if isinstance(current, dict):
        for key, value in saved.items():
            current[key] = _from_json(value, current.get(key))
        return current
    return saved
