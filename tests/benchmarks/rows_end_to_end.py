"""A training pass of RL with rows laid end to end, against the same rows padded four at a time.

Random Llamas of 4 layers without a head, 128 and 256 wide, 16 rows of a prompt of 8 to 32 tokens
and a response: of 64 tokens, or of lengths that spread from 1 to 64. Forward and backward, in
float32. The ratio is the worse of the two with lengths that spread; at full length little was
padding, and no goal is set. Void unless all gradients agree.

Both take turns in one process, and the median of the turns' ratios of processor time counts. On one
thread, unless OMP_NUM_THREADS says more. `gemm_share`: of the end-to-end pass's time, what its
matrix products take at the rate measured beside it.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.models.end_to_end import lays_end_to_end
from pipeline.rl.actor import last_hidden
from pipeline.rl.sequences import Sequences
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.result import Result
from tests.benchmarks.rollout_speed import _model

if TYPE_CHECKING:
    from collections.abc import Callable

_GOAL = 1.1
_ROWS, _PADDED_ROWS, _PAIRS = 16, 4, 9
_TOLERANCE = 1e-4  # of the largest gradient


def rows_end_to_end() -> Result:
    """Compare both at two widths, at full length and at lengths that spread."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = {
        f"width_{width}_{lengths}": _compared(width, lengths)
        for width in (128, 256)
        for lengths in ("full", "spread")
    }
    return Result(
        "rows_end_to_end",
        min(each["ratio"] for name, each in found.items() if name.endswith("spread")),
        _GOAL,
        {**found, "threads": torch.get_num_threads()},
        is_valid=all(each["apart"] <= _TOLERANCE for each in found.values()),
    )


def _compared(width: int, lengths: str) -> dict[str, Any]:
    network = _model(width, 32 * width).base_model
    if not lays_end_to_end(network):
        raise RuntimeError("the network's rows are padded; there is nothing to compare")
    random = np.random.default_rng(0)
    prompts = [random.integers(1, 99, size=each).tolist() for each in random.integers(8, 33, _ROWS)]
    sizes = [64] * _ROWS if lengths == "full" else random.integers(1, 65, _ROWS).tolist()
    rows = sorted(
        zip(prompts, [random.integers(1, 99, size=size).tolist() for size in sizes], strict=True),
        key=lambda row: -len(row[0]) - len(row[1]),
    )

    def together(some: Any) -> Sequences:
        return Sequences.of(*zip(*some, strict=True), pad=0, device=torch.device("cpu"))

    whole = together(rows)
    parts = [together(rows[at : at + _PADDED_ROWS]) for at in range(0, _ROWS, _PADDED_ROWS)]

    def padded() -> None:
        for part in parts:
            hidden = network(input_ids=part.ids, use_cache=False).last_hidden_state
            hidden[part.predicts].square().sum().backward()

    def end_to_end() -> None:
        last_hidden(network, whole)[whole.predicts].square().sum().backward()

    gradients = [_gradients(network, run) for run in (padded, end_to_end)]
    apart = float((gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max())
    seconds = [(_cpu_s(network, padded), _cpu_s(network, end_to_end)) for _ in range(_PAIRS)]
    lower, ratio, upper = statistics.quantiles([before / after for before, after in seconds], n=4)
    fastest_s = min(after for _, after in seconds)
    tokens = int((whole.last + 1).sum())
    weights = sum(each.numel() for each in network.layers.parameters() if each.dim() == 2)
    return {
        "ratio": round(ratio, 3),
        "quartiles": [round(lower, 3), round(upper, 3)],
        "padded_ms": round(1e3 * min(before for before, _ in seconds), 1),
        "end_to_end_ms": round(1e3 * fastest_s, 1),
        "tokens": tokens,
        "gemm_share": round(6 * tokens * weights / _gemm_rate(tokens, width) / fastest_s, 2),
        "apart": round(apart, 7),
    }


def _gradients(network: Any, run: Callable[[], None]) -> torch.Tensor:
    network.zero_grad()
    run()
    return torch.cat([each.grad.flatten() for each in network.parameters()])


def _cpu_s(network: Any, run: Callable[[], None]) -> float:
    network.zero_grad()
    began = Clocks.now()
    run()
    return Clocks.now().since(began).cpu_s


def _gemm_rate(tokens: int, width: int) -> float:
    """Return operations a second of the network's product of these tokens with (width, width)."""
    left, right = torch.randn(tokens, width), torch.randn(width, width)
    fastest_s = float("inf")
    for _ in range(10):
        began = Clocks.now()
        for _ in range(20):
            left @ right
        fastest_s = min(fastest_s, Clocks.now().since(began).cpu_s / 20)
    return 2 * tokens * width * width / fastest_s
