"""TRL's KTOTrainer on rows that are token ids already, with one KL term for a whole step.

Ethayarajh et al. 2024. Their KL term z0 is a mean of log p / q over mismatched rows: each prompt
with the response of another row of its batch. Upstream chooses the partners once, among the rows
that share a forward pass, and takes the mean over that pass. So its loss depends on how a step is
split (a pass of one row is refused), rows may never be shuffled, since then they would leave their
partners, and the last row of a data set may be its own partner. Here the partners are the rows of
an optimizer step, each with the one before it, in whatever order the epoch has; z0 is the mean over
the step, taken before its first pass. With one pass a step and the same order both are the same.

A step's rows and partners follow from seed, epoch and step alone, so a killed run has them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from accelerate.utils import is_peft_model
from torch.utils.data import DataLoader
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer
from trl.trainer.utils import use_adapter

from eval.model import positions_of
from pipeline.training.loss_head import score_trained_tokens_alone
from pipeline.training.padded_rows import PaddedRows
from pipeline.training.pair_means import PairMeans
from pipeline.training.rows import ROW, WholeGroups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

score_trained_tokens_alone()

WITHOUT_KL = "apo_zero_unpaired"  # the loss that has no KL term
_CHOSEN, _REJECTED, _MARGINS = "rewards/chosen", "rewards/rejected", "rewards/margins"


class EncodedKtoTrainer(PairMeans, WholeGroups, PaddedRows, KTOTrainer):
    """KTOTrainer whose datasets have `prompt_ids`, `completion_ids`, `label` and `row`.

    Upstream only takes text and would turn `<eos>` in a user's text into the control token.
    on_reference: called with the number of rows whose reference log-probabilities are there.
    """

    weighed_by: ClassVar[Mapping[str, str]] = {
        "entropy": "tokens",
        _CHOSEN: "chosen",
        _REJECTED: "rejected",
        "logps/chosen": "chosen",
        "logps/rejected": "rejected",
        "logits/chosen": "chosen_tokens",
        "logits/rejected": "rejected_tokens",
    }

    def __init__(self, *, args: Any, on_reference: Callable[[int], None], **named: Any) -> None:
        self._on_reference = on_reference
        self._num_reference_rows = 0
        self._step_batches: Sequence[Mapping[str, Any]] = ()
        self._kl: Tensor | None = None  # z0 before it is clamped, (1,): of a step, or held out
        self._kl_of_calls: list[Tensor] = []
        loss, args.loss_type = args.loss_type, WITHOUT_KL  # else a pass of one row is refused
        try:
            super().__init__(args=args, **named)
        finally:
            args.loss_type = loss
        self.loss_type, self.calculate_KL = loss, loss != WITHOUT_KL
        tokenizer: Any = self.processing_class
        model: Any = self.model
        self._longest = args.max_length or positions_of(model.config)
        self._collate = DataCollatorForUnpairedPreference(
            tokenizer.pad_token_id, self._longest, args.pad_to_multiple_of
        )

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str
    ) -> Any:
        return dataset

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Any]], Any]:
        """Return the batches of the next step, whose rows are each other's partners."""
        samples = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_batches, self._kl = samples[0], None
        return samples

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Evaluate with a KL term over all held-out rows, however they are split."""
        of_step, self._kl = self._kl, None
        try:
            return super().evaluate(*arguments, **named)
        finally:
            self._kl = of_step

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return the reference's log-probabilities, (B,), and None: the KL term has its own."""
        logprobs = super().compute_ref_log_probs(model, inputs)
        self._num_reference_rows += len(logprobs[0]) * self.args.world_size
        self._on_reference(self._num_reference_rows)
        return logprobs

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Return a dataset with the reference's log-probabilities of its rows.

        Upstream hands them on in a file, which of several processes only the first would find.
        """
        loader: Any = self.accelerator.prepare(
            DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator)
        )
        module = self.ref_model or self.model
        gather = self.accelerator.gather
        parts: list[Any] = [gather(self.compute_ref_log_probs(module, b)[0]) for b in loader]
        # What fills up the last batch comes last.
        return dataset.add_column("ref_logps", torch.cat(parts)[: len(dataset)].cpu().numpy())

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """Return upstream's loss with the KL term of the whole step, or of all held-out rows."""
        wanted = inputs["label"].bool()
        mask = inputs["completion_mask"][:, 1:]  # (B, T - 1): nothing predicts the first token
        self.weigh(
            pairs=mask.new_tensor(len(mask)),
            tokens=mask.sum(),
            chosen=wanted.sum(),
            rejected=(~wanted).sum(),
            chosen_tokens=mask[wanted].sum(),
            rejected_tokens=mask[~wanted].sum(),
        )
        if self.calculate_KL:
            if self._kl is None:
                # Not when the batches are fetched: a resumed run has no random state then.
                self._kl = self._step_kl(model) if model.training else self._held_out_kl()
            # Upstream asks for the policy's log-probabilities, then for the reference's.
            self._kl_of_calls = [self._kl, torch.zeros_like(self._kl)]
        return super()._compute_loss(model, inputs, return_outputs)

    def _compute_kl_logps(self, model: Any, batch: Any) -> Any:
        return self._kl_of_calls.pop(0) if self.calculate_KL else None

    def _step_kl(self, model: Any) -> Tensor:
        """Return the mean of log p / q over the step's mismatched rows on all processes, (1,)."""
        ours = torch.stack([batch[ROW] for batch in self._step_batches])  # (passes, B)
        ours = ours.to(self.accelerator.device)
        everywhere: Any = self.accelerator.gather(ours)
        # Accelerate deals batches to processes in turn; the partner is the row before in the step.
        order = everywhere.view(self.args.world_size, *ours.shape).transpose(0, 1)
        partners = order.reshape(-1).roll(1).view(order.shape)[:, self.args.process_index]
        ratios: list[Tensor] = []
        num_cut = 0
        for rows, others in zip(ours.tolist(), partners.tolist(), strict=True):
            batch, cut = self._mismatched(self.train_dataset, rows, others)
            ratios.append(self._log_ratios(model, batch))
            num_cut += cut
        here = torch.cat(ratios)  # as many on every process
        counts = torch.stack([here.mean(), here.new_tensor(num_cut / len(here))])[None]
        kl, cut_share = self.accelerator.gather(counts).mean(0)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue, reportArgumentType]
        self._metrics["train"]["kl_cut_share"].append(float(cut_share))
        return kl[None]

    def _held_out_kl(self) -> Tensor:
        """Return the mean of log p / q over mismatched held-out rows, on all processes, (1,)."""
        dataset: Any = self.eval_dataset
        numbers = list(range(len(dataset)))
        size = self.args.per_device_eval_batch_size
        total = torch.zeros(1, device=self.accelerator.device)
        starts = range(0, len(numbers), size)
        world_size = self.args.world_size
        # Where weights are split all processes make as many passes; the last may not count.
        for first in range(0, len(starts), world_size):
            mine = first + self.args.process_index
            start = starts[min(mine, len(starts) - 1)]
            rows = numbers[start : start + size]
            batch, _ = self._mismatched(dataset, rows, [number - 1 for number in rows])
            ratios = self._log_ratios(self.model, batch)
            total += ratios.sum() if mine < len(starts) else 0.0
        everywhere: Any = self.accelerator.gather(total)
        return everywhere.sum()[None] / len(numbers)

    def _mismatched(
        self, dataset: Any, rows: Sequence[int], others: Sequence[int]
    ) -> tuple[dict[str, Tensor], int]:
        """Return prompts of some rows with the responses of others, and how many had to be cut.

        The batch has the names that upstream gives to such rows; each tensor is (B, T).
        """
        examples = [
            {
                "prompt_ids": dataset[row]["prompt_ids"],
                "completion_ids": dataset[other]["completion_ids"],
                "label": True,
            }
            for row, other in zip(rows, others, strict=True)
        ]
        longest = self._longest
        lengths = (len(each["prompt_ids"]) + len(each["completion_ids"]) for each in examples)
        num_cut = sum(longest is not None and length > longest for length in lengths)
        batch = self._collate(examples)
        names = ("input_ids", "attention_mask", "completion_mask")
        return {f"KL_{name}": batch[name].to(self.accelerator.device) for name in names}, num_cut

    def _log_ratios(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Return log p / q of the responses in a batch, (B,), without gradients."""
        policy: Any = super()._compute_kl_logps(model, batch)
        if self.ref_model is not None or not is_peft_model(self.model):
            reference: Any = super()._compute_kl_logps(self.ref_model, batch)
            return policy - reference
        module = self.accelerator.unwrap_model(self.model)
        with use_adapter(module, adapter_name="ref" if "ref" in module.peft_config else None):
            reference = super()._compute_kl_logps(self.model, batch)
        return policy - reference

    def derive(self, kept: dict[str, list[float]]) -> None:
        """Take the margin from the means; upstream's is of the passes that have both labels."""
        kept.pop(_MARGINS, None)
        if kept.get(_CHOSEN) and kept.get(_REJECTED):
            kept[_MARGINS] = [kept[_CHOSEN][0] - kept[_REJECTED][0]]
