"""Shared by all tests: one torch thread (so that forked runs are safe and exact), tiny recipes."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest

TINY = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
    batch_size: 8
    training_args: {learning_rate: 3e-3, logging_steps: 1}
  sft:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 160}]
    batch_size: 8
    training_args: {learning_rate: 1e-3, logging_steps: 1}
"""


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A recipe whose stages take a second or two each."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def real_data() -> Path:
    """The folder of real models and data that POSTTRAIN_REAL_DATA names."""
    folder = os.environ.get("POSTTRAIN_REAL_DATA")
    if not folder:
        pytest.skip("POSTTRAIN_REAL_DATA names no folder of real models and data")
    return Path(folder)
