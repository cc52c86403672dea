"""Processor time of a step of nanoGPT over that of the pretrain stage, of the same shape.

`recipes/nanogpt.yaml`'s model (4 layers of 128, rows of 64 characters, 12 a step) is trained by the
real stage, and after each of its steps nanoGPT's own model takes one in a loop as its train.py
has: fused AdamW, clipped gradients, batches cut out of one array. Characters are made up, which
costs as much as real ones. On one thread, unless OMP_NUM_THREADS says more.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

from pipeline.errors import InterruptedRunError
from tests.benchmarks.nano_gpt import NanoGPT
from tests.benchmarks.pretrain_throughput import Turns, stage_context
from tests.benchmarks.result import Result

_GOAL = 1 / 1.1
_STEPS = 150
_WARM_UP_STEPS = 10
_LENGTH, _ROWS = 64, 12
_LAYERS, _HEADS, _WIDTH = 4, 4, 128
_CHARACTERS = 65  # of tiny Shakespeare, which is nanoGPT's vocabulary
_RATE = 1e-3


def nano_gpt_steps() -> Result:
    """Let both take turns and compare the processor seconds of their steps."""
    import torch
    from transformers.utils import logging

    from pipeline.run import progress
    from pipeline.stages import pretrain

    warnings.simplefilter("ignore")  # in a run they go to the stage's log
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        config, outputs = _config(Path(folder))
        with progress.show_progress("base", io.StringIO()) as show:
            turns = Turns(show, NanoLoop().step)
            context = stage_context(
                "gpt", Path(folder), turns, should_stop=turns.are_over, outputs=outputs
            )
            with contextlib.suppress(InterruptedRunError):
                pretrain.run(config, context)
    pairs = list(zip(turns.stage, turns.bare, strict=True))[_WARM_UP_STEPS:]
    ratios = [nano.cpu_s / stage.cpu_s for stage, nano in pairs]
    lower, _, upper = statistics.quantiles(ratios, n=4)
    ours = statistics.median(stage.cpu_s for stage, _ in pairs)
    theirs = statistics.median(nano.cpu_s for _, nano in pairs)
    return Result(
        "nano_gpt_steps",
        statistics.median(ratios),
        _GOAL,
        {
            "quartiles": [round(lower, 3), round(upper, 3)],
            "our_ms": round(ours * 1000, 1),
            "their_ms": round(theirs * 1000, 1),
            "pairs_of_steps": len(pairs),
            "threads": torch.get_num_threads(),
        },
    )


class NanoLoop:
    """nanoGPT's model and the loop of its train.py."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(7)
        self._model = NanoGPT(_CHARACTERS, _LENGTH, _LAYERS, _HEADS, _WIDTH)
        self._text = torch.randint(_CHARACTERS, (100_000,))
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=_RATE, fused=True)

    def step(self) -> None:
        """Make one optimizer step on rows from anywhere in the text."""
        import torch

        starts: Any = torch.randint(len(self._text) - _LENGTH - 1, (_ROWS,))
        ids = torch.stack([self._text[at : at + _LENGTH] for at in starts])
        targets = torch.stack([self._text[at + 1 : at + 1 + _LENGTH] for at in starts])
        self._model(ids, targets).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def _config(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return the stage's config, and the tokenizer of bytes that it names."""
    from pipeline.config.stage import StageInput
    from pipeline.run import progress
    from pipeline.stages import tokenizer
    from pipeline.stages.pretrain import PretrainConfig

    letters = "".join(chr(ord("A") + place) for place in range(_CHARACTERS))
    drawn = random.Random(7)
    text = folder / "text.txt"
    text.write_text("".join(drawn.choices(letters, k=200_000)), encoding="utf-8")
    data = [{"file": str(text)}]
    context = stage_context("tokenizer", folder, progress.silent)
    asked = {"stage": "tokenizer", "data": data, "vocab_size": 262}
    tokenizer.run(tokenizer.TokenizerConfig.model_validate(asked), context)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    shape = {"n_layer": _LAYERS, "n_head": _HEADS, "n_embd": _WIDTH, "n_positions": _LENGTH}
    model = {"architecture": "gpt2", "tokenizer": "$tokenizer", "activation_function": "gelu"}
    config = PretrainConfig.model_validate(
        {
            "stage": "pretrain",
            "model": {**model, **shape, **dropouts},
            "data": data,
            "tokens": _STEPS * _ROWS * _LENGTH,
            "batch_size": _ROWS,
            "sequence_length": _LENGTH,
            "training_args": {"learning_rate": _RATE},
        }
    )
    return config, {"tokenizer": StageInput("tokenizer", "tokenizer", str(context.out))}
