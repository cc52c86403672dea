"""What can be known to be wrong with a `kto` stage before its data or a model is looked at.

Its KL term asks policy and reference about each prompt with the response of another row of the
step, which needs a second row, and the reference itself in every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.recipe.trainer_arguments import trainer_arguments

if TYPE_CHECKING:
    from pipeline.config.training_stage import TrainingStage
    from pipeline.recipe.recipe import Recipe


def check_kl_term(recipe: Recipe, name: str, config: TrainingStage) -> None:
    """Raise PosttrainError for settings with which the loss `kto` has no KL term."""
    arguments = trainer_arguments(recipe, config)
    if config.stage != "kto" or arguments.get("loss_type") != "kto":
        return
    other = "`loss_type: apo_zero_unpaired`, which has no KL term"
    if config.batch_size == 1:
        message = "`batch_size` 1 leaves no other row for the KL term of the loss `kto`"
        raise recipe.error(("stages", name, "batch_size"), message, f"write 2 or more, or {other}")
    if config.training_args.get("precompute_ref_log_probs"):
        message = "the loss `kto` asks the reference about new pairs of rows in every step"
        location = ("stages", name, "training_args", "precompute_ref_log_probs")
        raise recipe.error(location, message, f"leave it out, or write {other}")
