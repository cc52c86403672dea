"""What can be known to be wrong with a scaling law's runs, before any of them is trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.config.new_model import NewModelBlock
from pipeline.data.reading.data_blocks import keeps_texts
from pipeline.stages.evaluate import EvaluateConfig
from pipeline.stages.pretrain import PretrainConfig
from pipeline.stages.scaling_law import ScalingLawConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe


def check_scaling_law(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError, with its place, for runs that no law can be fitted to.

    Stages of a different kind have nothing to check.
    """
    config = recipe.stages[name]
    if not isinstance(config, ScalingLawConfig):
        return
    for key, references in (("runs", config.runs), ("evaluations", config.evaluations)):
        _check_names(recipe, ("stages", name, key), references)
    runs = [
        _check_run(recipe, ("stages", name, "runs", number), reference)
        for number, reference in enumerate(config.runs)
    ]
    _check_tokenizers(recipe, name, config, runs)
    _check_texts(recipe, name, config, runs)
    _check_held_out(recipe, name, config)
    _check_enough(recipe, name, config, runs)
    for number, reference in enumerate(config.evaluations):
        _check_evaluation(recipe, ("stages", name, "evaluations", number), config, reference)


def _check_names(recipe: Recipe, location: Location, references: Sequence[str]) -> None:
    for number, reference in enumerate(references):
        if not reference.startswith("$"):
            message = f"`{reference}` is no stage of this recipe, which alone has the figures"
            raise recipe.error((*location, number), message, "write `$name` of a stage")
        if reference in references[:number]:
            message = f"`{reference}` is named twice"
            raise recipe.error((*location, number), message, "name each once")


def _check_run(recipe: Recipe, location: Location, reference: str) -> PretrainConfig:
    """Return the stage of a run, if its size and its tokens are what the law is about."""
    run = recipe.stages[reference[1:]]
    if not isinstance(run, PretrainConfig):
        message = f"`{reference}` is a stage `{run.stage}`, and a law is of pre-trained models"
        raise recipe.error(location, message, "name stages `pretrain`")
    if not isinstance(run.model, NewModelBlock):
        message = f"`{reference}` goes on with a model, whose earlier training nobody has counted"
        raise recipe.error(location, message, "name stages that begin with random weights")
    if run.training_args.get("max_steps", -1) != -1:
        message = f"`{reference}` has `max_steps`, so its `tokens` are not what it was trained on"
        raise recipe.error(location, message, "say with `tokens` how long it trains")
    if not any(keeps_texts(block, recipe.places) for block in run.data):
        message = f"`{reference}` holds no text out, whose loss the law is of"
        raise recipe.error(location, message, "write `holdout: 0.1` beside the `file` of its data")
    return run


def _check_tokenizers(
    recipe: Recipe, name: str, config: ScalingLawConfig, runs: Sequence[PretrainConfig]
) -> None:
    """Refuse runs whose tokens are different things."""
    tokenizers = [run.model.tokenizer for run in runs if isinstance(run.model, NewModelBlock)]
    for number, tokenizer in enumerate(tokenizers):
        if tokenizer != tokenizers[0]:
            message = (
                f"`{config.runs[number]}` reads the tokens of `{tokenizer}`, "
                f"`{config.runs[0]}` those of `{tokenizers[0]}`"
            )
            hint = "name runs of one tokenizer"
            raise recipe.error(("stages", name, "runs", number), message, hint)


def _check_texts(
    recipe: Recipe, name: str, config: ScalingLawConfig, runs: Sequence[PretrainConfig]
) -> None:
    """Refuse a text that a run is not trained on."""
    if config.text is None:
        return
    for reference, run in zip(config.runs, runs, strict=True):
        labels = [block.label for block in run.data if keeps_texts(block, recipe.places)]
        if config.text not in labels:
            message = f"`{reference}` holds out no text `{config.text}`"
            hint = f"it has {', '.join(f'`{label}`' for label in labels)}"
            raise recipe.error(("stages", name, "text"), message, hint)


def _check_held_out(recipe: Recipe, name: str, config: ScalingLawConfig) -> None:
    if not isinstance(config.held_out, tuple):
        return
    for number, reference in enumerate(config.held_out):
        if reference not in config.runs:
            message = f"`{reference}` is not among `runs`"
            hint = "name it there, too"
            raise recipe.error(("stages", name, "held_out", number), message, hint)


def _check_enough(
    recipe: Recipe, name: str, config: ScalingLawConfig, runs: Sequence[PretrainConfig]
) -> None:
    """Refuse too few different sizes and amounts of tokens.

    Of a number in `held_out` it is not known yet which runs it leaves out; the stage looks again.
    """
    from eval.statistics.scaling_law import FEWEST_RUNS, FEWEST_VALUES

    left_out = config.held_out if isinstance(config.held_out, tuple) else ()
    fitted = [
        run for reference, run in zip(config.runs, runs, strict=True) if reference not in left_out
    ]
    points = [(_size_of(run), run.tokens) for run in fitted]
    sizes, amounts = {size for size, _ in points}, {tokens for _, tokens in points}
    num_points = len(set(points))
    if num_points >= FEWEST_RUNS and min(len(sizes), len(amounts)) >= FEWEST_VALUES:
        return
    message = (
        f"{num_points} different runs of {len(sizes)} sizes and {len(amounts)} amounts of tokens "
        "are too few for the five constants of a law"
    )
    hint = f"name {FEWEST_RUNS} or more of {FEWEST_VALUES} sizes and {FEWEST_VALUES} amounts"
    raise recipe.error(("stages", name, "runs"), message, hint)


def _size_of(run: PretrainConfig) -> str:
    assert isinstance(run.model, NewModelBlock)
    return json.dumps([run.model.architecture, run.model.fields()], sort_keys=True)


def _check_evaluation(
    recipe: Recipe, location: Location, config: ScalingLawConfig, reference: str
) -> None:
    """Refuse an evaluation of another model, or without answers to verify."""
    evaluation = recipe.stages[reference[1:]]
    if not isinstance(evaluation, EvaluateConfig):
        return
    if evaluation.model not in config.runs:
        message = f"`{reference}` asks `{evaluation.model}`, which is none of `runs`"
        raise recipe.error(location, message, "name evaluations of `runs`")
    if not evaluation.tasks:
        message = f"`{reference}` asks no `tasks`, so nothing is right or wrong there"
        raise recipe.error(location, message, "give it `tasks`, or leave it out")
