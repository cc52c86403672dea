"""Rows that a model continues token by token: padding, positions, key-value cache, the draw.

What eval/asking/sampler.py and pipeline/rl/sampler.py share. Not a sampler: which token comes next
and when a row has ended is the caller's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from eval.asking.one_line import LONGEST, Row, lines, read_line
from eval.asking.plain_layers import plain_decoder
from eval.asking.prefix import prefill, shared_length
from eval.asking.token_step import TokenStep, holds_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from eval.asking.plain_layers import PlainDecoder

# How a model keeps what it has read: keys and values, or a state (Mamba), whose mask is of the new
# tokens alone. Some keep nothing (GPT-1): all tokens are run again.
_KEYS, _STATE = "past_key_values", "cache_params"
_ROOM = 64  # tokens a full layer gets room for; 8 to 64 take the same time on a CPU


def check_prompts(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, max_length: int | None
) -> None:
    """Raise ValueError for a prompt that is empty or leaves no room: nothing is cut."""
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {index} has no token to continue from")
        if max_length is not None and len(prompt) + max_new_tokens > max_length:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and {max_new_tokens} may be written, "
                f"but the model covers {max_length} positions"
            )


def uniforms(seed: int, key: int, count: int) -> np.ndarray:
    """Return a row's own numbers in [0, 1), one for each token it may write; (count,), fp32."""
    return np.random.default_rng((seed, key)).random(count, dtype=np.float32)


