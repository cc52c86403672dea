"""Responses from a model, greedy or sampled, in left-padded batches with a key-value cache.

Not `transformers.generate`: that one fills every setting it was not given from the model's own
generation_config (repetition penalties and the like), keeps finished rows in the batch, and draws a
row's tokens from a generator that all rows share. Here nothing but the arguments decides, and no
response depends on `batch_size` or on its neighbours, up to the rounding of the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from eval.model import StopRequested
from eval.prefix import prefilled, shared_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from eval.model import LanguageModel

Ending = Literal["eos", "stop", "length"]

_INCOMPLETE = "\ufffd"  # what a decoder gives for a part of a UTF-8 character


@dataclass(frozen=True)
class Generation:
    """One response.

    token_ids: all that the model wrote, the end token and tokens of a stop string included.
    text: the response as a person reads it: without end token, cut before the stop string.
    ended: by an end token, by a stop string, or because `max_new_tokens` were written.
    """

    token_ids: tuple[int, ...]
    text: str
    ended: Ending


def generate(
    model: LanguageModel,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int,
    seed: int,
    stop: Sequence[str] = (),
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Generation]:
    """Return one response to each prompt, in the order of the prompts.

    temperature: 0 takes the likeliest token, otherwise logits are divided by it and a token is
    drawn; what is drawn for prompt i depends on `seed` and i alone, so a prompt given twice gets
    two different samples.
    on_progress: called with the number of responses finished so far.

    Raises ValueError for a prompt that is empty or leaves no room for `max_new_tokens` before the
    model's position limit (nothing is cut), and StopRequested.
    """
    if model.module.training:
        raise ValueError(
            f"{model.name} is in training mode; its dropout would change the responses"
        )
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature {temperature} and max_new_tokens {max_new_tokens} make no response"
        )
    _check_prompts(prompts, max_new_tokens, model.max_length)
    # Longest first: if a batch does not fit into memory, it is the first one.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    reader = _Reader(model, stop)
    generations: dict[int, Generation] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = _Batch(model, {index: prompts[index] for index in chosen}, max_new_tokens)
        picker = _Picker(temperature, seed, chosen, max_new_tokens)
        for index, generation in _responses(batch, picker, reader, should_stop):
            generations[index] = generation
            if on_progress is not None:
                on_progress(len(generations))
    return [generations[index] for index in range(len(prompts))]


def response_text(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], response: Sequence[int]
) -> str:
    """Return what the response adds to the decoded prompt: a leading space survives so."""
    before = _decode(tokenizer, prompt).rstrip(_INCOMPLETE)
    joint = _decode(tokenizer, [*prompt, *response])
    if joint.startswith(before):
        return joint[len(before) :]
    return _decode(tokenizer, response)


def _decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    text = tokenizer.decode(
        list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str)
    return text


def _check_prompts(
    prompts: Sequence[list[int]], max_new_tokens: int, max_length: int | None
) -> None:
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {index} has no token to continue from")
        if max_length is not None and len(prompt) + max_new_tokens > max_length:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and {max_new_tokens} may be written, "
                f"but the model covers {max_length} positions"
            )


@torch.inference_mode()
def _responses(
    batch: _Batch, picker: _Picker, reader: _Reader, should_stop: Callable[[], bool] | None
) -> Iterator[tuple[int, Generation]]:
    """Yield (index of the prompt, its response) as rows of one batch finish."""
    written: dict[int, list[int]] = {index: [] for index in batch.rows}
    for step in range(batch.max_new_tokens):
        if should_stop is not None and should_stop():
            raise StopRequested
        tokens = picker.pick(batch.next_logits(), batch.rows, step)
        going_on: list[int] = []
        for slot, (index, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
            response = written[index]
            response.append(token)
            is_last = step + 1 == batch.max_new_tokens
            finished = reader.finished(batch.prompts[index], response, is_last=is_last)
            if finished is None:
                going_on.append(slot)
            else:
                yield index, finished
        if not going_on:
            return
        batch.advance(tokens, going_on)


class _Batch:
    """Rows that are still being written, their attention mask, positions and key-value cache.

    rows: the prompts' indices, one per row. ids: (B, T) in the first step, then (B, 1).
    """

    def __init__(
        self, model: LanguageModel, prompts: dict[int, list[int]], max_new_tokens: int
    ) -> None:
        self.name = model.name
        self.module = model.module
        self.prompts = prompts
        self.rows = list(prompts)
        self.max_new_tokens = max_new_tokens
        rows = list(prompts.values())
        num_shared = shared_length(rows)
        self.cache = prefilled(self.module, rows[0][:num_shared], len(rows))
        num_shared = 0 if self.cache is None else num_shared
        own = [prompt[num_shared:] for prompt in rows]
        width = max(len(prompt) for prompt in own)
        # Left padding: generation continues the last column. A masked id does not matter.
        padded = [[0] * (width - len(prompt)) + prompt for prompt in own]
        mask = [[1] * num_shared + [0] * (width - len(each)) + [1] * len(each) for each in own]
        self.ids = torch.tensor(padded, device=self.module.device)
        self.mask = torch.tensor(mask, device=self.module.device)
        # Explicit: a model left to itself would count the padding.
        self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, num_shared:]

    def next_logits(self) -> Tensor:
        """Return (B, V), fp32, for the token after the last one."""
        output = self.module(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.get("past_key_values")
        if self.cache is None:
            raise ValueError(
                f"{self.name}: {type(self.module).__name__} keeps no key-value cache to go on from"
            )
        logits = output.logits[:, -1].float()
        if logits.isnan().any():
            raise ValueError(
                f"{self.name} gives NaN instead of probabilities; its weights are broken"
            )
        return logits

    def advance(self, tokens: Tensor, going_on: list[int]) -> None:
        """Append one token (B,) to each row that goes on and drop the others."""
        keep = torch.tensor(going_on, device=self.ids.device)
        if len(going_on) < len(self.rows):
            assert self.cache is not None
            # Not batch_select_indices, which layers of linear attention lack.
            self.cache.reorder_cache(keep)
            self.rows = [self.rows[slot] for slot in going_on]
        self.ids = tokens[keep].unsqueeze(-1)
        self.mask = torch.cat([self.mask[keep], torch.ones_like(self.ids)], dim=-1)
        self.positions = self.positions[keep, -1:] + 1


class _Picker:
    """Chooses each row's next token: the likeliest, or by a uniform number of the prompt's own."""

    def __init__(
        self, temperature: float, seed: int, indices: Sequence[int], max_new_tokens: int
    ) -> None:
        self.temperature = temperature
        self.uniform_by_index = {
            index: np.random.default_rng((seed, index)).random(max_new_tokens, dtype=np.float32)
            for index in (indices if temperature > 0 else ())
        }

    def pick(self, logits: Tensor, rows: Sequence[int], step: int) -> Tensor:
        """Return token ids (B,) for logits (B, V)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        uniform = torch.tensor(
            [[float(self.uniform_by_index[index][step])] for index in rows], device=logits.device
        )
        cumulative = torch.softmax(logits / self.temperature, -1).cumsum(-1)
        total = cumulative[:, -1:].contiguous()
        found = torch.searchsorted(cumulative, uniform * total, right=True)
        # Rounding may bring uniform * total up to total: then the last token with any probability.
        last_possible = torch.searchsorted(cumulative, total)
        return torch.minimum(found, last_possible).squeeze(-1)


