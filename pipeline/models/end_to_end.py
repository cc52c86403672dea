"""Rows of a forward pass laid end to end in one line on a CPU, so that no padding is computed.

Everything but attention takes each token by itself; attention is asked row by row. Not packing by a
block mask, whose attention would be computed across rows and thrown away: a third of a line of
sixteen rows. Who lays rows out: pipeline/rl/actor.py, pipeline/training/one_line.py.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from eval.model import positions_of
from pipeline.models.row_layers import layer_on_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from torch import Tensor, nn

_NAME = "end_to_end"  # among transformers' attention functions; it has no mask function, so no mask
_ROWS, _PADDED_ROWS = 16, 4  # of a forward pass on a CPU
_PROBE = (4, 6, 3)  # tokens of the rows that a network is tried on
_LEAK = 1e-4  # of what a row does to the next one where it is seen
_ROUNDING = 16  # steps of float32: another order of sums
_KEPT_ELEMENTS = 2**26  # probabilities of attention in all layers, 256 MiB

_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def rows_of_passes(rows: list[int], networks: Iterable[Any]) -> list[list[int]]:
    """Return rows, which come by length, as the forward passes of training take them.

    On a CPU few rows are as efficient as many: padded ones in groups that are padded to their own
    longest, since padding is what costs (a third of the time where lengths spread evenly); rows
    laid end to end in larger ones, since each pass adds to the gradients of all weights. On an
    accelerator one pass is fastest. networks: that the rows are run through.
    """
    every = list(networks)
    if every[0].device.type != "cpu":
        size = max(len(rows), 1)
    else:
        size = _ROWS if all(lays_end_to_end(each.base_model) for each in every) else _PADDED_ROWS
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def lays_end_to_end(network: Any) -> bool:
    """Whether rows can be laid end to end in a network without its head.

    By its config where that says enough; then a few rows are run both ways, once for each network.
    Not where activations are computed again, since that is after the rows were forgotten.
    """
    config = network.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    is_windowed = window is not None and getattr(config, "use_sliding_window", None) is not False
    if (
        network.device.type != "cpu"
        or network.dtype != torch.float32
        or network.is_activation_checkpointing
        or config._attn_implementation != "sdpa"
        or not set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
        or is_windowed
        or getattr(config, "attention_chunk_size", None) is not None
    ):
        return False
    if network not in _known:
        _known[network] = _keeps_rows_apart(network)
    return _known[network]


def run_end_to_end(
    network: Any,
    ids: Tensor,
    lengths: Sequence[int],
    firsts: Sequence[int] | None = None,
    *,
    forward: Callable[..., Any] | None = None,
) -> Tensor:
    """Return the last hidden states (B, S, d) of right-padded ids (B, S); zeros at padding.

    firsts: of each row, the first token whose state is read; those before it mean nothing. forward:
    what to call, from within the network's own call.
    """
    places = torch.arange(ids.shape[1]).expand(ids.shape)
    is_token = places < torch.tensor(lengths)[:, None]  # (B, S)
    with attending_row_by_row(network, lengths, firsts):
        hidden = (forward or network)(
            input_ids=ids[is_token][None],
            position_ids=places[is_token][None],
            use_cache=False,
        ).last_hidden_state[0]
    rows = hidden.new_zeros(*ids.shape, hidden.shape[-1])
    return rows.masked_scatter(is_token[..., None], hidden)


@contextmanager
def attending_row_by_row(
    network: Any, lengths: Sequence[int], firsts: Sequence[int] | None = None
) -> Generator[None]:
    """Let attention take a line of rows of these lengths apart, or a whole layer where it can.

    firsts: of each row, the first token whose last state is read; the last layer may leave out
    those before it.
    """

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **how: Any
    ) -> tuple[Tensor, None]:
        """Return (1, T, heads, size); query, key, value: (1, heads, T, size)."""
        parts = (each.float().split(list(lengths), dim=2) for each in (query, key, value))
        with torch.autocast("cpu", enabled=False):  # of rows, slower than fp32
            found = [
                sdpa_attention_forward(module, q, k, v, mask, **how)[0]
                for q, k, v in zip(*parts, strict=True)
            ]
        return torch.cat(found, dim=1), None

    config: Any = network.config
    before = config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(_NAME, attend)
    config._attn_implementation = _NAME
    replaced: list[Any] = []
    layers = list(getattr(network, "layers", ())) if _fit(network, lengths) else []
    for number, layer in enumerate(layers, 1):
        forward = layer_on_rows(layer, lengths, firsts if number == len(layers) else None)
        if forward is not None:
            layer.forward = forward
            replaced.append(layer)
    try:
        yield
    finally:
        config._attn_implementation = before
        for layer in replaced:
            del layer.forward


def _fit(network: Any, lengths: Sequence[int]) -> bool:
    """Whether the probabilities that layers as one function keep for the backward pass are few.

    The same without one: in bf16 the two ways differ, and a policy is scored as it is trained.
    """
    config: Any = network.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1) * getattr(config, "num_hidden_layers", 1)
    return heads * sum(length**2 for length in lengths) <= _KEPT_ELEMENTS


@torch.no_grad()
def _keeps_rows_apart(network: Any) -> bool:
    """Compare rows end to end with the same rows one by one.

    Differences count by what the rows before a row do where they may be seen; where that is below
    rounding (all outputs zero, say), nothing is known and the answer is no.
    """
    vocabulary: int = network.config.get_text_config().vocab_size
    positions = positions_of(network.config)
    if positions is not None and positions < sum(_PROBE):
        return False
    drawn = [7 * place % vocabulary for place in range(1, 1 + sum(_PROBE))]
    was_training = [part for part in network.modules() if part.training]
    rows = torch.tensor(drawn).split(_PROBE)
    network.eval()
    try:
        with torch.random.fork_rng([]), torch.autocast("cpu", enabled=False):
            alone = [_hidden(network, row) for row in rows]
            seen = _hidden(network, torch.cat(rows)).split(_PROBE)
            padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
            together = run_end_to_end(network, padded, _PROBE)
    except (TypeError, ValueError):  # what it cannot be asked, such as positions
        return False
    finally:
        for part in was_training:
            part.training = True
    pairs = zip(alone, seen, together, strict=True)
    visible, apart = 0.0, 0.0
    for one, after_others, beside in pairs:
        visible = max(visible, float((one - after_others).abs().max()))
        apart = max(apart, float((one - beside[: len(one)]).abs().max()))
    rounding = _ROUNDING * torch.finfo(torch.float32).eps * float(torch.cat(alone).abs().max())
    return visible > rounding and apart <= _LEAK * visible + rounding


def _hidden(network: Any, row: Tensor) -> Tensor:
    return network(input_ids=row[None], use_cache=False).last_hidden_state[0]
