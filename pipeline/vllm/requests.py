"""What a vLLM server is asked for a completion, and many of them at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pipeline.vllm.client import Client, Written

_LARGEST_BIAS = -100.0  # vLLM takes no less: exp(-100) of the odds is left


def settings_of(
    *,
    temperature: float,
    max_tokens: int,
    seed: int,
    ends: Collection[int],
    forbidden: Collection[int] = (),
) -> dict[str, Any]:
    """Return one row's settings by vLLM's names. ends: token ids that end it.

    All are given: a server fills in what is left out from the model's generation_config.
    """
    return {
        "temperature": temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": 0,
        "max_tokens": max_tokens,
        "seed": seed,
        "ignore_eos": True,  # the model's own idea of it; ours are these
        "stop_token_ids": sorted(ends),
        "logit_bias": {str(token): _LARGEST_BIAS for token in forbidden},
    }


def row_seed(seed: int, key: int, begun: int = 0) -> int:
    """Return a seed, in 63 bits, for what one key draws; begun: tokens that it has already."""
    entropy = (seed, key, begun) if begun else (seed, key)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def ask_all(
    client: Client,
    model: str,
    asked: Sequence[tuple[Sequence[int], dict[str, Any]]],
    *,
    at_once: int,
    on_progress: Callable[[int], None] | None = None,
) -> list[Written]:
    """Return what the server wrote to each (prompt, settings), in their order.

    The first error ends all. on_progress: called with the number of those that are finished.
    """
    with ThreadPoolExecutor(at_once) as requests:
        under_way = [
            requests.submit(client.complete, prompt, settings, model=model)
            for prompt, settings in asked
        ]
        try:
            for number, done in enumerate(as_completed(under_way), start=1):
                done.result()
                if on_progress is not None:
                    on_progress(number)
        except BaseException:
            requests.shutdown(wait=False, cancel_futures=True)
            raise
        return [one.result() for one in under_way]
