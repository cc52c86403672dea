"""A recipe whose stages run as jobs of Slurm: what each job asks for, and what is wrong with that.

What `sbatch` itself says of its options is asked before anything is submitted
(pipeline/run/slurm/client.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.blocks import LaunchBlock
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

# What a job per stage is made of: order, where its output goes, how it is asked to stop.
_SET_HERE = (
    *("array", "chdir", "clusters", "dependency", "error", "hold", "input", "job-name"),
    *("kill-on-invalid-dep", "open-mode", "output", "parsable", "quiet", "test-only", "wait"),
    *("wrap", "help", "usage", "version"),
)
_SEVERAL_MACHINES = ("nodes", "ntasks")


def is_on_slurm(recipe: Recipe) -> bool:
    """Whether each stage of a recipe runs as a job of its own."""
    return recipe.launch.launcher == "slurm"


def sbatch_options(recipe: Recipe, name: str) -> dict[str, str | int | float | bool]:
    """Return the options of a stage's job: those at the top, and the stage's own over them."""
    own = recipe.stages[name].launch
    return {**recipe.launch.sbatch, **(own.sbatch if own else {})}


def option_words(recipe: Recipe, name: str) -> list[str]:
    """Return them as `sbatch` is given them."""
    return [
        f"--{key}" if value is True else f"--{key}={value}"
        for key, value in sbatch_options(recipe, name).items()
    ]


def in_its_job(recipe: Recipe) -> Recipe:
    """Return the recipe as the job of a stage runs it: nothing is left to submit."""
    stages = {
        name: config.model_copy(update={"launch": config.launch.in_its_job})
        if config.launch
        else config
        for name, config in recipe.stages.items()
    }
    return replace(recipe, launch=recipe.launch.in_its_job, stages=stages)


def check_slurm(recipe: Recipe) -> None:
    """Raise PosttrainError where only some stages are on Slurm, or an option is not the user's."""
    _check_options(recipe, recipe.launch, ("launch",))
    for name, config in recipe.stages.items():
        if config.launch is None:
            continue
        place: Location = ("stages", name, "launch")
        if is_on_slurm(recipe) and config.launch.launcher != "slurm":
            message = "the recipe runs on Slurm, where each stage is a job"
            hint = "write `{with: slurm, processes: N, sbatch: {...}}`, or leave it out"
            raise recipe.error(place, message, hint)
        if not is_on_slurm(recipe) and config.launch.launcher == "slurm":
            message = "one stage alone cannot run on Slurm"
            hint = "write `launch: slurm` at the top of the recipe, too"
            raise recipe.error(place, message, hint)
        _check_options(recipe, config.launch, place)
    if is_on_slurm(recipe) and recipe.jobs > 1:
        message = "`jobs` is for one machine; how many jobs run at once is Slurm's to say"
        raise recipe.error(("jobs",), message, "leave it out")


def _check_options(recipe: Recipe, block: LaunchBlock, location: Location) -> None:
    for key, value in block.sbatch.items():
        place: Location = (*location, "sbatch", key)
        if key in _SET_HERE:
            raise recipe.error(place, f"`{key}` is set for each stage's job", "leave it out")
        if value is False:
            raise recipe.error(place, f"`{key}` is false", "leave it out; `true` sets it")
        if key in _SEVERAL_MACHINES and str(value) != "1":
            message = f"`{key}` is {value}: a stage runs in one task on one machine"
            hint = "write `processes: N` beside `sbatch`, and `cpus-per-task` or `gpus`"
            raise recipe.error(place, message, hint)