def draw_tokens(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return a token for each row, (B, 1), by inverting its cumulative distribution.

    probabilities: (B, V). uniform: (B, 1), in [0, 1). A token of probability 0 is never drawn.
    Four to ten times as fast on a CPU as torch.multinomial, and a row's draw is its own.
    """
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    found = torch.searchsorted(cumulative, uniform * total, right=True)
    # Rounding may bring uniform * total up to total: then the last token with any probability.
    last_possible = torch.searchsorted(cumulative, total)
    return torch.minimum(found, last_possible)


def fill_holes(num_rows: int, finished: Sequence[int]) -> list[int]:
    """Return the places of rows that go on, those at the end moved to where others finished.

    So that no more rows are copied in the cache than have finished.
    """
    gone = set(finished)
    num_left = num_rows - len(gone)
    last = (place for place in reversed(range(num_left, num_rows)) if place not in gone)
    return [next(last) if place in gone else place for place in range(num_left)]


class Decoding:
    """Rows that are being written, and the logits of their next tokens.

    rows: what the caller calls the prompts, one for each row, in the order of the batch.
    logits: (B, V), fp32, for the token after the last one.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        prompts: Mapping[int, Sequence[int]],
        max_new_tokens: int,
        *,
        decoder: PlainDecoder | None = None,
    ) -> None:
        """Run the prompts, which must not be empty, through the model.

        decoder: the module's, where it has one and several batches shall share it.
        """
        self.module = module
        self._decoder = decoder or plain_decoder(module)
        self.rows = list(prompts)
        self._step: TokenStep | None = None
        self._has_advanced = False
        whole = [list(prompt) for prompt in prompts.values()]
        num_shared = shared_length(whole)
        width = max(map(len, whole))
        paddings = [width - len(prompt) for prompt in whole]
        mask = [[0] * padding + [1] * (width - padding) for padding in paddings]
        self.length = width
        self.mask = _with_columns(torch.tensor(mask, device=module.device), max_new_tokens)
        self.kept_as = _KEYS
        positions = self._all_positions()
        self.positions = positions[:, -1:]
        if self._decoder is not None and width <= LONGEST:
            self._read_in_lines(self._decoder, whole, num_shared)
            return
        self.cache = prefill(module, whole[0][:num_shared], len(whole), paddings=paddings)
        num_shared = 0 if self.cache is None else num_shared
        # Left padding: generation continues the last column. A masked id does not matter.
        rows = zip(paddings, whole, strict=True)
        ids = [([0] * padding + prompt)[num_shared:] for padding, prompt in rows]
        self._run(torch.tensor(ids, device=module.device), positions[:, num_shared:])

    def advance(self, tokens: Tensor, going_on: Sequence[int]) -> None:
        """Append one token (B,) to the rows that go on, drop the others, and run the model.

        going_on: their places in the batch, in the order they shall have from now on.
        """
        if list(going_on) != list(range(len(self.rows))):
            keep = torch.tensor(going_on, device=tokens.device)
            if self._step is not None:
                self._step.keep(keep, _moved(going_on, keep))
            elif self.cache is not None:
                _keep_rows(self.cache, going_on, keep)
            else:
                self.ids = self.ids[keep]
            self.rows = [self.rows[place] for place in going_on]
            self.mask = self.mask[keep]
            self.positions = self.positions[keep]
            tokens = tokens[keep]
        if not self._has_advanced:
            self._has_advanced = True
            if self._decoder is not None and holds_all(self.cache):
                read = self.mask[:, : self.length]
                self._step = TokenStep(self._decoder, self.cache, read, self.mask.shape[-1])
                self.cache = None  # the step holds what has been read
        self.length += 1
        self.positions = self.positions + 1
        if self._step is not None:
            self.logits = self._step.run(tokens, self.positions.squeeze(-1))
        elif self.cache is not None:
            self._run(tokens.unsqueeze(-1), self.positions)
        else:
            self._run(torch.cat([self.ids, tokens.unsqueeze(-1)], dim=-1), self._all_positions())

    def spread(self, askers: Sequence[Sequence[int]]) -> None:
        """Name the rows anew, several to a prompt that was run once for all of them.

        askers: for each prompt, in the order of the batch, the rows that continue it.
        """
        self.rows = [row for rows in askers for row in rows]
        if len(self.rows) == len(askers):
            return
        places = [place for place, rows in enumerate(askers) for _ in rows]
        index = torch.tensor(places, device=self.mask.device)
        if self.cache is not None:
            self.cache.reorder_cache(index)  # batch_select_indices is not there for a state
        else:
            self.ids = self.ids[index]
        self.mask, self.positions = self.mask[index], self.positions[index]
        self.logits = self.logits[index]

    @property
    def can_read_on(self) -> bool:
        """Whether `read_on` gives what a pass over whole rows would: no windows, no states."""
        return holds_all(self.cache)

    def read_on(self, ids: Tensor) -> Tensor:
        """Return the logits (B, L, V) after each of more tokens (B, L), which are not kept.

        The end of a row may be filled up with anything.
        """
        count = ids.shape[-1]
        output = self.module(
            input_ids=ids,
            attention_mask=_with_columns(self.mask[:, : self.length], count),
            position_ids=self.positions + torch.arange(1, count + 1, device=ids.device),
            past_key_values=self.cache,
            use_cache=True,
        )
        return output.logits

    def _all_positions(self) -> Tensor:
        """Return (B, T): a model left to itself would count the padding."""
        return (self.mask[:, : self.length].cumsum(-1) - 1).clamp(min=0)

    def _read_in_lines(
        self, decoder: PlainDecoder, prompts: Sequence[list[int]], num_shared: int
    ) -> None:
        """Run prompts, the beginning that they share once, and keep what came of their tokens."""
        rows = [Row(prompt[num_shared:], []) for prompt in prompts]
        parts: list[list[tuple[Tensor, Tensor]]] = []  # of each line and layer, (b, heads, T, size)
        hidden: list[Tensor] = []
        for line in lines(rows):
            read = read_line(decoder, prompts[0][:num_shared], rows[line], keeps=True)
            whole = [[*range(num_shared), *range(row.start, row.stop)] for row in read.rows]
            # What stands in the columns of padding is never looked at, but must be finite.
            places = torch.tensor([[0] * (self.length - len(each)) + each for each in whole])
            parts.append(
                [(k[places].transpose(1, 2), v[places].transpose(1, 2)) for k, v in read.held]
            )
            hidden.append(read.hidden)
        cache: Any = DynamicCache()
        for layers in zip(*parts, strict=True):
            keys, values = zip(*layers, strict=True)
            cache.layers.append(GrowingLayer(torch.cat(keys), torch.cat(values)))
        self.cache = cache
        self.logits = decoder.logits(torch.cat(hidden))

    def _run(self, ids: Tensor, positions: Tensor) -> None:
        """Run tokens that follow what is kept; where nothing is kept, these are all tokens."""
        mask = self.mask[:, : self.length]
        output = self.module(
            input_ids=ids,
            attention_mask=mask[:, -ids.shape[-1] :] if self.kept_as == _STATE else mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **({} if self.cache is None else {self.kept_as: self.cache}),
        )
        self.kept_as = _KEYS if output.get(_STATE) is None else _STATE
        self.cache = output.get(self.kept_as)
        self.ids = ids
        _make_room(self.cache)
        self.logits = output.logits[:, -1].float()


def join_decodings(parts: Sequence[Decoding]) -> list[Decoding]:
    """Return the parts, which have written nothing yet, as one where their caches allow it.

    Prompts of about one length waste little padding when they are run; all rows together waste
    little time when they are continued.
    """
    caches = [part.cache for part in parts]
    layers = [_growing_layers(cache) for cache in caches]
    if len(parts) < 2 or not all(layers):
        return list(parts)
    whole = parts[0]
    length = max(part.length for part in parts)
    room = min(part.mask.shape[-1] - part.length for part in parts)
    mask = [_aligned_right(part.mask[:, : part.length], length, dim=-1) for part in parts]
    whole.mask = _with_columns(torch.cat(mask), room)
    whole.length = length
    whole.rows = [row for part in parts for row in part.rows]
    whole.positions = torch.cat([part.positions for part in parts])
    whole.logits = torch.cat([part.logits for part in parts])
    for number, layer in enumerate(layers[0]):
        layer.join([others[number] for others in layers[1:]], length)
    return [whole]


