"""A model that does not keep packed rows apart trains on padded ones, and the run says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import command
from tests.forked import run_forked, warm

BLOOM = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: bloom, tokenizer: $tokenizer, hidden_size: 32, n_layer: 2, n_head: 4,
            initializer_range: 0.3}
    data: [{task: arithmetic}]
    tokens: 2k
    sequence_length: 64
    batch_size: 8
  sft:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 24}]
    batch_size: 24
    training_args: {learning_rate: 0.0, max_steps: 1, logging_steps: 1}
  read: {stage: evaluate, model: $sft, texts: [{task: arithmetic}], limit: 8}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warm()
    folder = tmp_path_factory.mktemp("padded")
    recipe = folder / "tiny.yaml"
    recipe.write_text(BLOOM)
    found = run_forked(recipe, folder / "runs")
    assert found.code == 0, found.output
    return folder / "runs" / "tiny"


def artifact(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "artifact.json").read_text())


def metrics(folder: Path) -> dict[str, Any]:
    return artifact(folder)["metrics"]


def test_the_metrics_and_the_terminal_say_why_rows_are_padded(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    posttrain = command(monkeypatch, capsys)
    recipe, again = str(runs.parents[1] / "tiny.yaml"), ("--from", "base", "--force")
    said = posttrain("run", recipe, "--runs", str(runs.parent), *again)
    for stage in ("base", "sft"):
        found = metrics(runs / stage)
        assert found["packing"] == "padded, since bloom does not keep packed rows apart"
        assert f"{stage}: rows padded, since bloom does not" in " ".join(said.out.split())
    # A document has about 45 tokens; packed, 2,000 tokens are 32 rows and four steps.
    assert metrics(runs / "base")["steps"] > 5
    assert metrics(runs / "base")["padding_share"] > 0.1


def test_the_loss_of_a_padded_step_is_that_of_its_rows_alone(runs: Path) -> None:
    import torch

    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places
    from pipeline.config.stage import StageInput
    from pipeline.data.encoding.examples import IGNORED, encode_records
    from pipeline.data.reading.data_blocks import read_records
    from pipeline.models.load import load_policy, load_tokenizer

    source = StageInput("base", "policy", str((runs / "base").resolve()))
    module = load_policy(source).eval()
    rows = read_records(
        DataBlock(task="arithmetic", rows=24), Places(Path()), ("prompt_completion",)
    )
    examples, _ = encode_records(list(rows), load_tokenizer(source))
    assert len(examples) == 24
    total, num_scored = 0.0, 0
    for each in examples:
        labels = torch.tensor(each.labels[1:])
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([each.input_ids])).logits[0, :-1]
        total += float(
            torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        )
        num_scored += int((labels != IGNORED).sum())
    # fp32; seeing each other, these rows have another loss from the third digit on.
    assert metrics(runs / "sft")["loss"] == pytest.approx(total / num_scored, rel=1e-5)


def test_a_model_without_positions_is_read_no_further_than_it_was_trained(runs: Path) -> None:
    assert metrics(runs / "base")["window"] == 64
    assert artifact(runs / "base")["properties"]["trained_length"] == 64
    assert artifact(runs / "sft")["properties"]["trained_length"] == 64
    assert metrics(runs / "read")["arithmetic bits_per_byte window 64"] > 0
