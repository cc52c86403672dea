"""Responses from a model, greedy or sampled, in left-padded batches with a key-value cache.

Not `transformers.generate`: that one fills every setting it was not given from the model's own
generation_config (repetition penalties and the like), keeps finished rows in the batch, and draws a
row's tokens from a generator that all rows share. Here nothing but the arguments decides, and no
response depends on `batch_size` or on its neighbours, up to the rounding of the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from eval.asking.decoding import Decoding, check_prompts, draw_tokens, fill_holes, uniforms
from eval.asking.plain_layers import plain_decoder
from eval.model import StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from eval.asking.plain_layers import PlainDecoder
    from eval.model import LanguageModel, Writer
    from eval.tools.turns import Conversation

Ending = Literal["eos", "stop", "length"]

_INCOMPLETE = "\ufffd"  # what a decoder gives for a part of a UTF-8 character


@dataclass(frozen=True)
class Generation:
    """One response.

    token_ids: all that the model wrote, the end token and tokens of a stop string included.
    text: the response as a person reads it: without end token, cut before the stop string.
    ended: by an end token, by a stop string, or because `max_new_tokens` were written.
    conversation: the turns that `token_ids` are, where the model has tools; `text` is its last.
    """

    token_ids: tuple[int, ...]
    text: str
    ended: Ending
    conversation: Conversation | None = None


def generate(
    model: LanguageModel,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int,
    seed: int,
    keys: Sequence[int] | None = None,
    written: Sequence[int] | None = None,
    stop: Sequence[str] = (),
    shares_prompts: bool = False,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Generation]:
    """Return one response to each prompt, in the order of the prompts.

    temperature: 0 takes the likeliest token, otherwise logits are divided by it and a token is
    drawn; what is drawn for prompt i depends on `seed` and i alone, so a prompt given twice gets
    two different samples. keys: numbers to draw by in place of 0, 1, 2, ..., for a part of more
    prompts. written: how many tokens at the end of each prompt are its own response so far: draws
    go on from there, and so much less may be written. shares_prompts: run equal prompts of a batch
    through the model once; how its results round is then another matter.
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
    if written is None:
        check_prompts(prompts, max_new_tokens, model.max_length)
    how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "stop": stop}
    begun = written or [0] * len(prompts)
    # Longest first: if a batch does not fit into memory, it is the first one.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    reader = _Reader(model, stop)
    if model.writer is not None:
        return _read_written(model.writer, reader, prompts, how, keys, on_progress, should_stop)
    generations: dict[int, Generation] = {}
    decoder = plain_decoder(model.module)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = {index: prompts[index] for index in chosen}
        key_by_index = {index: index if keys is None else keys[index] for index in chosen}
        rooms = {index: max_new_tokens - begun[index] for index in chosen}
        picker = _Picker(model.name, temperature, seed, key_by_index, max_new_tokens, rooms)
        _heed(should_stop)
        batch = _prefill(
            model, rows, max(rooms.values()), shares_prompts=shares_prompts, decoder=decoder
        )
        for index, generation in _responses(batch, rows, picker, reader, should_stop):
            generations[index] = generation
            if on_progress is not None:
                on_progress(len(generations))
    return [generations[index] for index in range(len(prompts))]


