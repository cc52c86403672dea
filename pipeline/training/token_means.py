"""The loss of an evaluation as a mean over its tokens, no row counted twice.

Upstream's is a mean over forward passes of their means. It depends on which rows share a pass, so
that an execution setting (`per_device_eval_batch_size`) could choose another best checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.data.encoding.examples import IGNORED
from pipeline.training.bins import OWNER
from pipeline.training.rows import ROW


class TokenMeans:
    """Mixed into a Trainer of next-token prediction whose collator is NumberedRows."""

    def prediction_step(
        self: Any, model: Any, inputs: dict[str, Any], *args: Any, **named: Any
    ) -> Any:
        """Return upstream's (loss, logits, labels) of a pass, and add its sum to the evaluation's.

        Accelerate fills the last pass up with rows from the beginning, so that every process has
        as many: their labels are taken out.
        """
        per_device, world_size = self.args.per_device_eval_batch_size, self.args.world_size
        # This process's place among the rows of the evaluation, which are dealt out in turn.
        first = (self._num_passes * world_size + self.args.process_index) * per_device
        kept = min(max(0, self._num_rows - first), len(inputs[ROW]))
        extra = inputs[OWNER] >= kept if OWNER in inputs else slice(kept, None)
        inputs["labels"][extra] = IGNORED
        number = int((inputs["labels"][:, 1:] != IGNORED).sum())
        outputs = super().prediction_step(model, inputs, *args, **named)  # pyright: ignore[reportAttributeAccessIssue]
        self._num_passes += 1
        if number:  # the mean of no token is NaN
            self._loss_and_tokens[0] += float(outputs[0]) * number
            self._loss_and_tokens[1] += number
        return outputs

    def evaluation_loop(
        self: Any, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **named: Any
    ) -> Any:
        """Return upstream's output with the loss over all tokens of all processes."""
        self._num_passes, self._num_rows = 0, len(dataloader.dataset)
        self._loss_and_tokens = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(  # pyright: ignore[reportAttributeAccessIssue]
            dataloader, *args, metric_key_prefix=metric_key_prefix, **named
        )
        sums = self._loss_and_tokens.to(self.args.device)
        total, number = self.accelerator.reduce(sums, reduction="sum").tolist()
        output.metrics[f"{metric_key_prefix}_loss"] = total / number if number else float("nan")
        return output
