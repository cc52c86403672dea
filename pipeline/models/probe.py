"""Whether rows laid end to end in one line see each other, found by running the model.

Packing needs a model that makes block masks and positions from `position_ids`. Nothing in a config
says so: of 47 architectures 13 read over the border (state-space and convolution layers, alibi,
positions counted from a mask), and would train across rows without a word.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from eval.model import positions_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_LINE = 16  # tokens of a line, two rows of half as many
_KINDS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})

# Of what a first row does to the second when it may be seen. A model that keeps rows apart gives 0,
# bit for bit; the smallest leak found, at initialisation, is 0.05% (short convolutions of lfm2).
_LEAK = 1e-4
_OFF = 1e-2  # another place in the line is another order of sums


def keeps_rows_apart(module: Any, *, line_length: int) -> bool:
    """Whether rows in one line stay apart where positions begin anew with each, without a mask.

    Lines of 16 tokens are run with just the arguments of packed rows: the second row's logits must
    not depend on the first row's tokens, and be what they are at a line's beginning. Differences
    count by what a first row does that may be seen; where that is below the rounding of the
    module's precision (all outputs zero, say), nothing is known and the answer is no.

    line_length: of the lines to be packed, for layers that cut a line into chunks wherever its rows
    begin. A PEFT model will do. The module and the random generators are left as they were.
    """
    config = module.config.get_text_config()
    if "flash" in str(config._attn_implementation):  # it reads the first line's positions only
        return False
    # A layer of another kind may do nothing yet, and see the rows before it once it is trained.
    if not set(getattr(config, "layer_types", None) or ()) <= _KINDS:
        return False
    chunk = getattr(config, "attention_chunk_size", None)
    if isinstance(chunk, int) and chunk < line_length:
        return False
    with _evaluation_mode(module):
        return _rows_stay_apart(module)


def sees_rows(module: Any) -> str:
    """Return why a model's rows are not laid end to end, in words for the metrics."""
    return f"{module.config.get_text_config().model_type} does not keep packed rows apart"


def _rows_stay_apart(module: Any) -> bool:
    """Compare logits of one row, (2, T/2, V): behind either of two others, and before them."""
    one, another, probed = _rows(module)
    half = len(probed)
    # T tokens a line: `probed` behind either of the two others, then before them.
    lines = torch.stack([torch.cat(pair) for pair in ((one, probed), (another, probed))])
    turned = torch.stack([torch.cat(pair) for pair in ((probed, one), (probed, another))])
    anew = torch.arange(half).repeat(4, 2)  # (4, T): positions begin anew with the second row
    packed = _logits(module, torch.cat([lines, turned]), anew)  # (4, T, V)
    # The scale: how much the first row changes the second where one position runs on.
    visible = _logits(module, lines, torch.arange(2 * half).repeat(2, 1))[:, half:]
    behind, before = packed[:2, half:], packed[2:, :half]

    rounding = torch.finfo(module.dtype).eps * float(before.abs().max())
    seen = _largest(visible[0] - visible[1])
    leaked = max(_largest(behind[0] - behind[1]), _largest(before[0] - before[1]))
    moved = _largest(behind - before)
    # Comparisons that are False for NaN, too.
    is_known = seen > rounding
    return (
        is_known and leaked <= _LEAK * seen + rounding / 4 and moved <= _OFF * seen + 16 * rounding
    )


def _rows(module: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return three rows of different tokens, (T/2,), none of them padding."""
    config = module.config.get_text_config()
    half = min(_LINE, positions_of(module.config) or _LINE) // 2
    ids = [number for number in range(config.vocab_size) if number != config.pad_token_id]
    spread = [ids[number * len(ids) // (3 * half)] for number in range(3 * half)]
    one, another, probed = torch.tensor(spread).view(half, 3).T
    return one, another, probed


def _logits(module: Any, ids: Tensor, positions: Tensor) -> Tensor:
    """Return the logits (B, T, V) of a forward pass with just the arguments of packed rows."""
    device = module.device
    output = module(input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False)
    return output.logits.float()


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max())


@contextmanager
def _evaluation_mode(module: Any) -> Iterator[None]:
    """Evaluation mode without gradients; each submodule's mode and the generators come back."""
    training = [part for part in module.modules() if part.training]
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        module.eval()
        try:
            yield
        finally:
            for part in training:
                part.training = True
