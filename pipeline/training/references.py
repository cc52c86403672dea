"""The frozen model that dpo and kto keep a policy close to: whether a copy of it is needed.

The trainer has it already as the policy without its adapter, or as log-probabilities from before
the first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.training import load_reference

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.config.stage import StageInput
    from pipeline.training.on_rows import RowTraining


def load_reference_of(
    training: RowTraining, reference: StageInput | None
) -> PreTrainedModel | None:
    """Load the model that the policy is kept close to; None where the trainer has it already.

    reference: the one that the recipe names.
    """
    # Without a copy upstream reads the reference from disk by the model's name, without adapters.
    needs_copy = training.config.lora is None and not training.args.precompute_ref_log_probs
    if reference is None and not needs_copy:
        return None
    module = load_reference(reference or training.source, training.config)
    return training.start.with_new_tokens(module)


def saves_time(training: RowTraining, num_rows: int) -> bool:
    """Whether computing the reference once costs less than at every step: rows seen repeatedly."""
    args = training.args
    steps_per_epoch = num_rows // training.config.batch_size
    steps = args.max_steps if args.max_steps > 0 else args.num_train_epochs * steps_per_epoch
    return steps > steps_per_epoch
