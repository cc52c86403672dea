"""TRL's DPOTrainer on rows that are token ids already, known by number and counted once.

Also with labels of pairs: the `probability` p that the label is right (cDPO, Mitchell 2023, with a
p per pair) and the `margin` m by which the chosen response is better (ODPO, Amini et al. 2024,
eq. 8). With z = beta (log-ratio of chosen - of rejected), the
implicit reward's difference in nats, the loss of `sigmoid` is

    -p log s(z - m) - (1 - p) log s(m - z)

so that m is on the scale of that reward, as the margin of a reward model is on the scale of its.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from trl.trainer.dpo_trainer import DPOTrainer

from pipeline.data.encoding.pair_labels import MARGIN, PROBABILITY
from pipeline.training.loss_head import score_trained_tokens_alone
from pipeline.training.padded_rows import PaddedRows
from pipeline.training.pair_means import PairMeans
from pipeline.training.rows import WholeGroups

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from torch import Tensor

score_trained_tokens_alone()

_LABELS = (PROBABILITY, MARGIN)
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class LabelledPairs:
    """A collator that keeps `probability` and `margin` beside the batch that another one makes."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch, with (B,) each of the labels that the rows have."""
        without = [{k: v for k, v in example.items() if k not in _LABELS} for example in examples]
        labels = {
            name: torch.tensor([float(example[name]) for example in examples])
            for name in _LABELS
            if name in examples[0]
        }
        return {**self._collate(without), **labels}


class EncodedDpoTrainer(PairMeans, WholeGroups, PaddedRows, DPOTrainer):
    """DPOTrainer whose datasets have `prompt_ids`, `chosen_ids` and `rejected_ids`.

    Upstream only takes text and would turn `<eos>` in a user's text into the control token. The
    columns `probability` and `margin` are used if they are there.
    on_reference: called with the number of pairs whose reference log-probabilities are there.
    """

    on_reference: Callable[[int], None] | None = None
    weighed_by: ClassVar[Mapping[str, str]] = {
        "entropy": "tokens",
        "mean_token_accuracy": "chosen_tokens",
        "logits/chosen": "chosen_tokens",
        "logits/rejected": "rejected_tokens",
    }

    def __init__(self, *arguments: Any, on_reference: Callable[[int], None], **named: Any) -> None:
        self.on_reference = on_reference
        self._num_reference_pairs = 0
        super().__init__(*arguments, **named)
        collate: Any = self.data_collator
        self.data_collator = LabelledPairs(collate)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str
    ) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Return a dataset with the reference's log-probabilities of its pairs.

        Upstream hands them on in a file, which of several processes only the first would find.
        """
        loader: Any = self.accelerator.prepare(
            DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator)
        )
        module = self.ref_model or self.model
        logprobs = [
            self.accelerator.gather(self.compute_ref_log_probs(module, batch)) for batch in loader
        ]
        for column, parts in zip(_REFERENCE, zip(*logprobs, strict=True), strict=True):
            # What fills up the last batch comes last.
            values = torch.cat(parts)[: len(dataset)].cpu().numpy()
            dataset = dataset.add_column(column, values)
        return dataset

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return the reference's log-probabilities, (B,) each of chosen and rejected."""
        logprobs = super().compute_ref_log_probs(model, _without_labels(inputs))
        self._num_reference_pairs += len(logprobs[0]) * self.args.world_size
        if self.on_reference is not None:
            self.on_reference(self._num_reference_pairs)
        return logprobs

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """Return upstream's loss; that of the labels in its place where the batch has some."""
        mask = inputs["completion_mask"][:, 1:]  # (2B, T - 1): nothing predicts the first token
        chosen, rejected = (half.sum() for half in mask.chunk(2))
        self.weigh(
            pairs=mask.new_tensor(len(mask) // 2),
            tokens=chosen + rejected,
            chosen_tokens=chosen,
            rejected_tokens=rejected,
        )
        labels = {name: inputs[name] for name in _LABELS if name in inputs}
        if not labels:
            return super()._compute_loss(model, inputs, return_outputs)
        inputs = _without_labels(inputs)
        is_precomputed = self.precompute_ref_logps
        if not is_precomputed:
            reference = super().compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs |= dict(zip(_REFERENCE, reference, strict=True))
        self.precompute_ref_logps = True  # they are in the batch, and needed here too
        try:
            # Upstream computes the log-probabilities once; a hook saves a second forward pass.
            with _first_output(model) as outputs:
                result: Any = super()._compute_loss(model, inputs, return_outputs)
        finally:
            self.precompute_ref_logps = is_precomputed
        correction = self._of_labels(outputs[0], inputs, labels)
        return (result[0] + correction, result[1]) if return_outputs else result + correction

    def _of_labels(
        self, outputs: Any, inputs: Mapping[str, Any], labels: Mapping[str, Tensor]
    ) -> Tensor:
        """Return what the labels change in upstream's loss, (); 0 with p = 1 and m = 0."""
        mask = inputs["completion_mask"]
        # (B,) each, as upstream sums them: 0 outside of the responses. The first half of the 2B
        # rows are the chosen responses, in the order of the second half, the rejected ones.
        chosen, rejected = outputs.log_probs[:, 1 - mask.shape[1] :].sum(1).chunk(2)
        chosen = chosen - inputs["ref_chosen_logps"]
        rejected = rejected - inputs["ref_rejected_logps"]
        lengths = [half.sum(1).clamp(min=1.0) for half in mask.chunk(2)]  # tokens, (B,) each
        probability = labels.get(PROBABILITY, torch.ones_like(chosen)).to(chosen)
        margin = labels.get(MARGIN, torch.zeros_like(chosen)).to(chosen)
        weights = self.loss_weights or [1.0] * len(self.loss_types)
        changed = torch.zeros((), device=chosen.device)
        for kind, weight in zip(self.loss_types, weights, strict=True):
            is_mean = kind == "ipo"  # upstream's goes by the mean over tokens
            delta = chosen / lengths[0] - rejected / lengths[1] if is_mean else chosen - rejected
            ours = loss_with_labels(kind, delta, probability, margin, beta=self.beta)
            usual = torch.ones_like(probability), torch.zeros_like(margin)
            theirs = loss_with_labels(kind, delta, *usual, beta=self.beta)
            changed = changed + weight * (ours - theirs).mean()
        return changed


def loss_with_labels(
    kind: str, delta: Tensor, probability: Tensor, margin: Tensor, *, beta: float
) -> Tensor:
    """Return each pair's expected loss, (B,), where the label is right with its probability.

    delta: difference of log-ratios, chosen - rejected, in nats; of `ipo` of their means over
    tokens. The hinge is that of Zhao et al. 2023 (SLiC), `ipo` of Azar et al. 2024, whose optimum
    then is (p - 1/2) / beta.
    """
    z = beta * delta - margin
    if kind == "sigmoid":
        right, wrong = -functional.logsigmoid(z), -functional.logsigmoid(-z)
    elif kind == "hinge":
        right, wrong = torch.relu(1 - z), torch.relu(1 + z)
    elif kind == "ipo":
        right, wrong = (delta - 1 / (2 * beta)) ** 2, (delta + 1 / (2 * beta)) ** 2
    else:
        raise ValueError(f"the loss `{kind}` has no meaning for a probability or a margin")
    return probability * right + (1 - probability) * wrong


@contextmanager
def _first_output(model: Any) -> Generator[list[Any]]:
    """Keep what a module returns next; upstream passes on its loss only."""
    outputs: list[Any] = []
    handle = model.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def _without_labels(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key not in _LABELS}
