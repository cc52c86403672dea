"""Small runs of TRL's own GRPOTrainer, killed and resumed as its users would; no tests here.

Weights are all that is looked at: does a run that was killed end where one does that was not?
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from tests.forked import in_child
from tests.small_rollouts import small_policy, small_prompts, small_tokenizer

ROLLOUT, SAVE, STEPS = (
    8,
    3,
    48,
)  # optimizer steps that a rollout is trained on, of a checkpoint, in all


@dataclass(frozen=True)
class Upstream:
    """What became of kills. in_rollout: those resumed within a rollout; failed: by an error."""

    kills: int
    in_rollout: int
    differ: int
    failed: int
    said: tuple[str, ...]


class _Note(TrainerCallback):
    """Keeps the number of steps in a file, which the parent looks at."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._path.write_text(str(state.global_step))


def random_steps(number: int, *, seed: int) -> list[int]:
    """Return steps to kill after, each with a checkpoint before it."""
    moments = random.Random(seed)
    return [moments.randint(SAVE + 1, STEPS - 1) for _ in range(number)]


def kill_upstream(folder: Path, at_steps: Sequence[int]) -> Upstream:
    """Kill TRL's GRPOTrainer after each of these steps, and let it resume by its own means."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    small_policy().save_pretrained(folder / "policy")  # TRL reads its reference from a folder
    whole = folder / "whole"
    assert in_child(lambda: _train(whole), _log(whole)).code == 0, _log(whole).read_text()
    again = folder / "again"
    assert in_child(lambda: _train(again), _log(again)).code == 0
    expected = _weights(whole)
    assert _are_same(expected, _weights(again)), "two whole runs differ: nothing could be compared"
    differ = failed = in_rollout = 0
    said: list[str] = []
    for number, at_step in enumerate(at_steps):
        run = folder / f"kill-{number}"
        in_child(
            lambda run=run: _train(run),
            _log(run),
            signal_when=lambda _, run=run, at=at_step: _steps(run) >= at,
        )
        checkpoint = get_last_checkpoint(str(run))
        begun = int(str(checkpoint).rpartition("-")[2])
        ended = in_child(lambda run=run: _train(run, resumes=True), _log(run))
        same = ended.code == 0 and _are_same(expected, _weights(run))
        in_rollout += begun % ROLLOUT != 0
        failed += ended.code != 0
        differ += ended.code == 0 and not same
        said.append(f"TRL killed at step {at_step}, resumed from {begun}: same: {same}")
        shutil.rmtree(run)
    return Upstream(len(at_steps), in_rollout, differ, failed, tuple(said))


def _log(run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    return run / "log.txt"


def _steps(run: Path) -> int:
    path = run / "steps.txt"
    return int(path.read_text() or 0) if path.exists() else 0


def _train(run: Path, *, resumes: bool = False) -> None:
    """Train in this process: two passes of four steps over each rollout of 16 responses."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    args = GRPOConfig(
        output_dir=str(run),
        **{"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1},
        **{"steps_per_generation": 4, "num_generations": 4, "num_iterations": 2},
        **{"max_steps": STEPS, "save_steps": SAVE, "max_completion_length": 8, "seed": 4},
        **{"learning_rate": 1e-2, "beta": 0.05, "bf16": False, "gradient_checkpointing": False},
        **{"report_to": "none", "disable_tqdm": True, "use_cpu": True},
    )
    rows = [
        {"prompt": " ".join(f"t{token}" for token in row["input_ids"]), "target": row["target"]}
        for row in small_prompts(16)
    ]

    def share(completion_ids: Any, target: Any, **_: Any) -> list[float]:
        pairs = zip(completion_ids, target, strict=True)
        return [ids.count(wanted) / max(len(ids), 1) for ids, wanted in pairs]

    trainer = GRPOTrainer(
        str(run.parent / "policy"),
        share,
        args,
        train_dataset=Dataset.from_list(rows),
        processing_class=small_tokenizer(),
        callbacks=[_Note(run / "steps.txt")],
    )
    trainer.train(resume_from_checkpoint=True if resumes else None)
    trainer.save_model(str(run / "end"))


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "end" / "model.safetensors")


def _are_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(each, other[name]) for name, each in one.items())
