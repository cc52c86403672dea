"""Right-padded batches laid end to end on a CPU, so that no padding is computed.

What asks the model, its batch and what it makes of hidden states stay upstream's: only the network
inside the model is handed the rows in one line, and gives their states back where they were. Which
rows and tokens there are is read off the batch: the mask says how long rows are, the labels which
states are read, or the head, which reads the last one alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast

from pipeline.data.documents import IGNORED
from pipeline.models.end_to_end import run_end_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

_ROWS = ("input_ids", "attention_mask")


def without_peft(model: Any) -> Any:
    """Return a model without PEFT's wrapping: the same modules."""
    return model.get_base_model() if is_peft_model(model) else model


@contextmanager
def laying_end_to_end(model: Any) -> Generator[None]:
    """Let a model of TRL's fused head, or with a head on the last token, take its rows in one line.

    model: without PEFT's wrapping, one whose network takes rows so.
    """
    network = model.base_model
    upstream = model.forward

    def forward(*args: Any, **named: Any) -> Any:
        rows = None if args else _rows_of(model, named)
        if rows is None:
            return upstream(*args, **named)
        with _taking_rows(network, *rows):
            return upstream(**named)

    with _in_place_of_forward(model, forward):
        yield


@contextmanager
def _taking_rows(network: Any, lengths: Sequence[int], firsts: Sequence[int]) -> Generator[None]:
    """Let a network's forward run padded rows of these lengths end to end."""
    upstream = network.forward

    def forward(input_ids: Tensor, **named: Any) -> Any:
        asked = {name for name, value in named.items() if value is not None and value is not False}
        if not asked <= {"attention_mask"}:
            return upstream(input_ids, **named)
        hidden = run_end_to_end(network, input_ids, lengths, firsts, forward=upstream)
        return BaseModelOutputWithPast(last_hidden_state=hidden)

    with _in_place_of_forward(network, forward):
        yield


@contextmanager
def _in_place_of_forward(module: Any, forward: Callable[..., Any]) -> Generator[None]:
    own = vars(module).get("forward")  # TRL's fused head, say
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _rows_of(model: Any, named: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    """Return the rows' lengths, and of each the first token whose state is read.

    None where that is not known: rows padded on the left, logits of all tokens asked for.
    """
    ids, mask = (named.get(name) for name in _ROWS)
    if ids is None or mask is None:
        return None
    lengths = mask.sum(1)
    place = torch.arange(mask.shape[1])
    if not bool(((place < lengths[:, None]) == mask.bool()).all() and (lengths > 0).all()):
        return None
    is_read = _read(model, ids, named)
    if is_read is None:
        return None
    firsts = torch.where(is_read, place, lengths[:, None] - 1).amin(1)
    return lengths.tolist(), firsts.tolist()


def _read(model: Any, ids: Tensor, named: dict[str, Any]) -> Tensor | None:
    """Return which states the model's head reads beside each row's last one, (B, S)."""
    if named.get("fused_lm_head") and named.get("labels") is not None:
        return (named["labels"] != IGNORED).roll(-1, 1)  # nothing predicts the first token
    if isinstance(model, GenericForSequenceClassification):
        padding: int | None = model.config.get_text_config().pad_token_id  # pyright: ignore[reportAttributeAccessIssue]
        places = torch.arange(ids.shape[1])
        last = (places * (ids != padding)).argmax(1) if padding is not None else places[-1:]
        return places == last[:, None]
    return None
