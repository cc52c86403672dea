"""Which rows a step trains on: known by number, none counted twice, only whole groups.

Mixed into upstream trainers, because both matter to what a recipe means: with several processes
Accelerate fills the last step of an epoch with rows from its beginning, and the losses of
preference pairs are averaged per forward pass, so that the last, smaller group of an epoch would
weigh rows by how the batch was split (0.18 between 8 x 1 and 2 x 4 in RewardTrainer 1.16).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler

from pipeline.data.encoding.examples import IGNORED
from pipeline.data.encoding.packing import OWNER
from pipeline.errors import PosttrainError
from pipeline.training.sharding import whole_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROW = "row"  # the column with a row's number
TOKENS = "tokens"  # how many tokens of a batch count, (): those of rows that only fill up do not


class NumberedRows:
    """A collator that keeps the rows' numbers beside the batch that another one makes."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch with its rows' numbers, (B,)."""
        without = [{k: v for k, v in example.items() if k != ROW} for example in examples]
        numbers = torch.tensor([int(example[ROW]) for example in examples])
        return {**self._collate(without), ROW: numbers}


class KnowsRows:
    """Mixed into a Trainer whose collator is NumberedRows.

    step_rows, step_norm: rows and gradient norm (before clipping) of the step under way.
    tokens_in_pass: tokens of the forward pass under way, (); None outside training.

    Rows that only give every process as many have their labels taken out and their tokens are not
    counted, so that an epoch's last step is the same mathematics on any number of processes.
    """

    step_rows: Sequence[int] = ()
    step_norm: Any = None
    tokens_in_pass: Any = None

    def get_batch_samples(
        self: Any, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Any]], Any]:
        """Return the batches of the next step, and how many tokens they are a mean over.

        Only training calls this: evaluation has rows of another data set, which have no step.
        """
        batch_samples = list(islice(epoch_iterator, num_batches))
        self.step_rows = [int(number) for batch in batch_samples for number in batch[ROW]]
        left = self._rows_left()
        per_device = self.args.per_device_train_batch_size
        for number, batch in enumerate(batch_samples):
            if "labels" not in batch:  # preference pairs, in whole groups
                continue
            # Accelerate deals batches to processes in turn: the step's row that this one begins.
            first = (number * self.args.world_size + self.args.process_index) * per_device
            kept = min(max(0, left - first), len(batch[ROW]))  # of the epoch; the others fill up
            if OWNER in batch:  # several rows in a line: which token is whose
                extra, counted = batch[OWNER] >= kept, (batch[OWNER] >= 0) & (batch[OWNER] < kept)
            else:
                tokens = batch.get("attention_mask", torch.ones_like(batch["labels"]))
                extra, counted = slice(kept, None), tokens[:kept]
            batch["labels"][extra] = IGNORED
            batch[TOKENS] = counted.sum()
        return batch_samples, self._get_num_items_in_batch(batch_samples, device)

    def _rows_left(self: Any) -> int:
        """Return how many rows of the epoch no earlier step has had."""
        num_rows, group = len(self.train_dataset), _group(self)
        # -(-a // b) rounds up: the steps of an epoch, the last of which may be short.
        return num_rows - self.state.global_step % -(-num_rows // group) * group

    def training_step(self: Any, *arguments: Any, **named: Any) -> Any:
        """Train on one forward pass; what is measured in it is gathered from all processes.

        Upstream cuts what it gathers in an epoch's last pass to the rows of the data that are left,
        be it sums with one entry per process: the others would then be missing.
        """
        self.accelerator.gather_for_metrics = self.accelerator.gather
        try:
            return super().training_step(*arguments, **named)  # pyright: ignore[reportAttributeAccessIssue]
        finally:
            del self.accelerator.gather_for_metrics

    def _clip_grad_norm(self: Any, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # pyright: ignore[reportAttributeAccessIssue]
        self.step_norm = whole_tensor(norm) if isinstance(norm, torch.Tensor) else norm
        return self.step_norm

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        without = {key: value for key, value in inputs.items() if key not in (ROW, OWNER, TOKENS)}
        self.tokens_in_pass = inputs.get(TOKENS)
        return super()._prepare_inputs(without)  # pyright: ignore[reportAttributeAccessIssue]


class WholeGroups(KnowsRows):
    """For losses that are a mean per forward pass: an epoch leaves out the rest of its rows.

    The rest is what does not fill a step of `batch_size`; the shuffle makes it different rows
    in every epoch. All forward passes then have as many rows, and the mean of means is the mean.
    """

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> Sampler[int]:
        return WholeGroupSampler(len(self.train_dataset), _group(self), seed=self.args.seed)


class WholeGroupSampler(Sampler[int]):
    """A new order in each epoch, by seed and epoch, of as many rows as fill whole groups."""

    def __init__(self, num_rows: int, group: int, *, seed: int) -> None:
        if num_rows < group:
            message = f"`batch_size` {group} is more than all {num_rows} rows"
            raise PosttrainError("data", message, "lower `batch_size`")
        self._num_rows = num_rows
        self._length = num_rows - num_rows % group
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._num_rows, generator=generator)[: self._length].tolist()


def _group(trainer: Any) -> int:
    """Return the rows of one optimizer step over all processes."""
    args = trainer.args
    per_pass = args.per_device_train_batch_size * args.world_size
    return per_pass * args.gradient_accumulation_steps