def _read_written(
    writer: Writer,
    reader: _Reader,
    prompts: Sequence[list[int]],
    how: dict[str, Any],
    keys: Sequence[int] | None,
    on_progress: Callable[[int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> list[Generation]:
    """Return what another engine wrote, cut where it ended. how: arguments of the writer."""

    def show(done: int) -> None:
        _heed(should_stop)
        if on_progress is not None:
            on_progress(done)

    numbers = list(range(len(prompts)) if keys is None else keys)
    found = writer(prompts, keys=numbers, on_progress=show, **how)
    responses = [reader.cut(prompt, tokens) for prompt, tokens in zip(prompts, found, strict=True)]
    # It may see a stop string where we do not: it decodes responses alone.
    room = how["max_new_tokens"]
    early = [
        place
        for place, one in enumerate(responses)
        if one.ended == "length" and len(one.token_ids) < room
    ]
    if early:
        asked = [prompts[place] for place in early]
        whole = {**how, "stop": ()}
        again = writer(asked, keys=[numbers[place] for place in early], on_progress=show, **whole)
        for place, tokens in zip(early, again, strict=True):
            responses[place] = reader.cut(prompts[place], tokens)
    return responses


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


@torch.inference_mode()
def _prefill(
    model: LanguageModel,
    rows: dict[int, list[int]],
    max_new_tokens: int,
    *,
    shares_prompts: bool,
    decoder: PlainDecoder | None,
) -> Decoding:
    if not shares_prompts:
        return Decoding(model.module, rows, max_new_tokens, decoder=decoder)
    asking: dict[tuple[int, ...], list[int]] = {}  # of each prompt, its rows
    for index, prompt in rows.items():
        asking.setdefault(tuple(prompt), []).append(index)
    batch = Decoding(model.module, dict(enumerate(asking)), max_new_tokens, decoder=decoder)
    batch.spread(list(asking.values()))
    return batch


@torch.inference_mode()
def _responses(
    batch: Decoding,
    prompts: dict[int, list[int]],
    picker: _Picker,
    reader: _Reader,
    should_stop: Callable[[], bool] | None,
) -> Iterator[tuple[int, Generation]]:
    """Yield (index of the prompt, its response) as rows of one batch finish."""
    written: dict[int, list[int]] = {index: [] for index in prompts}
    for step in range(picker.max_new_tokens):
        tokens = picker.pick(batch.logits, batch.rows, step)
        finished_slots: list[int] = []
        for slot, (index, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
            response = written[index]
            response.append(token)
            is_last = step + 1 == picker.rooms[index]
            if not (is_last or reader.may_end_with(token)):
                continue
            finished = reader.finished(prompts[index], response, is_last=is_last)
            if finished is not None:
                finished_slots.append(slot)
                yield index, finished
        if len(finished_slots) == len(batch.rows):
            return
        _heed(should_stop)
        batch.advance(tokens, fill_holes(len(batch.rows), finished_slots))


def _heed(should_stop: Callable[[], bool] | None) -> None:
    if should_stop is not None and should_stop():
        raise StopRequested


class _Picker:
    """Chooses each row's next token: the likeliest, or by a uniform number of the prompt's own.

    rooms: how many tokens each row may get, the last ones of `max_new_tokens`.
    """

    def __init__(
        self,
        name: str,
        temperature: float,
        seed: int,
        key_by_index: Mapping[int, int],
        max_new_tokens: int,
        rooms: Mapping[int, int],
    ) -> None:
        self.name = name
        self.temperature = temperature
        self.max_new_tokens = max(rooms.values())
        self.rooms = rooms
        self.uniform_by_index = {
            index: uniforms(seed, key, max_new_tokens)[max_new_tokens - rooms[index] :]
            for index, key in (key_by_index if temperature > 0 else {}).items()
        }

    def pick(self, logits: Tensor, rows: Sequence[int], step: int) -> Tensor:
        """Return token ids (B,) for logits (B, V)."""
        largest = logits.argmax(-1)  # of a row with NaN the first of these
        if logits.gather(-1, largest.unsqueeze(-1)).isnan().any():
            raise ValueError(
                f"{self.name} gives NaN instead of probabilities; its weights are broken"
            )
        if self.temperature == 0:
            return largest
        uniform = torch.tensor(
            [[float(self.uniform_by_index[index][step])] for index in rows], device=logits.device
        )
        return draw_tokens(torch.softmax(logits / self.temperature, -1), uniform).squeeze(-1)


class StopStrings:
    """Texts that end a response as soon as they stand in it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]) -> None:
        self.strings = [text for text in strings if text]
        self._tokenizer = tokenizer
        self._may_complete_stop: dict[int, bool] = {}

    def text_before(self, prompt: Sequence[int], response: Sequence[int]) -> str | None:
        """Return the text before a stop string that the newest token completed; None without."""
        if not self.may_complete(response[-1]):
            return None
        text = response_text(self._tokenizer, prompt, response)
        cuts = [place for place in map(text.find, self.strings) if place >= 0]
        return text[: min(cuts)] if cuts else None

    def may_complete(self, token: int) -> bool:
        """Return whether a stop string may end in this token.

        Asked first, since decoding every response at every step is slow.
        """
        if token not in self._may_complete_stop:
            text = _decode(self._tokenizer, [token])
            # Decoded alone, a token can lose its leading space or be a part of a character.
            self._may_complete_stop[token] = any(
                last in text or last == " " or _INCOMPLETE in text
                for last in (stop[-1] for stop in self.strings)
            )
        return self._may_complete_stop[token]


class _Reader:
    """Reads a growing response: has it ended, how, and what is its text."""

    def __init__(self, model: LanguageModel, stop: Sequence[str]) -> None:
        self.tokenizer = model.tokenizer
        self.eos_token_ids = model.eos_token_ids
        self.stop = StopStrings(model.tokenizer, stop)

    def may_end_with(self, token: int) -> bool:
        """Return whether a response may have ended with this token: most have not."""
        return token in self.eos_token_ids or self.stop.may_complete(token)

    def cut(self, prompt: Sequence[int], tokens: Sequence[int]) -> Generation:
        """Return the response at the beginning of what was written."""
        for length in range(1, len(tokens) + 1):
            is_last = length == len(tokens)
            found = self.finished(prompt, list(tokens[:length]), is_last=is_last)
            if found is not None:
                return found
        raise ValueError("a response has no token")

    def finished(
        self, prompt: Sequence[int], response: list[int], *, is_last: bool
    ) -> Generation | None:
        """Return the response if its newest token ended it."""
        if response[-1] in self.eos_token_ids:
            text = response_text(self.tokenizer, prompt, response[:-1])
            return Generation(tuple(response), text, "eos")
        before = self.stop.text_before(prompt, response)
        if before is not None:
            return Generation(tuple(response), before, "stop")
        if is_last:
            text = response_text(self.tokenizer, prompt, response)
            return Generation(tuple(response), text, "length")
        return None
