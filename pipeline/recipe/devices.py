"""How many GPUs each stage takes where stages run side by side: what a recipe says of it.

Which ones is said when a stage begins (pipeline/run/schedule.py). What there are: machine.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.measuring_stage import MeasuringStage
from pipeline.recipe.checks.judges import asked_blocks
from pipeline.recipe.checks.licences import reward_terms
from pipeline.recipe.launching import processes_of
from pipeline.stages import stage_of
from pipeline.stages.compare import CompareConfig
from pipeline.stages.labelling.config import LabelConfig

if TYPE_CHECKING:
    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.recipe import Recipe

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Of vLLM's server, which takes as many GPUs as these multiply to.
_SERVER_SIZES = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")


def num_devices(recipe: Recipe, name: str) -> int:
    """Return how many GPUs a stage takes: one for each process, or each part of a server.

    0 for what computes on none, and for what says itself which it takes (`gpu_ids`, `use_cpu`).
    """
    config = recipe.stages[name]
    if not _uses_device(recipe, config):
        return 0
    processes = processes_of(recipe, config)
    return 0 if VISIBLE in processes.environment else max(processes.count, _of_server(config))


def _uses_device(recipe: Recipe, config: StageConfig) -> bool:
    if not stage_of(config.stage).uses_device:
        return False
    if isinstance(config, CompareConfig):
        entrants = (config.baseline, *config.candidates)
        return not all(_is_measured(recipe, one) for one in entrants) or _asks_here(config)
    return not isinstance(config, LabelConfig) or _asks_here(config)


def _is_measured(recipe: Recipe, entrant: str) -> bool:
    """Whether the results of a stage are taken as they are, and no model is asked."""
    stage = recipe.stages.get(entrant.removeprefix("$")) if entrant.startswith("$") else None
    return stage is not None and stage_of(stage.stage).produces == "evaluation"


def _asks_here(config: StageConfig) -> bool:
    """Whether a model in this process judges, or code of the user's that may ask one."""
    judged = any(block.model is not None for _, block in asked_blocks(config))
    return judged or any(term.models or term.use for _, term in reward_terms(config))


def _of_server(config: StageConfig) -> int:
    """Return how many GPUs the vLLM server takes that a stage starts."""
    block = (
        config.answers if isinstance(config, MeasuringStage) else getattr(config, "rollout", None)
    )
    count = 1
    for option in _SERVER_SIZES:
        size = block.server_args.get(option) if block is not None else None
        count *= size if isinstance(size, int) and size > 0 else 1
    return count
