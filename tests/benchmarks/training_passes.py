"""A step of pre-training as it is made here, against one through transformers' own code.

The library's: lines of documents under a block mask, its norms, positions and layers. Ours: the
documents end to end in one line, RMSNorm, rotary positions and whole layers as one autograd
function each. Both with the same network, fused AdamW and clipping; no Trainer around them
(`pretrain_throughput` measures that). Qwen3 of 1M parameters, the quickstart's (2 layers, rows of
128 tokens, 4 a step, 1,280 words), and Llama of 6M (6 layers, rows of 256, 8 a step, 4,096 words).
Documents of 20 to 124 tokens.

`training_passes_bf16`: the 6M one under bf16 autocast, against the library's fp32; beside it, what
the library gains by bf16. No goal where a processor has no units for it (AVX512-BF16, AMX).

All take turns in one process, and the median of the turns' ratios of processor time counts. On one
thread, unless OMP_NUM_THREADS says more. Void unless all gradients agree. `gemm_share`: of our
step's time, what its products of weights take at the rate measured beside it for their shapes.
"""

from __future__ import annotations

import os
import statistics
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from pipeline.data.documents import Documents
from pipeline.data.encoding.packing import pack
from pipeline.models.end_to_end import attending_row_by_row
from pipeline.models.fused import fuse
from pipeline.training.one_line import in_one_line
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from pipeline.data.encoding.packing import PackedRows

