"""Rollouts by the loop of pipeline/rl/sampler.py against transformers' `generate`, sampling.

Random Llamas of 4 layers, 64 prompts of 8 to 32 tokens, 64 tokens written after each, in float32:
128 wide with 4,096 words (goal 2 times as fast), and 256 wide with 8,192 (goal 1.75). No token
ends a row, so both sides write equally much; the loop gives log-probabilities as well. The ratio is
the worse one's share of its goal. A third comparison has no goal: half of the rows are over after
20 tokens, and few write all 64.

Both sides take turns, and the median of the turns' ratios counts: of processor time, as wall time
on a busy machine is its neighbours' too. Void unless both sample equally likely text.

On one thread, unless OMP_NUM_THREADS says more; pretrain_throughput.py says why.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.rl.sampler import LoopSampler, Sampling
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GOALS = {128: 2.0, 256: 1.75}
_VOCABULARY_OF_A_CHANNEL = 32
_ROWS, _SHORTEST, _LONGEST, _NEW_TOKENS, _PAD = 64, 8, 32, 64, 0
_PAIRS = 7
_END_SHARE = 0.034  # of the vocabulary: half of the rows end within 20 tokens
_LARGEST_DIFFERENCE = 0.1  # nats a token


def rollout_speed() -> Result:
    """Compare both, at each width and with rows that end apart."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    full = {width: _compared(width, frozenset()) for width in _GOALS}
    ends = frozenset(range(1, 1 + round(_END_SHARE * 128 * _VOCABULARY_OF_A_CHANNEL)))
    spread = _compared(128, ends)
    return Result(
        "rollout_speed",
        min(full[width]["ratio"] / goal for width, goal in _GOALS.items()),
        1.0,
        {
            **{f"width_{width}": {"goal": _GOALS[width], **full[width]} for width in full},
            "width_128_ends_apart": spread,
            "threads": torch.get_num_threads(),
        },
        is_valid=all(
            each["nats_a_token"] <= _LARGEST_DIFFERENCE for each in (*full.values(), spread)
        ),
    )


def _compared(width: int, eos: frozenset[int]) -> dict[str, Any]:
    """Let both write in turns; the first turn of each is not counted."""
    vocabulary = width * _VOCABULARY_OF_A_CHANNEL
    module, prompts = _model(width, vocabulary), _prompts(vocabulary)
    sampling = Sampling(_NEW_TOKENS, 1.0, eos, _PAD)
    sampler = LoopSampler(sampling)

    def ours(turn: int) -> list[list[int]]:
        written = sampler(module, prompts, keys=range(_ROWS), seed=turn)
        return [each.token_ids for each in written]

    def theirs(turn: int) -> list[list[int]]:
        return _generated(module, prompts, sampling, seed=turn)

    difference = abs(
        _nats_a_token(module, prompts, ours(0)) - _nats_a_token(module, prompts, theirs(0))
    )
    seconds = [(_cpu_s(theirs, turn), _cpu_s(ours, turn)) for turn in range(1, _PAIRS + 1)]
    ratios = [generate_s / loop_s for generate_s, loop_s in seconds]
    lower, ratio, upper = statistics.quantiles(ratios, n=4)
    return {
        "ratio": round(ratio, 3),
        "quartiles": [round(lower, 3), round(upper, 3)],
        "generate_s": round(min(generate_s for generate_s, _ in seconds), 3),
        "loop_s": round(min(loop_s for _, loop_s in seconds), 3),
        "nats_a_token": round(difference, 4),
    }


def _model(width: int, vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 8 * 8,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    return LlamaForCausalLM(config).eval()


def _prompts(vocabulary: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    lengths = random.integers(_SHORTEST, _LONGEST + 1, size=_ROWS)
    return [random.integers(1, vocabulary, size=int(length)).tolist() for length in lengths]


def _generated(
    module: Any, prompts: Sequence[list[int]], sampling: Sampling, *, seed: int
) -> list[list[int]]:
    """Sample with `generate`, as one would: rows padded on the left, nothing cut off."""
    from transformers import GenerationConfig

    width = max(map(len, prompts))
    ids = [[_PAD] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(sampling.eos_token_ids) or None,
        pad_token_id=_PAD,
    )
    module.generation_config.eos_token_id = None  # or `generate` would take it for ours
    torch.manual_seed(seed)
    with torch.no_grad():
        written = module.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            generation_config=config,
        )
    return [_until_end(row, sampling.eos_token_ids) for row in written[:, width:].tolist()]


def _until_end(row: list[int], eos: frozenset[int]) -> list[int]:
    last = next((place for place, token in enumerate(row) if token in eos), len(row) - 1)
    return row[: last + 1]


def _nats_a_token(
    module: Any, prompts: Sequence[list[int]], written: Sequence[Sequence[int]]
) -> float:
    total = 0.0
    with torch.no_grad():
        for prompt, tokens in zip(prompts, written, strict=True):
            logits = module(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
            logprobs = torch.log_softmax(logits, -1)
            total -= float(logprobs.gather(-1, torch.tensor([*tokens]).unsqueeze(-1)).sum())
    return total / sum(map(len, written))


def _cpu_s(write: Callable[[int], object], turn: int) -> float:
    began = Clocks.now()
    write(turn)
    return Clocks.now().since(began).cpu_s