class GrowingLayer(DynamicLayer):
    """A layer of a key-value cache that has room for tokens to come, (B, heads, tokens, size).

    DynamicLayer copies all it holds at each token: 40% of the time of `generate` on a CPU.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._hold(keys, values, keys.shape[-2])

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append a token or more and return all, as views of the room."""
        held = self.get_seq_length()
        needed = held + key_states.shape[-2]
        if needed > self._key_room.shape[-2]:
            rooms = (_roomier(self.keys, needed), _roomier(self.values, needed))
        else:
            rooms = (self._key_room, self._value_room)
        rooms[0][..., held:needed, :] = key_states
        rooms[1][..., held:needed, :] = value_states
        self._hold(*rooms, needed)
        return self.keys, self.values

    def keep(self, going_on: Tensor, moved: Tensor) -> None:
        """Keep these rows of the batch, in this order.

        going_on: (b,) places before. moved: places after, those that are not the places before.
        """
        sources = going_on[moved]
        for held in (self.keys, self.values):
            held.index_copy_(0, moved, held.index_select(0, sources))
        num_rows = len(going_on)
        rooms = self._key_room[:num_rows], self._value_room[:num_rows]
        self._hold(*rooms, self.get_seq_length())

    def join(self, others: Sequence[GrowingLayer], length: int) -> None:
        """Take in the rows of other layers; all that is shorter than length ends at the right."""
        layers = (self, *others)
        keys = torch.cat([_aligned_right(layer.keys, length, dim=-2) for layer in layers])
        values = torch.cat([_aligned_right(layer.values, length, dim=-2) for layer in layers])
        self._hold(keys, values, length)

    def reorder_cache(self, beam_idx: Any) -> None:
        """Take any rows in any order, by a copy; `keep` is for rows that are dropped."""
        super().reorder_cache(beam_idx)
        self._hold(self.keys, self.values, self.get_seq_length())

    def _hold(self, key_room: Tensor, value_room: Tensor, length: int) -> None:
        self._key_room, self._value_room = key_room, value_room
        self.keys, self.values = key_room[..., :length, :], value_room[..., :length, :]


def _make_room(cache: Any) -> None:
    """Let a cache's layers grow in place, but for those with a window or a state of their own.

    And those whose vectors are no multiple of 32 bytes: how a CPU's matrix product rounds depends
    on where in memory they begin, so that their results would not stay what DynamicLayer's are.
    """
    if type(cache) is not DynamicCache:
        return
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
            sizes = [held.shape[-1] * held.element_size() for held in (layer.keys, layer.values)]
            if not any(size % 32 for size in sizes):
                cache.layers[number] = GrowingLayer(layer.keys, layer.values)


def _growing_layers(cache: Any) -> list[GrowingLayer]:
    """Return the layers of a cache that has no others, else an empty list."""
    layers = cache.layers if type(cache) is DynamicCache else []
    growing = [layer for layer in layers if isinstance(layer, GrowingLayer)]
    return growing if len(growing) == len(layers) else []


def _keep_rows(cache: Any, going_on: Sequence[int], keep: Tensor) -> None:
    if type(cache) is not DynamicCache:
        cache.reorder_cache(keep)
        return
    moved = _moved(going_on, keep)
    layers: list[Any] = cache.layers
    for layer in layers:
        if isinstance(layer, GrowingLayer):
            layer.keep(keep, moved)
        else:
            layer.reorder_cache(keep)


def _moved(going_on: Sequence[int], keep: Tensor) -> Tensor:
    """Return the places, after others were dropped, of rows that had another place before."""
    places = [after for after, before in enumerate(going_on) if after != before]
    return torch.tensor(places, dtype=torch.long, device=keep.device)


def _roomier(held: Tensor, needed: int) -> Tensor:
    room = held.new_empty(*held.shape[:-2], needed + _ROOM, held.shape[-1])
    room[..., : held.shape[-2], :] = held
    return room


def _aligned_right(held: Tensor, length: int, *, dim: int) -> Tensor:
    """Put zeros before what is held: masked, but a NaN there would spread."""
    shape = list(held.shape)
    shape[dim] = length - shape[dim]
    return torch.cat([held.new_zeros(shape), held], dim=dim)


def _with_columns(mask: Tensor, count: int) -> Tensor:
    """Append the columns that tokens to come will have: nothing in them is padding."""
    return torch.cat([mask, mask.new_ones(len(mask), count)], dim=-1)