_GOAL = 1.15
_SHORTEST, _LONGEST = 20, 124
_WARM_UP, _TURNS = 5, 40
_TOLERANCE, _BF16_TOLERANCE = 1e-5, 5e-2  # of the largest gradient
_BF16_GOAL = 1.8
_SIZES: dict[str, dict[str, Any]] = {
    "1M": {
        "architecture": "qwen3",
        "rows": (4, 128),
        "turns": _TURNS,
        "fields": {
            **{"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
            **{"num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 336},
            **{"vocab_size": 1280, "initializer_range": 0.08},
        },
    },
    "6M": {
        "architecture": "llama",
        "rows": (8, 256),
        "turns": 10,
        "fields": {
            **{"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8},
            **{"num_key_value_heads": 8, "intermediate_size": 672, "vocab_size": 4096},
        },
    },
}


def training_passes() -> Result:
    """Compare both at two sizes."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = {size: _compared(**how) for size, how in _SIZES.items()}
    return Result(
        "training_passes",
        min(each["ratio"] for each in found.values()),
        _GOAL,
        {**found, "threads": torch.get_num_threads()},
        is_valid=all(each["apart"] <= _TOLERANCE for each in found.values()),
    )


def training_passes_bf16() -> Result:
    """Compare ours in bf16 with the library's in fp32, at the larger size."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = _compared(**_SIZES["6M"], is_bf16=True)
    is_valid = found["apart"] <= _BF16_TOLERANCE
    has_units = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]  AMX has
    goal = _BF16_GOAL if has_units else 0.0
    return Result("training_passes_bf16", found["ratio"], goal, found, is_valid=is_valid)


def _compared(
    architecture: str,
    rows: tuple[int, int],
    turns: int,
    fields: dict[str, Any],
    *,
    is_bf16: bool = False,
) -> dict[str, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, **fields, tie_word_embeddings=True, pad_token_id=0, bos_token_id=None
    )
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    library = _Library(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    packed = _packed(rows[0] * (turns + _WARM_UP), rows[1], fields["vocab_size"])

    def batch(turn: int) -> dict[str, Any]:
        drawn = [packed.dataset()[rows[0] * turn + number] for number in range(rows[0])]
        made = packed.collate(drawn)
        return {name: each for name, each in made.items() if name not in ("row", "use_cache")}

    def theirs(turn: int) -> None:
        with library.code():
            model(**batch(turn), use_cache=False).loss.backward()

    def ours(turn: int) -> None:
        line, lengths = in_one_line(batch(turn))
        with _precision(is_bf16), attending_row_by_row(model.base_model, lengths):
            loss = model(**line, use_cache=False).loss
        loss.backward()

    def theirs_in_bf16(turn: int) -> None:
        with _precision(is_bf16):
            theirs(turn)

    def step(run: Callable[[int], None], turn: int) -> float:
        began = Clocks.now()
        run(turn)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return Clocks.now().since(began).cpu_s

    gradients = [_gradients(model, run) for run in (theirs, ours)]
    apart = float((gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max())
    sides = (theirs, ours, theirs_in_bf16) if is_bf16 else (theirs, ours)
    seconds = [[step(side, turn) for side in sides] for turn in range(_WARM_UP + turns)]
    seconds = seconds[_WARM_UP:]
    ratios = [before / after for before, after, *_ in seconds]
    lower, ratio, upper = statistics.quantiles(ratios, n=4)
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    theirs_s, ours_s, *in_bf16 = (statistics.median(side) for side in zip(*seconds, strict=True))
    return {
        **({"theirs_in_bf16_ms": round(1e3 * in_bf16[0], 1)} if in_bf16 else {}),
        "ratio": round(ratio, 3),
        "quartiles": [round(lower, 3), round(upper, 3)],
        "theirs_ms": round(1e3 * theirs_s, 1),
        "ours_ms": round(1e3 * ours_s, 1),
        "tokens_per_second": round(rows[0] * rows[1] / ours_s),
        "theirs_tokens_per_second": round(rows[0] * rows[1] / theirs_s),
        "gemm_share": round(_products_s(model, rows[0] * rows[1], dtype) / ours_s, 2),
        "parameters": sum(each.numel() for each in model.parameters()),
        "apart": round(apart, 8),
    }


def _precision(is_bf16: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=is_bf16)


class _Library:
    """The library's code of a model's norms and positions, before ours stands in its place."""

    _known: ClassVar[dict[Any, Any]] = {}  # by place, of an earlier comparison in this process

    def __init__(self, model: Any) -> None:
        module: Any = sys.modules[type(model).__module__]
        norm = type(model.base_model.norm)
        self._places = [(norm, "forward"), (module, "apply_rotary_pos_emb")]
        self._theirs = [
            self._known.setdefault((place, name), getattr(place, name))
            for place, name in self._places
        ]
        fuse(model)
        self._ours = [getattr(place, name) for place, name in self._places]
        if any(one is other for one, other in zip(self._theirs, self._ours, strict=True)):
            raise RuntimeError("ours took the library's place before this began, or cannot take it")

    @contextmanager
    def code(self) -> Generator[None]:
        """Put the library's back for a while."""
        self._put(self._theirs)
        try:
            yield
        finally:
            self._put(self._ours)

    def _put(self, functions: Sequence[Any]) -> None:
        for (place, name), function in zip(self._places, functions, strict=True):
            setattr(place, name, function)


def _packed(rows: int, length: int, vocabulary: int) -> PackedRows:
    random = np.random.default_rng(0)
    lengths = random.integers(_SHORTEST, _LONGEST + 1, size=rows * length // _SHORTEST)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), 1.1 * rows * length))]
    drawn = [random.integers(1, vocabulary, size=each).astype(np.int32) for each in lengths]
    return pack(Documents.of(drawn), sequence_length=length, pad_token_id=0)


def _gradients(model: Any, run: Callable[[int], None]) -> torch.Tensor:
    model.zero_grad()
    run(0)
    found = torch.cat([each.grad.flatten() for each in model.parameters()])
    model.zero_grad()
    return found


def _products_s(model: Any, tokens: int, dtype: torch.dtype) -> float:
    """Return the seconds of all weights' products with so many tokens, there and back."""
    matrices = [
        each.weight for each in model.modules() if isinstance(each, torch.nn.Linear)
    ]  # the head among them
    seconds_by_shape: dict[torch.Size, float] = {}
    for weight in matrices:
        if weight.shape not in seconds_by_shape:
            seconds_by_shape[weight.shape] = _product_s(weight.to(dtype), tokens)
    return sum(seconds_by_shape[weight.shape] for weight in matrices)


@torch.no_grad()
def _product_s(weight: torch.Tensor, tokens: int) -> float:
    x, gradient = (torch.randn(tokens, size).to(weight.dtype) for size in weight.shape[::-1])
    fastest_s = float("inf")
    for _ in range(10):
        began = Clocks.now()
        for _ in range(5):
            _ = x @ weight.t(), gradient @ weight, gradient.t() @ x
        fastest_s = min(fastest_s, Clocks.now().since(began).cpu_s / 5)
    return fastest_s
