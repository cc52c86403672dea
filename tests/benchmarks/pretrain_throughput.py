"""Tokens a second of the pretrain stage against a bare PyTorch loop that does the same work.

The real stage runs: its Trainer, supervision, logging and progress. Each time it reports a step,
the bare loop makes that step with a model of its own: same weights to begin with, same rows in the
same order. Both must log the same losses.

On one thread, unless OMP_NUM_THREADS says more: with two, every parallel region waits for the
slower one, and on a busy machine that is what one would measure (quartiles of the ratio of 0.65 and
1.15 at a load of 4 on two cores, where one thread gives 0.94 and 1.03).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InterruptedRunError
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.config.stage import Progress, StageContext, StageInput
    from pipeline.stages.pretrain import PretrainConfig
    from tests.benchmarks.bare_loop import BareLoop

_GOAL = 0.9
_LARGEST_LOSS_DIFFERENCE = 1e-4
_SEED = 7
_STEPS = 80
_WARM_UP_STEPS = 5
_FEWEST_STEPS = 30
_LONGEST_S = 90.0
_BATCH_SIZE = 16
_SEQUENCE_LENGTH = 256
_DATA = ({"task": "facts"}, {"task": "arithmetic"})


def pretrain_throughput() -> Result:
    """Let the stage and the bare loop take turns and compare the seconds of each."""
    import torch
    from transformers.utils import logging

    from pipeline.run import progress
    from pipeline.stages import pretrain

    warnings.simplefilter("ignore")  # in a run they go to the stage's log
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        config = _config(Path(folder))
        bare = _bare_loop(config, Path(folder))
        with progress.show_progress("base", io.StringIO()) as show:
            turns = Turns(show, bare.step)
            context = stage_context("base", Path(folder), turns, should_stop=turns.are_over)
            with contextlib.suppress(InterruptedRunError):
                pretrain.run(config, context)
        logged = _logged_losses(context.out / "metrics.jsonl")
    return _result(turns, bare.losses, logged, torch.get_num_threads())


class Turns:
    """The stage's progress function: after each step of the stage the bare loop makes one.

    stage, bare: what each step took. The stage's clocks stand still while the bare loop works and
    run through all else between two steps: data, logging, showing progress.
    """

    def __init__(self, show: Progress, bare_step: Callable[[], None]) -> None:
        self._show = show
        self._bare_step = bare_step
        self._stage_began = self._began = Clocks.now()
        self.stage: list[Clocks] = []
        self.bare: list[Clocks] = []

    def are_over(self) -> bool:
        """Whether to stop: on a loaded machine after fewer steps."""
        is_late = Clocks.now().since(self._began).wall_s > _LONGEST_S
        return is_late and len(self.stage) >= _FEWEST_STEPS

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        self._show(label, done, total, note)
        if label != "step":
            return
        if done > 0:
            bare_began = Clocks.now()
            self.stage.append(bare_began.since(self._stage_began))
            self._bare_step()
            self.bare.append(Clocks.now().since(bare_began))
        self._stage_began = Clocks.now()


def _config(folder: Path) -> PretrainConfig:
    """Return the quickstart's pre-training, going on from random weights saved in the folder.

    So both loops begin with the same weights. The rows come unshuffled: a shuffle of numbers costs
    nothing, and the bare loop need not repeat it.
    """
    from transformers import set_seed

    from pipeline.config.new_model import SIZES
    from pipeline.config.stage import StageInput
    from pipeline.models.load import load_tokenizer
    from pipeline.models.new import new_policy
    from pipeline.models.save import save_policy
    from pipeline.run import progress
    from pipeline.stages import tokenizer
    from pipeline.stages.pretrain import PretrainConfig
    from tests.benchmarks.bare_loop import LEARNING_RATE

    set_seed(_SEED)
    context = stage_context("tokenizer", folder, progress.silent)
    data = [{**block, "rows": 1000} for block in _DATA]
    asked = {"stage": "tokenizer", "data": data, "vocab_size": 1024}
    tokenizer.run(tokenizer.TokenizerConfig.model_validate(asked), context)
    made = load_tokenizer(StageInput("tokenizer", "tokenizer", str(context.out)))
    fields = {**SIZES["1M"], "intermediate_size": 336, "tie_word_embeddings": True}
    save_policy(new_policy("llama", fields, made), made, folder / "start")
    return PretrainConfig.model_validate(
        {
            "stage": "pretrain",
            "model": str(folder / "start"),
            "data": _DATA,
            "tokens": _STEPS * _BATCH_SIZE * _SEQUENCE_LENGTH,
            "batch_size": _BATCH_SIZE,
            "sequence_length": _SEQUENCE_LENGTH,
            "training_args": {
                "max_steps": _STEPS,  # padding makes a few rows more of the tokens
                "learning_rate": LEARNING_RATE,
                "logging_steps": 1,  # ten times the default: each step bears the cost of a line
                "train_sampling_strategy": "sequential",
            },
        }
    )


def _bare_loop(config: PretrainConfig, folder: Path) -> BareLoop:
    """Return the bare loop on the rows that the stage will pack."""
    from pipeline.config.references import Places
    from pipeline.config.stage import StageInput
    from pipeline.data.encoding.packing import pack
    from pipeline.data.mixing import mix_documents
    from pipeline.data.training_sources import token_sources
    from pipeline.models.load import device, load_policy, load_tokenizer
    from tests.benchmarks.bare_loop import BareLoop

    start = StageInput("start", "policy", str(config.model))
    made = load_tokenizer(start)
    sources = token_sources(config.data, Places(folder), made, seed=_SEED)
    documents, _ = mix_documents(sources, tokens=config.tokens, seed=_SEED)
    assert isinstance(made.pad_token_id, int)
    rows = pack(documents, sequence_length=_SEQUENCE_LENGTH, pad_token_id=made.pad_token_id)
    module = load_policy(start)
    module.to(device())  # pyright: ignore[reportArgumentType]
    return BareLoop(module, rows, num_steps=_STEPS, batch_size=_BATCH_SIZE)


def stage_context(
    name: str,
    folder: Path,
    show: Progress,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    outputs: dict[str, StageInput] | None = None,
) -> StageContext:
    """Return what a stage of a benchmark is told: no run, no store, a folder for all it writes."""
    from pipeline.config.references import Places
    from pipeline.config.stage import StageContext

    out = folder / name
    out.mkdir()
    return StageContext(
        name=name,
        out=out,
        checkpoints=folder / f"{name}-checkpoints",
        outputs=outputs or {},
        seed=_SEED,
        places=Places(folder),
        progress=show,
        should_stop=should_stop,
        seal=lambda *_: None,
    )


def _logged_losses(metrics: Path) -> list[float]:
    lines = metrics.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def _result(
    turns: Turns, bare_losses: Sequence[float], logged: Sequence[float], threads: int
) -> Result:
    """Put together what was measured; it is void when the losses of any step differ."""
    difference = max(abs(a - b) for a, b in zip(logged, bare_losses, strict=True))
    pairs = list(zip(turns.stage, turns.bare, strict=True))[_WARM_UP_STEPS:]
    ratios = [bare.wall_s / stage.wall_s for stage, bare in pairs]
    overheads_s = [stage.cpu_s - bare.cpu_s for stage, bare in pairs]
    lower, _, upper = statistics.quantiles(ratios, n=4)
    tokens = _BATCH_SIZE * _SEQUENCE_LENGTH
    return Result(
        "pretrain_throughput",
        statistics.median(ratios),
        _GOAL,
        {
            "quartiles": [round(lower, 3), round(upper, 3)],
            "cpu_overhead_ms_per_step": round(statistics.median(overheads_s) * 1000, 1),
            "tokens_per_second": round(tokens / statistics.median(s.wall_s for s, _ in pairs)),
            "bare_tokens_per_second": round(tokens / statistics.median(b.wall_s for _, b in pairs)),
            "tokens_per_step": tokens,
            "pairs_of_steps": len(ratios),
            "threads": threads,
            "largest_loss_difference": float(f"{difference:.1e}"),
        },
        is_valid=difference <= _LARGEST_LOSS_DIFFERENCE,
    )
