"""Steps of our SFT and DPO trainers against TRL's, in processor seconds of one thread, in fp32.

The same model (a Llama of four layers, 128 and 256 wide, 4,096 words), the same rows in the same
order, the same settings: prompts of 8 to 48 tokens, responses of 8 to 48, eight of them or four
pairs a step. Both in one process, in turns of eight steps. TRL's are its own as it comes: a row
a line, padded, and its own loss head; DPO's reference is computed before. A step is all from one
step's end to the next one's: data, forward and backward pass, optimizer, log line. Of each step the
fewest seconds of all turns count.

Void unless every log line of both says the same: loss, gradient norm and all metrics to 5e-6 of
them, or of 1 where they are less (sums of log-probabilities have six digits in fp32).
"""

from __future__ import annotations

import math
import os
import random
import tempfile
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback

from pipeline.data.encoding.examples import IGNORED
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Generator

GOALS = {128: 1.8, 256: 1.3}
_KINDS = ("sft", "dpo")
_STEPS, _WARM_UP, _TURNS = 8, 2, 3
_ROWS = {"sft": 8, "dpo": 4}
_VOCABULARY = 4096
_SHORTEST, _LONGEST = 8, 48
_TOLERANCE = 5e-6
_TIMES = ("runtime", "per_second", "epoch")
_SETTINGS = {
    **{"report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True},
    **{"max_steps": _STEPS, "use_cpu": True, "bf16": False, "gradient_checkpointing": False},
    **{"remove_unused_columns": False, "dataloader_pin_memory": False, "seed": 1},
}


class Turn(NamedTuple):
    """Processor seconds of a turn's steps, and its log lines."""

    cpu_s: list[float]
    logged: list[dict[str, float]]


def sft_and_dpo_steps() -> Result:
    """Compare steps of both stages in both widths; the ratio is the worst one over its goal."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    details: dict[str, Any] = {}
    is_valid, worst = True, math.inf
    for kind in _KINDS:
        for width, goal in GOALS.items():
            turns: dict[str, list[Turn]] = {"ours": [], "theirs": []}
            for side in ("ours", "theirs") * _TURNS:
                turns[side].append(_turn(kind, width, is_ours=side == "ours"))
            ours, theirs = (
                sum(map(min, zip(*(turn.cpu_s[_WARM_UP:] for turn in each), strict=True)))
                for each in turns.values()
            )
            apart = _largest_difference(turns["ours"][0].logged, turns["theirs"][0].logged)
            is_valid &= apart <= _TOLERANCE
            worst = min(worst, theirs / ours / goal)
            steps = _STEPS - _WARM_UP
            details[f"{kind}_{width}"] = {
                "ratio": round(theirs / ours, 2),
                "goal": goal,
                "ms_a_step": [round(each / steps * 1e3, 1) for each in (ours, theirs)],
                "log_lines_apart": float(f"{apart:.1e}"),
            }
    return Result("sft_and_dpo_steps", worst, 1.0, details, is_valid=is_valid)


def _turn(kind: str, width: int, *, is_ours: bool) -> Turn:
    steps = _Steps()
    with tempfile.TemporaryDirectory() as folder:
        made = (_sft if kind == "sft" else _dpo)(_model(width), folder, is_ours=is_ours)
        made.remove_callback(PrinterCallback)
        made.add_callback(steps)
        with _head_of(is_ours=is_ours):
            made.train()
    logged = [line for line in made.state.log_history if "loss" in line]
    cpu_s = [b.since(a).cpu_s for a, b in zip(steps.clocks, steps.clocks[1:], strict=False)]
    return Turn(cpu_s, logged)


class _Steps(TrainerCallback):
    """Clocks at the beginning, and at the end of each step."""

    def __init__(self) -> None:
        self.clocks: list[Clocks] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clocks.append(Clocks.now())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clocks.append(Clocks.now())


@contextmanager
def _head_of(*, is_ours: bool) -> Generator[None]:
    """Leave our part in TRL's loss head, or take it out."""
    from trl.kernels import chunked_logprob as original
    from trl.trainer import utils

    names = ("_use_triton", "_ChunkedLogProbFunction")
    ours = {name: getattr(utils, name) for name in names}
    if not is_ours:
        utils._use_triton = original._use_triton  # pyright: ignore[reportPrivateImportUsage]
        utils._ChunkedLogProbFunction = original.ChunkedLogProbFunction  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield
    finally:
        for name, value in ours.items():
            setattr(utils, name, value)


def _largest_difference(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """Return by how much log lines differ, relative to what they say; infinity where by more."""
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        names = {name for name in a if not name.endswith(_TIMES)}
        if names != {name for name in b if not name.endswith(_TIMES)}:
            return math.inf
        for name in names:
            largest = max(largest, abs(a[name] - b[name]) / max(abs(b[name]), 1.0))
    return largest


def _model(width: int, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": width, "intermediate_size": width * 8 // 3 // 16 * 16}
    shape |= {"num_hidden_layers": 4, "num_attention_heads": width // 32}
    ids = {"vocab_size": _VOCABULARY, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(**shape, **ids, tie_word_embeddings=True))


def _tokenizer() -> Any:
    from tests.ppo_tasks import tiny_tokenizer

    return tiny_tokenizer(_VOCABULARY)


def _ids(draw: random.Random) -> list[int]:
    return [draw.randrange(3, _VOCABULARY) for _ in range(draw.randint(_SHORTEST, _LONGEST))]


def _rows(kind: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    draw = random.Random(1)
    number = _ROWS[kind] * _STEPS
    return [{name: _ids(draw) for name in names} | {"row": row} for row in range(number)]


def _sft(model: LlamaForCausalLM, folder: str, *, is_ours: bool) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from pipeline.training.bins import Bins
    from pipeline.training.rows import NumberedRows
    from pipeline.training.sft_trainer import EncodedSftTrainer

    rows = [
        {
            "input_ids": row["prompt"] + row["response"],
            "labels": [IGNORED] * len(row["prompt"]) + row["response"],
            **({"row": row["row"]} if is_ours else {}),
        }
        for row in _rows("sft", ("prompt", "response"))
    ]
    arguments: Any = {
        "model": model,
        "args": SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=_ROWS["sft"],
            dataset_kwargs={"skip_prepare_dataset": True},
            **_SETTINGS,
        ),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": _tokenizer(),
    }
    if not is_ours:
        return SFTTrainer(**arguments)
    trainer = EncodedSftTrainer(**arguments)
    trainer.data_collator = NumberedRows(Bins(0))
    return trainer


def _dpo(model: LlamaForCausalLM, folder: str, *, is_ours: bool) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from pipeline.training.dpo_trainer import EncodedDpoTrainer
    from pipeline.training.rows import NumberedRows

    rows = _rows("dpo", ("prompt_ids", "chosen_ids", "rejected_ids"))
    arguments: Any = {
        "model": model,
        "ref_model": _model(model.config.hidden_size, seed=1),  # of the same, rewards are ties
        "args": DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=_ROWS["dpo"],
            precompute_ref_log_probs=True,
            **_SETTINGS,
        ),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": _tokenizer(),
    }
    if not is_ours:

        class Theirs(DPOTrainer):
            """TRL's on rows that are ids."""

            def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
                return dataset.remove_columns("row")

        return Theirs(**arguments)
    trainer = EncodedDpoTrainer(**arguments, on_reference=lambda _: None)
    trainer.data_collator = NumberedRows(trainer.data_collator)
    return trainer
