"""Which prompts a rollout has and which rows a step trains on: pure functions of seed and number.

Nothing here has state, so that a resumed run continues with the same rows without replaying any.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROMPTS, _ROWS = 1, 2  # so that no two orders are drawn from the same numbers


def draw_prompts(num_prompts: int, first: int, count: int, *, seed: int) -> list[int]:
    """Return the numbers of prompts that a run asks: pass after pass over all, each in a new order.

    first: how many were drawn before. A pass may end within a rollout; every pass has every prompt
    once.
    """
    numbers: list[int] = []
    while len(numbers) < count:
        number, begin = divmod(first + len(numbers), num_prompts)
        order = np.random.default_rng((seed, _PROMPTS, number)).permutation(num_prompts)
        numbers += order[begin : begin + count - len(numbers)].tolist()
    return numbers


def share_of_process(rows: Sequence[int], group_size: int, *, rank: int, ranks: int) -> list[int]:
    """Return the rows that one process samples: whole groups, where there are enough for all.

    Rows of a group have one prompt, which is then read once.
    """
    groups = {row // group_size for row in rows}
    if len(groups) < ranks:
        return list(rows[rank::ranks])
    own = set(sorted(groups)[rank::ranks])
    return [row for row in rows if row // group_size in own]


def rows_of_step(
    num_rows: int, num_mini_batches: int, *, seed: int, rollout: int, epoch: int, mini_batch: int
) -> list[int]:
    """Return the rows of one optimizer step: a part of the rollout, in a new order each epoch.

    Parts differ by one row where some of the rollout have no reward and so are not trained on.
    """
    order = np.random.default_rng((seed, _ROWS, rollout, epoch)).permutation(num_rows)
    begin, end = (num_rows * part // num_mini_batches for part in (mini_batch, mini_batch + 1))
    return order[begin:end].tolist()


def deal_rows(
    rows: Sequence[int], lengths: Sequence[int], *, parts: int, ranks: int
) -> list[list[list[int]]]:
    """Deal a step's rows to forward passes and processes: [pass][rank] -> rows.

    Rows of like length go together, which saves padding, and each process gets as much to do. The
    loss is a sum over the whole step, so the deal does not change it.
    """
    order = sorted(rows, key=lambda row: (lengths[row], row), reverse=True)
    ends = [len(order) * part // parts for part in range(parts + 1)]
    passes = [order[begin:end] for begin, end in pairwise(ends)]
    return [[each[rank::ranks] for rank in range(ranks)] for each in passes]
