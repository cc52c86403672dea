"""TRL's RewardTrainer with soft labels, and rows that are known and counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from trl.trainer.reward_trainer import DataCollatorForPreference, RewardTrainer

from pipeline.data.encoding.pair_labels import PROBABILITY
from pipeline.training.padded_rows import PaddedRows
from pipeline.training.pair_means import PairMeans
from pipeline.training.rows import WholeGroups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase


class SoftRewardTrainer(PairMeans, WholeGroups, PaddedRows, RewardTrainer):
    """RewardTrainer whose labels may be probabilities.

    With p the chance that the chosen response is preferred and d the (margin-reduced) difference of
    the scores, -p log s(d) - (1 - p) log s(-d) = -log s(d) + (1 - p) d: upstream's loss and a term.
    """

    extremes: ClassVar[Mapping[str, Callable[[Sequence[float]], float]]] = {
        "min_reward": min,
        "max_reward": max,
    }

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return upstream's loss, with the soft labels' term where the batch has `probability`."""
        self.weigh(pairs=torch.tensor(len(inputs["input_ids"]) // 2))
        probability = inputs.pop(PROBABILITY, None)
        loss_and_outputs: Any = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss, outputs = loss_and_outputs
        if probability is not None:
            chosen, rejected = torch.chunk(outputs.logits.squeeze(-1), chunks=2)
            difference = chosen - rejected - inputs.get("margin", 0.0)
            loss = loss + ((1 - probability) * difference).mean()
        return (loss, outputs) if return_outputs else loss


def collator(
    tokenizer: PreTrainedTokenizerBase, pad_to_multiple_of: int | None
) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return upstream's collator, which forgets `probability`, with it."""
    pad = tokenizer.pad_token_id
    assert isinstance(pad, int)
    inner = DataCollatorForPreference(pad_token_id=pad, pad_to_multiple_of=pad_to_multiple_of)

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = inner(examples)
        if PROBABILITY in examples[0]:
            batch[PROBABILITY] = torch.tensor([example[PROBABILITY] for example in examples])
        return batch

    return collate
