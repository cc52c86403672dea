"""Shared by all tests: one torch thread (so that forked runs are safe and exact), tiny recipes.

POSTTRAIN_TEST_THREADS has the tests in this process use more (`make isa`); forked runs never do.
"""

import gc
import os

os.environ["OMP_NUM_THREADS"] = os.environ.get("POSTTRAIN_TEST_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("POSTTRAIN_REPORT", "0")  # seconds a run; tests of the report turn it on

from pathlib import Path

import pytest
from hypothesis import settings

from tests.trained import Trained, train_once

settings.register_profile("of shared machines", deadline=None)  # no test asserts seconds
settings.load_profile("of shared machines")

TINY = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 1024}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
    batch_size: 8
    training_args: {learning_rate: 3e-3, logging_steps: 1}
  sft:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 157}]
    batch_size: 8
    training_args: {learning_rate: 1e-3, logging_steps: 1}
"""

# Every other way to train: an adapter, on an adapter, from preferences, with accumulation (4 of 8
# rows a forward pass) and with the reference computed beforehand (two epochs). 157 rows of SFT do
# not fill the last batch. Few pairs and labels are held out: of the split there are hundreds.
ALIGNED = (
    TINY
    + """\
  more_lora:
    stage: pretrain
    model: $base
    data: [{task: arithmetic}]
    tokens: 10k
    sequence_length: 64
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 3e-3, logging_steps: 1, per_device_train_batch_size: 4}
  sft_lora:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 157}]
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-2, logging_steps: 1, per_device_train_batch_size: 4}
  rm:
    stage: reward_model
    model: $sft
    data: [{task: arithmetic, rows: 125}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    training_args: {learning_rate: 1e-3, logging_steps: 1, per_device_train_batch_size: 4}
  rm_lora:
    stage: reward_model
    model: $sft_lora
    data: [{task: arithmetic, rows: 125}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-3, logging_steps: 1}
  dpo:
    stage: dpo
    model: $sft
    data: [{task: arithmetic, rows: 61}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    training_args: {learning_rate: 1e-4, logging_steps: 1, per_device_train_batch_size: 4,
                    num_train_epochs: 2}
  dpo_lora:
    stage: dpo
    model: $sft_lora
    data: [{task: arithmetic, rows: 61}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    lora: {r: 8, target_modules: [q_proj, v_proj]}
    training_args: {learning_rate: 1e-3, logging_steps: 1, num_train_epochs: 2}
  dpo_again:
    stage: dpo
    model: $dpo_lora
    data: [{task: arithmetic, rows: 61}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    lora: {r: 4, use_rslora: true}
    training_args: {learning_rate: 1e-3, logging_steps: 1}
  kto:
    stage: kto
    model: $sft
    data: [{task: arithmetic, rows: 31}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    training_args: {learning_rate: 1e-4, logging_steps: 1, per_device_train_batch_size: 4,
                    num_train_epochs: 2}
  kto_lora:
    stage: kto
    model: $sft_lora
    data: [{task: arithmetic, rows: 31}]
    eval_data: [{task: arithmetic, split: validation, rows: 40}]
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-2, logging_steps: 1, num_train_epochs: 2}
  merged: {stage: merge, model: $dpo_again}
"""
)


@pytest.hookimpl(trylast=True)  # after those that are not run have been taken out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files so that no worker waits for `trained`, and all of them end together.

    One that needs it comes first, and while it trains others have what does not; the short ones
    come last.
    """
    needing = dict.fromkeys(item.path for item in items if "trained" in _fixtures(item))
    first = next(iter(needing), None)
    stages = Path(__file__).parent / "stages"

    def place(item: pytest.Item) -> int:
        if item.path == first:
            return 0
        if item.path in needing:
            return 2
        return 1 if stages in item.path.parents else 3

    items.sort(key=place)


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def pytest_collection_finish() -> None:
    """Leave out what is there already: `train()` collects garbage, a third of its tests' time."""
    gc.freeze()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The aligned recipe and a store with all of its stages, trained once for all workers.

    To be read only; `Trained.without` gives a copy to go on in.
    """
    return train_once(tmp_path_factory, ALIGNED)


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A recipe whose stages take a second or two each."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real models and data that POSTTRAIN_REAL_DATA names."""
    folder = os.environ.get("POSTTRAIN_REAL_DATA")
    if not folder:
        pytest.skip("POSTTRAIN_REAL_DATA names no folder of real models and data")
    return Path(folder)
