"""The completions of a rollout: sampled from the policy, or those that the rows came with.

Agarwal et al. 2024, "On-policy distillation of language models", algorithm 1: a share lambda of
what is learnt from is the student's own. Here each row is drawn for itself, by its key, so that
steps are alike; there a whole batch is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.rl.sampler import Completion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.rl.prompts import Prompt

_DRAWN_FOR = 4  # so that no two things are drawn from the same numbers


def is_taken(prompt: Prompt, key: int, *, share: float, seed: int) -> bool:
    """Whether a prompt's own completion is learnt from and none is sampled. share: of samples."""
    if prompt.given is None or share >= 1:
        return False
    return bool(np.random.default_rng((seed, _DRAWN_FOR, key)).random() >= share)


def write_completions(
    prompts: Sequence[Prompt],
    taken: Sequence[bool],
    sample: Callable[[list[int]], list[Completion]],
    ends: frozenset[int],
) -> list[Completion]:
    """Return one completion for each prompt; `sample` writes those of these numbers.

    taken: which prompts' own ones serve. ends: tokens that end a completion.
    """
    asked = [number for number, is_own in enumerate(taken) if not is_own]
    sampled = dict(zip(asked, sample(asked) if asked else [], strict=True))
    completions: list[Completion] = []
    for number, prompt in enumerate(prompts):
        given = prompt.given
        if number in sampled:
            completions.append(sampled[number])
            continue
        assert given is not None
        has_eos = given.token_ids[-1] in ends
        completions.append(Completion(given.token_ids, has_eos, None, given.own))
    return completions
