"""Does what a plan will write fit on the disk? Nothing is loaded for it.

A training stage writes its result, 4 bytes for each parameter it trains, and meanwhile checkpoints
with the two moments of Adam as well: the newest two, one that is being written, and the best one
where that is asked for. Checkpoints go when their stage ends; results and encoded rows stay.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.training_stage import TrainingStage
from pipeline.files.sizes import tree_bytes
from pipeline.plan.encoded_size import encoded_bytes
from pipeline.plan.estimate import estimates
from pipeline.plan.plan import Plan, PlannedStage
from pipeline.plan.sizes import begins_with
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.store import checkpoints
from pipeline.store.store import Working

_WEIGHT_BYTES = 4
_CHECKPOINT_BYTES = 3 * _WEIGHT_BYTES  # a weight and its two moments
_CHECKPOINTS = checkpoints.KEPT + 1


@dataclass(frozen=True)
class DiskSpace:
    """needed_bytes: at the fullest moment, beside what is there; of stages whose size is known.

    is_all: whether it is known of all. free_bytes: of the disk that `folder` is on.
    """

    needed_bytes: int
    free_bytes: int
    is_all: bool
    folder: Path

    def warning(self) -> str | None:
        """Return what to tell the user; None if it fits."""
        if self.needed_bytes <= self.free_bytes:
            return None
        more = "up to about" if self.is_all else "more than"
        needed, free = _in_words(self.needed_bytes), _in_words(self.free_bytes)
        return f"what is to run needs {more} {needed} in {self.folder}, where {free} are free"


def disk_space(plan: Plan, names: Collection[str] | None = None) -> DiskSpace:
    """Return what stages that are not there yet will take; names: those that run, else all."""
    sizes, encoded = estimates(plan), set[str]()
    needed_bytes = results_bytes = 0
    is_all = True
    for planned in plan.stages:
        if names is None and planned.artifact is not None:
            continue
        if names is not None and planned.name not in names:
            continue
        if isinstance(planned.config, TrainingStage):
            read = str([planned.kind, planned.config.sources, planned.config.eval_data])
            if read not in encoded:  # once for all stages that read the same
                encoded.add(read)
                results_bytes += encoded_bytes(planned.config, plan.recipe.places)
        if isinstance(planned.config, TrainingStage):
            trained = sizes[planned.name].trained_parameters
            is_all &= trained is not None
            results_bytes += _WEIGHT_BYTES * (trained or 0)
            peak_bytes = results_bytes + _checkpoints_bytes(plan, planned, trained or 0)
        else:
            if planned.kind == "merge":
                parameters = begins_with(plan, planned.config).parameters
                is_all &= parameters is not None
                results_bytes += _WEIGHT_BYTES * (parameters or 0)
            peak_bytes = results_bytes
        needed_bytes = max(needed_bytes, peak_bytes)
    runs = plan.stages[0].path.parent.parent
    above = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    return DiskSpace(needed_bytes, shutil.disk_usage(above).free, is_all, runs)


def _checkpoints_bytes(plan: Plan, planned: PlannedStage, trained: int) -> int:
    """Return what a training's checkpoints will take at most, beside those that are there."""
    config = planned.config
    assert isinstance(config, TrainingStage)
    keeps_best = bool(trainer_arguments(plan.recipe, config).get("load_best_model_at_end"))
    working = Working(planned.path.parent / ".working" / planned.path.name)
    there_bytes = tree_bytes(working.path) if working.path.is_dir() else 0
    return max(0, _CHECKPOINT_BYTES * trained * (_CHECKPOINTS + keeps_best) - there_bytes)


def _in_words(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"
