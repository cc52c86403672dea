"""TRL's DPOTrainer on rows that are token ids already, known by number and counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl.trainer.dpo_trainer import DPOTrainer

from pipeline.training.rows import WholeGroups

if TYPE_CHECKING:
    from collections.abc import Callable


class EncodedDpoTrainer(WholeGroups, DPOTrainer):
    """DPOTrainer whose datasets have `prompt_ids`, `chosen_ids` and `rejected_ids`.

    Upstream only takes text and would turn `<eos>` in a user's text into the control token.
    on_reference: called with the number of pairs whose reference log-probabilities are there.
    """

    on_reference: Callable[[int], None] | None = None

    def __init__(self, *arguments: Any, on_reference: Callable[[int], None], **named: Any) -> None:
        self.on_reference = on_reference
        self._num_reference_pairs = 0
        super().__init__(*arguments, **named)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str
    ) -> Any:
        return dataset

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return the reference's log-probabilities, (B,) each of chosen and rejected."""
        found = super().compute_ref_log_probs(model, inputs)
        self._num_reference_pairs += len(found[0]) * self.args.world_size
        if self.on_reference is not None:
            self.on_reference(self._num_reference_pairs)
        return found
