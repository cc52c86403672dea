"""A batch of lines that hold several rows, trained on as one line without its padding, on a CPU.

Attention is then asked row by row (pipeline/models/end_to_end.py), instead of for whole lines whose
masked part is computed and thrown away. The loss is the same, up to the order of a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pipeline.data.documents import IGNORED
from pipeline.models.end_to_end import attending_row_by_row, lays_end_to_end
from pipeline.models.padded_rows import without_peft

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = {"input_ids", "position_ids", "labels"}


def network_of_lines(module: Any, args: Any) -> Any:
    """Return the network whose attention takes the rows of a line apart, or None.

    module: that keeps rows of a line apart, or a PEFT model of one. args: of its trainer.
    """
    if not runs_layers_once(args):
        return None
    network = without_peft(module).base_model
    return network if lays_end_to_end(network) else None


def runs_layers_once(args: Any) -> bool:
    """Whether a trainer runs layers as they are, and none again after the rows were forgotten.

    Computing activations again is asked for in `training_args`, or of FSDP.
    """
    of_fsdp = (getattr(args, "fsdp_config", None) or {}).get("activation_checkpointing")
    return not (args.torch_compile or args.gradient_checkpointing or of_fsdp)


class OneLine:
    """Mixed into a Trainer whose batches hold rows whose positions begin at 0.

    network: from `network_of_lines`; None leaves batches as they are.
    """

    network: Any = None

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        """Return upstream's loss of the batch in one line."""
        columns = {name for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        if self.network is None or not model.training or columns != _COLUMNS:
            return super().compute_loss(model, inputs, *args, **named)  # pyright: ignore[reportAttributeAccessIssue]
        line, lengths = in_one_line({name: inputs[name] for name in _COLUMNS})
        with attending_row_by_row(self.network, lengths, first_read(line["labels"][0], lengths)):
            return super().compute_loss(model, {**inputs, **line}, *args, **named)  # pyright: ignore[reportAttributeAccessIssue]


def first_read(labels: torch.Tensor, lengths: Sequence[int]) -> list[int]:
    """Return the first token of each row whose output is read, the one before the first label."""
    places = [(part != IGNORED).nonzero() for part in labels.split(list(lengths))]
    return [max(int(found[0]) - 1, 0) if len(found) else 0 for found in places]


def in_one_line(
    lines: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Return lines (B, T) as one line (1, N), and how many tokens each of its rows has.

    Rows of which nothing is predicted are left out, and the padding is one at each line's end.
    """
    flat = {name: column.reshape(-1) for name, column in lines.items()}
    row = (flat["position_ids"] == 0).cumsum(0) - 1  # (B T,), each token's
    lengths = row.bincount()
    num_trained = (flat["labels"] != IGNORED).long()
    is_kept = row.new_zeros(len(lengths)).index_add_(0, row, num_trained) > 0
    if not bool(is_kept.any()):
        is_kept[0] = True
    kept = is_kept[row]
    return {name: column[kept][None] for name, column in flat.items()}, lengths[is_kept].tolist()
