"""`posttrain track`: what finished stages logged, written for a tracker afterwards, side by side.

For stages that ran before a tracker was named, and for trackio, which compares runs of one folder.
Reads metrics.jsonl; changes no result.
"""

from __future__ import annotations

import json
import os
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipeline.errors import PosttrainError, closest
from pipeline.files.names import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipeline.plan.plan import Plan

Tracker = Literal["tensorboard", "trackio"]


def tell_tracker(plan: Plan, tracker: str, folder: Path) -> list[str]:
    """Write the log lines of every finished stage into a folder; return how many of which stage.

    Each stage is a run under its name, in a project named like the recipe. Raises PosttrainError
    for a tracker that is not known or not installed, and where no stage has logged anything.
    """
    writers: Mapping[str, Callable[[Plan, Path, dict[str, list[dict[str, Any]]]], None]] = {
        "tensorboard": _to_tensorboard,
        "trackio": _to_trackio,
    }
    if tracker not in writers:
        known = get_args(Tracker)
        hint = closest(tracker, known) or f"there are {' and '.join(known)}"
        raise PosttrainError("--to", f"`{tracker}` is not one of these", hint)
    if find_spec(tracker) is None:
        raise PosttrainError(
            "--to", f"{tracker} is not installed", f"pip install 'posttrain[{tracker}]'"
        )
    logged = {
        planned.name: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for planned in plan.stages
        if planned.artifact is not None and (path := planned.path / METRICS).is_file()
    }
    if not logged:
        hint = f"`posttrain run {plan.recipe.path}` trains them"
        raise PosttrainError(str(plan.recipe.path), "no stage has logged anything yet", hint)
    folder.mkdir(parents=True, exist_ok=True)
    writers[tracker](plan, folder, logged)
    return [f"{name}: {len(lines)} lines" for name, lines in logged.items()]


def _to_tensorboard(_: Plan, folder: Path, logged: dict[str, list[dict[str, Any]]]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name, lines in logged.items():
        with SummaryWriter(log_dir=str(folder / name)) as writer:
            for line in lines:
                for key, value in _tracker_names(line).items():
                    writer.add_scalar(key, value, line["step"])


def _to_trackio(plan: Plan, folder: Path, logged: dict[str, list[dict[str, Any]]]) -> None:
    os.environ["TRACKIO_DIR"] = str(folder.absolute())  # which it reads when it is imported
    import trackio  # pyright: ignore[reportMissingImports]

    with redirect_stdout(StringIO()):  # advice for scripts
        for name, lines in logged.items():
            trackio.init(project=plan.recipe.name, name=name, auto_log_cpu=False)
            for line in lines:
                trackio.log(_tracker_names(line), step=line["step"])
            trackio.finish()


def _tracker_names(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line's numbers under the names that trackers get while training: `train/loss`."""
    from transformers.integrations.integration_utils import rewrite_logs

    numbers = {
        key: value
        for key, value in line.items()
        if key != "step" and isinstance(value, int | float)
    }
    return dict(rewrite_logs(numbers))
