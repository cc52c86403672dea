"""Completions sampled from the policy: a loop over the model's forward pass.

Not eval/asking/sampler.py, with which it shares its decoding and stop strings: no text and no
greedy choice, but each token's log-probability, and rows are told apart by keys that hold over all
processes. pipeline/rl/engines.py has other samplers of the same interface.

What is drawn is the model's own distribution at the temperature, nothing cut off: with top-k, top-p
or a repetition penalty the policy that acts is not the one that is trained, and the KL to the
reference can be negative.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from eval.asking.decoding import (
    Decoding,
    check_prompts,
    draw_tokens,
    fill_holes,
    join_decodings,
    uniforms,
)
from eval.asking.plain_layers import plain_decoder
from eval.model import positions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from eval.asking.sampler import StopStrings
    from eval.tools.turns import Conversation

_CLOSE_LENGTH = 0.75  # of a group's longest prompt: shorter ones are run apart
_SMALLEST_GROUP = 8  # rows: fewer cost about as much as they would as padding


@dataclass(frozen=True)
class Completion:
    """What the policy wrote after one prompt.

    token_ids: the stop token included. has_eos: False where max_new_tokens cut it.
    logprobs: the sampler's own, one per token, at the sampling temperature; None if it gives none.
    own: which of its tokens the policy wrote; None for all of them. What tools answered is in the
    context, its log-probability is given as 0 and means nothing.
    conversation: the turns of which it is made, where the policy may call tools.
    """

    token_ids: list[int]
    has_eos: bool
    logprobs: list[float] | None
    own: list[bool] | None = None
    conversation: Conversation | None = None


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled.

    eos_token_ids: any of these ends a completion. pad_token_id: for engines that fill rows up.
    stop: texts that end one too, if any; the tokens of such a text stay in it.
    forbidden_ids: never sampled: the padding token if it ends nothing, since a row that has it
    could not be told from a shorter one. batch_size: rows decoded together; None for all.
    """

    max_new_tokens: int
    temperature: float
    eos_token_ids: frozenset[int]
    pad_token_id: int
    forbidden_ids: tuple[int, ...] = ()
    batch_size: int | None = None
    stop: StopStrings | None = None

    def ends(self, prompt: Sequence[int], token_ids: Sequence[int]) -> bool:
        """Whether the last of the tokens ends the completion of a prompt."""
        if token_ids[-1] in self.eos_token_ids:
            return True
        return self.stop is not None and self.stop.text_before(prompt, token_ids) is not None

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(
                f"temperature {self.temperature} samples nothing; it must be larger than 0"
            )
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens {self.max_new_tokens} leaves nothing to sample")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size} decodes no row")
        if both := self.eos_token_ids & set(self.forbidden_ids):
            raise ValueError(f"tokens {sorted(both)} end a completion and may not be sampled")


class Sampler(Protocol):
    """Writes one completion for each prompt, in the order of the prompts."""

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
        """Sample from the module.

        keys: what identifies each row over all processes: its number in the whole rollout. The same
        seed and keys give the same completions; other keys others, whatever the prompts.
        written: how many tokens at the end of each prompt are the row's own completion so far: what
        is drawn goes on from there, and so much less may be written; by default none.
        on_progress: called with the number of completions finished so far.

        Raises ValueError for a prompt that is empty or leaves no room for max_new_tokens.
        """
        ...


