"""A recipe whose `launch` is still to be said."""

from pathlib import Path

RECIPE = """\
name: several
LAUNCH
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 200k
    sequence_length: 64
    batch_size: 64
  answers: {stage: evaluate, model: $base, tasks: arithmetic}
"""


def write(folder: Path, launch: str, more: str = "") -> None:
    """Write recipe.yaml with a `launch` at its top, and more stages."""
    (folder / "recipe.yaml").write_text(RECIPE.replace("LAUNCH", launch) + more)
