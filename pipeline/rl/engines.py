"""Completions from other engines, behind the interface of pipeline/rl/sampler.py.

Not the default: `generate` is slower than the loop there, and its rows share one generator. vLLM
is a server, with a folder of its own (pipeline/vllm/).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from eval.model import positions_of
from pipeline.rl.sampler import (
    Completion,
    Sampling,
    check_probabilities,
    check_rollout,
    generating,
)
from pipeline.vllm.requests import row_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel


class GenerateSampler:
    """Samples with transformers' `generate`, of whose settings none but ours counts.

    Its rows draw from one generator, seeded by (seed, first key of the batch): the same call gives
    the same completions, but another batch_size or number of processes gives others.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def __call__(
        self,
        module: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        *,
        keys: Sequence[int],
        seed: int,
        written: Sequence[int] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Sample from the module, as Sampler says, except for what rows draw."""
        check_rollout(module, prompts, keys, self.sampling, written)
        begun = written or [0] * len(prompts)
        rooms = [self.sampling.max_new_tokens - number for number in begun]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
        size = self.sampling.batch_size or max(len(order), 1)
        completions: dict[int, Completion] = {}
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        with generating(module):
            for chosen in _part_by_room(batches, prompts, rooms, positions_of(module.config)):
                batch_seed = row_seed(seed, keys[chosen[0]], begun[chosen[0]])
                batch = self._generate(
                    module,
                    [prompts[index] for index in chosen],
                    batch_seed,
                    [rooms[index] for index in chosen],
                )
                completions.update(zip(chosen, batch, strict=True))
                if on_progress is not None:
                    on_progress(len(completions))
        return [completions[index] for index in range(len(prompts))]

    def _generate(
        self,
        module: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        seed: int,
        rooms: Sequence[int],
    ) -> list[Completion]:
        width = max(map(len, prompts))
        pad = self.sampling.pad_token_id
        ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        recorder = _Recorder(self.sampling)
        model: Any = module
        causal = model.get_base_model() if is_peft_model(module) else model
        with _hide_settings(causal), _fork_generator(causal.device, seed):
            written: Any = causal.generate(
                input_ids=torch.tensor(ids, device=module.device),
                attention_mask=torch.tensor(mask, device=module.device),
                logits_processor=LogitsProcessorList([recorder]),
                generation_config=GenerationConfig(
                    max_new_tokens=max(rooms),
                    do_sample=True,
                    top_k=0,
                    eos_token_id=sorted(self.sampling.eos_token_ids) or None,
                    pad_token_id=pad,
                ),
            )
        tokens = written[:, width:]
        logprobs = recorder.logprobs(tokens).tolist()
        rows = zip(tokens.tolist(), logprobs, strict=True)
        return [
            cut_at_stop(prompt, row[:room], logprob, self.sampling)
            for prompt, room, (row, logprob) in zip(prompts, rooms, rows, strict=True)
        ]


def _part_by_room(
    batches: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    rooms: Sequence[int],
    positions: int | None,
) -> Iterator[Sequence[int]]:
    """Yield batches in which no row is written beyond the model's positions.

    `generate` writes on until the last row has what it may have, and its rows have different rooms
    once they have begun.
    """
    for batch in batches:
        most = max(rooms[index] for index in batch)
        longest = max(len(prompts[index]) for index in batch)
        if positions is None or longest + most <= positions:
            yield batch
        else:
            by_room: dict[int, list[int]] = {}
            for index in batch:
                by_room.setdefault(rooms[index], []).append(index)
            yield from by_room.values()


def cut_at_stop(
    prompt: Sequence[int],
    tokens: Sequence[int],
    logprobs: Sequence[float] | None,
    sampling: Sampling,
) -> Completion:
    """Cut a row after its first stop token, or the token that completes a stop string.

    What an engine wrote on, or filled the row up with, comes after; it changes nothing before.
    """
    places = range(len(tokens))
    last = next((place for place in places if sampling.ends(prompt, tokens[: place + 1])), None)
    length = len(tokens) if last is None else last + 1
    kept = None if logprobs is None else list(logprobs[:length])
    return Completion(list(tokens[:length]), last is not None, kept)


class _Recorder(LogitsProcessor):
    """A logits processor that forbids tokens, applies the temperature and keeps what was drawn.

    Keeping log-probabilities of sampled tokens alone, (B,) a step, where `output_scores` keeps
    (B, V).
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._current: Tensor | None = None  # (B, V), of the token that comes next
        self._kept: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._keep(input_ids[:, -1])
        scores = scores.float()
        if self._sampling.forbidden_ids:
            scores[:, list(self._sampling.forbidden_ids)] = -torch.inf
        self._current = torch.log_softmax(scores / self._sampling.temperature, -1)
        check_probabilities(self._current)
        return self._current

    def logprobs(self, tokens: Tensor) -> Tensor:
        """Return (B, T) for the tokens (B, T) that were written; any number after a row's end."""
        self._keep(tokens[:, -1])
        self._current = None
        return torch.stack(self._kept, dim=-1)

    def _keep(self, tokens: Tensor) -> None:
        if self._current is not None:
            self._kept.append(self._current.gather(-1, tokens.unsqueeze(-1)).squeeze(-1))


@contextmanager
def _hide_settings(causal: Any) -> Iterator[None]:
    """Hide the model's generation_config: `generate` fills in from it what it was not given."""
    own = causal.generation_config
    causal.generation_config = GenerationConfig()
    try:
        yield
    finally:
        causal.generation_config = own


@contextmanager
def _fork_generator(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the device's generator for a while; afterwards it is where it was."""
    is_cpu = device.type == "cpu"
    others = [] if is_cpu else [device]
    with torch.random.fork_rng(others, device_type="cuda" if is_cpu else device.type):
        torch.manual_seed(seed)
        yield
