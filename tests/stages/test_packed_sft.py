"""`packing: true` of sft: several rows a line, which do not see each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.stage import StageInput
from pipeline.data.encoding.examples import IGNORED, EncodedExample
from pipeline.data.encoding.row_table import RowTable
from pipeline.models.load import load_policy
from pipeline.training.layouts import line_length, pack_in_lines
from tests.command import command, the_line
from tests.forked import run_forked, warm
from tests.small_model import save_model

RECIPE = """\
name: tiny
seed: 3
stages:
  sft:
    stage: sft
    model: ./model
    data: {file: chats.jsonl, holdout: 0.2}
    packing: true
    batch_size: 2
    training_args: {max_length: 128, num_train_epochs: 1, logging_steps: 1, learning_rate: 0.0,
                    eval_strategy: steps, eval_steps: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    warm()
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    chats = (
        [
            {"role": "user", "content": f"{number} dogs?"},
            {"role": "assistant", "content": "Yes. " * (number % 7 + 1)},
        ]
        for number in range(40)
    )
    lines = (json.dumps({"messages": messages}) for messages in chats)
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    return tmp_path


def losses(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "runs/tiny/sft/metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_fewer_lines_than_rows_are_trained_on_and_measured(folder: Path) -> None:
    save_model(folder / "model")
    ended = run_forked(folder / "recipe.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    metrics = json.loads((folder / "runs/tiny/sft/artifact.json").read_text())["metrics"]
    rows, _, num_lines = metrics["packing"].removeprefix("packed: ").partition(" rows in ")
    assert int(rows) == metrics["rows_used"]
    assert int(num_lines.split()[0]) < int(rows) / 2
    assert metrics["steps"] == -(-int(num_lines.split()[0]) // 2)
    told = losses(folder)
    assert any("eval_loss" in line for line in told)
    # Every token of every row is counted once, padding never.
    assert [line["num_tokens"] for line in told if "num_tokens" in line][-1] == metrics["tokens"]


def test_a_model_that_sees_the_other_rows_of_a_line_is_refused_by_check_and_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    save_model(folder / "model", "bloom", n_head=4, n_layer=2, initializer_range=0.3)
    capsys.readouterr()
    line = "recipe.yaml:8:14: bloom does not keep packed rows apart; leave `packing` out"
    assert the_line(command(monkeypatch, capsys)("check", "recipe.yaml")).startswith(line)
    ended = run_forked(Path("recipe.yaml"), Path("runs"))
    assert (ended.code, ended.output.splitlines()[-1].startswith(line)) == (2, True), ended.output


def test_the_loss_of_lines_is_that_of_their_rows(tmp_path: Path) -> None:
    source = StageInput("model", "policy", str(save_model(tmp_path / "model")))
    module = load_policy(source).eval()
    generator = np.random.default_rng(3)
    examples: list[EncodedExample] = []
    for number, length in enumerate((5, 17, 9, 30, 12)):
        ids = generator.integers(4, 200, length).tolist()
        labels = [IGNORED] * (length // 2) + ids[length // 2 :]
        examples.append(EncodedExample(ids, labels, f"f:{number}"))
    layout = pack_in_lines(RowTable.of(EncodedExample, examples), None, 0, 32)
    assert sorted(", ".join(layout.names).split(", ")) == [f"f:{n}" for n in range(5)]
    assert layout.collate is not None
    assert len(layout.train) < len(examples)
    items = [layout.train[number] for number in range(len(layout.train))]
    batch = layout.collate([{k: v for k, v in item.items() if k != "row"} for item in items])
    owner, labels = batch.pop("owner"), batch.pop("labels")
    assert int((owner >= 0).sum()) == sum(len(each.input_ids) for each in examples)
    logits = module(**batch).logits
    packed = _nll(logits, labels)
    one_by_one = 0.0
    for each in examples:
        ids = torch.tensor([each.input_ids])
        one_by_one += _nll(module(input_ids=ids).logits, torch.tensor([each.labels]))
    assert packed == pytest.approx(one_by_one, rel=1e-5)


def _nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the summed negative log-likelihood of the labels (B, T)."""
    flat = logits[:, :-1].reshape(-1, logits.shape[-1])
    loss = torch.nn.functional.cross_entropy(
        flat, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return float(loss.detach())


def test_lines_of_no_said_length_hold_the_longest_row() -> None:
    assert line_length(128, 90, 4096) == 128
    assert line_length(None, 90, 4096) == 1024
    assert line_length(None, 90, 512) == 512
    assert line_length(None, 3000, 4096) == 3000
    assert line_length(None, 3000, None) == 3000