class _Reader:
    """Reads a growing response: has it ended, how, and what is its text."""

    def __init__(self, model: LanguageModel, stop: Sequence[str]) -> None:
        self.tokenizer = model.tokenizer
        self.eos_token_ids = model.eos_token_ids
        self.stop = [text for text in stop if text]
        self._may_complete_stop: dict[int, bool] = {}

    def finished(
        self, prompt: Sequence[int], response: list[int], *, is_last: bool
    ) -> Generation | None:
        """Return the response if its newest token ended it."""
        if response[-1] in self.eos_token_ids:
            text = response_text(self.tokenizer, prompt, response[:-1])
            return Generation(tuple(response), text, "eos")
        if self._may_complete(response[-1]):
            text = response_text(self.tokenizer, prompt, response)
            cuts = [place for place in map(text.find, self.stop) if place >= 0]
            if cuts:
                return Generation(tuple(response), text[: min(cuts)], "stop")
        if is_last:
            text = response_text(self.tokenizer, prompt, response)
            return Generation(tuple(response), text, "length")
        return None

    def _may_complete(self, token: int) -> bool:
        """Return whether a stop string may end in this token.

        Asked first, since decoding every response at every step is slow.
        """
        if token not in self._may_complete_stop:
            text = _decode(self.tokenizer, [token])
            # Decoded alone, a token can lose its leading space or be a part of a character.
            self._may_complete_stop[token] = any(
                last in text or last == " " or _INCOMPLETE in text
                for last in (stop[-1] for stop in self.stop)
            )
        return self._may_complete_stop[token]