class LoopSampler:
    """Samples by a loop of our own over the module's forward pass.

    What is drawn for a row depends on (seed, key) and the row alone: not on batch_size, on its
    neighbours or on the number of processes, up to the rounding of the arithmetic.
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
        """Sample from the module, as Sampler says."""
        check_rollout(module, prompts, keys, self.sampling, written)
        begun = written or [0] * len(prompts)
        # Longest first: if a batch does not fit into memory, it is the first one.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
        size = self.sampling.batch_size or len(order)
        completions: dict[int, Completion] = {}
        # inference_mode is faster by 6% than no_grad. Only numbers leave it; a model that kept
        # tensors of a pass for training would be told so by torch, and can use `generate`.
        with generating(module), torch.inference_mode():
            for start in range(0, len(order), max(size, 1)):
                chosen = order[start : start + size]
                rows = {index: _Row(prompts[index], keys[index], begun[index]) for index in chosen}
                for index, completion in self._sample_batch(module, rows, seed):
                    completions[index] = completion
                    if on_progress is not None:
                        on_progress(len(completions))
        return [completions[index] for index in range(len(prompts))]

    def _sample_batch(
        self, module: PreTrainedModel, rows: dict[int, _Row], seed: int
    ) -> Iterator[tuple[int, Completion]]:
        limit = self.sampling.max_new_tokens
        room = limit - min(row.begun for row in rows.values())
        asking: dict[tuple[int, ...], list[int]] = {}  # of each prompt, its rows
        for index, row in rows.items():
            row.uniforms = uniforms(seed, row.key, limit)
            asking.setdefault(tuple(row.prompt), []).append(index)
        parts: list[Decoding] = []
        decoder = plain_decoder(module)
        for group in length_groups(list(asking)):
            part = Decoding(module, dict(enumerate(group)), room, decoder=decoder)
            part.spread([asking[prompt] for prompt in group])
            parts.append(part)
        for decoding in join_decodings(parts):
            yield from self._write_rows(decoding, rows)

    def _write_rows(
        self, decoding: Decoding, rows: dict[int, _Row]
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index of the row, its completion) as rows finish."""
        while True:
            batch = [rows[index] for index in decoding.rows]
            tokens, logprobs = self._draw_tokens(decoding.logits, batch)
            finished: list[int] = []
            written = zip(batch, tokens.tolist(), logprobs.tolist(), strict=True)
            for place, (row, token, logprob) in enumerate(written):
                row.token_ids.append(token)
                row.logprobs.append(logprob)
                has_eos = self.sampling.ends(row.prompt, row.token_ids)
                if has_eos or row.place == self.sampling.max_new_tokens:
                    finished.append(place)
                    yield decoding.rows[place], Completion(row.token_ids, has_eos, row.logprobs)
            if len(finished) == len(batch):
                return
            decoding.advance(tokens, fill_holes(len(batch), finished))

    def _draw_tokens(self, logits: Tensor, rows: Sequence[_Row]) -> tuple[Tensor, Tensor]:
        """Return the next tokens and their log-probabilities, (B,) each. logits: (B, V)."""
        if self.sampling.forbidden_ids:
            logits[:, list(self.sampling.forbidden_ids)] = -torch.inf
        if self.sampling.temperature != 1:
            logits = logits / self.sampling.temperature
        probabilities = torch.softmax(logits, -1)
        check_probabilities(probabilities)
        uniform = np.array([[row.uniforms[row.place]] for row in rows])
        tokens = draw_tokens(probabilities, torch.from_numpy(uniform).to(logits.device))
        return tokens.squeeze(-1), probabilities.gather(-1, tokens).log().squeeze(-1)


def check_rollout(
    module: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[int],
    sampling: Sampling,
    written: Sequence[int] | None = None,
) -> None:
    """Raise ValueError for what no sampler can work with."""
    if len(keys) != len(prompts):
        raise ValueError(f"there are {len(prompts)} prompts and {len(keys)} keys")
    if written is None:
        check_prompts(prompts, sampling.max_new_tokens, positions_of(module.config))
        return
    if len(written) != len(prompts):
        raise ValueError(f"there are {len(prompts)} prompts and {len(written)} beginnings")
    if any(not 0 <= begun < sampling.max_new_tokens for begun in written):
        raise ValueError("a completion is as long as it may be already")
    for prompt, begun in zip(prompts, written, strict=True):
        check_prompts([prompt], sampling.max_new_tokens - begun, positions_of(module.config))


def check_probabilities(probabilities: Tensor) -> None:
    """Raise ValueError for NaN in (B, V) of a softmax, where one makes its whole row NaN."""
    if probabilities[:, 0].isnan().any():
        raise ValueError("the policy gives NaN instead of probabilities; its weights are broken")


@contextmanager
def generating(module: torch.nn.Module) -> Iterator[None]:
    """Put the module into the state for sampling, and back as it was, after an error too.

    No gradients, no dropout, and no gradient checkpointing, which would switch the key-value cache
    off: each token would cost a pass over all before it.
    """
    was_training = {part: part.training for part in module.modules()}
    # Their own attribute: a PEFT model passes on what the model inside has.
    checkpointing = [
        vars(part) for part in module.modules() if vars(part).get("gradient_checkpointing") is True
    ]
    module.eval()
    for attributes in checkpointing:
        attributes["gradient_checkpointing"] = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in was_training.items():
            part.training = training
        for attributes in checkpointing:
            attributes["gradient_checkpointing"] = True


def length_groups(prompts: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Part prompts, longest first, into groups of about one length."""
    groups: list[list[tuple[int, ...]]] = []
    for prompt in prompts:
        if groups and (
            len(prompt) >= _CLOSE_LENGTH * len(groups[-1][0]) or len(groups[-1]) < _SMALLEST_GROUP
        ):
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    if len(groups) > 1 and len(groups[-1]) < _SMALLEST_GROUP:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


@dataclass
class _Row:
    """A row while it is written. uniforms: one number in [0, 1) for each token it may get.

    begun: how many of those the end of its prompt has used up.
    """

    prompt: Sequence[int]
    key: int
    begun: int = 0
    uniforms: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    token_ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])

    @property
    def place(self) -> int:
        """How many tokens its completion has."""
        return self.begun + len(self.token_ids)
