"""Every stage that trains says what its loss on held-out rows was before and after."""

import json
import math
from typing import Any

import pytest
import torch

from eval.statistics.pairwise import ScoredPair, mean_loss
from pipeline.data.encoding.examples import IGNORED, EncodedExample
from pipeline.training.held_out import mean_label_loss
from tests.conftest import TINY
from tests.forked import run_forked, warm
from tests.unit.eval.conftest import llama

CHAIN = (
    TINY
    + """\
  rm:
    stage: reward_model
    model: $sft
    data: {file: pairs.jsonl, holdout: 0.3}
    batch_size: 8
    training_args: {learning_rate: 1e-3, num_train_epochs: 3}
  dpo:
    stage: dpo
    model: $sft
    data: {file: pairs.jsonl, holdout: 0.3}
    batch_size: 8
    training_args: {learning_rate: 1e-3, num_train_epochs: 3}
  mine:
    stage: sft
    model: $sft
    data: {file: mine.jsonl, holdout: 0.3}
    batch_size: 4
    lora: {r: 4}
    training_args: {learning_rate: 1e-2, num_train_epochs: 4}
"""
)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each stage of a chain measured."""
    folder = tmp_path_factory.mktemp("held_out")
    (folder / "tiny.yaml").write_text(CHAIN)
    rows = [{"instruction": f"Count to {n}.", "output": "1, 2, 3"} for n in range(40)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"prompt": f"Say {n}.", "chosen": " 1, 2", "rejected": " no"} for n in range(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    warm()
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return {
        name: json.loads((folder / "runs/tiny" / name / "artifact.json").read_text())["metrics"]
        for name in ("base", "sft", "rm", "dpo", "mine")
    }


@pytest.mark.parametrize("stage", ["sft", "rm", "mine"])
def test_training_lowers_the_loss_on_rows_that_it_never_saw(metrics, stage: str) -> None:
    found = metrics[stage]
    assert 0 < found["held_out_loss"] < found["held_out_loss_before"]


def test_preferences_begin_at_chance(metrics) -> None:
    assert metrics["dpo"]["held_out_loss_before"] == math.log(2)
    assert metrics["dpo"]["held_out_loss"] < math.log(2)
    assert metrics["rm"]["held_out_loss_before"] > 0


def test_pre_training_says_what_held_out_text_cost_before(metrics) -> None:
    found = metrics["base"]
    after, before = found["bits_per_byte arithmetic"], found["bits_per_byte_before arithmetic"]
    assert 0 < after < before


def test_only_rows_that_were_held_out_are_counted(metrics) -> None:
    assert 0 < metrics["mine"]["held_out_rows"] < 40
    assert metrics["mine"]["held_out_rows"] + metrics["mine"]["rows"] == 40


def test_the_loss_is_the_mean_over_all_labels_and_leaves_the_model_as_it_was() -> None:
    module = llama().train()
    rows = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]
    examples = [EncodedExample(ids, [IGNORED, *ids[1:]], "row") for ids in rows]
    total, number = 0.0, 0
    for ids in rows:
        module.eval()
        with torch.no_grad():
            logprobs = module(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(logprobs[at - 1, token]) for at, token in enumerate(ids) if at)
        number += len(ids) - 1
    module.train()
    state = torch.random.get_rng_state()
    assert mean_label_loss(module, examples) == pytest.approx(total / number, rel=1e-5)
    assert module.training
    assert torch.equal(torch.random.get_rng_state(), state)
    nothing = [EncodedExample([5, 6], [IGNORED, IGNORED], "row")]
    assert mean_label_loss(module, nothing) is None


def test_a_soft_label_weighs_both_ways_round() -> None:
    certain, turned = ScoredPair(2.0, 0.5, 1, 1), ScoredPair(0.5, 2.0, 1, 1)
    unsure = ScoredPair(2.0, 0.5, 1, 1, probability=0.7)
    expected = 0.7 * mean_loss([certain]) + 0.3 * mean_loss([turned])
    assert mean_loss([unsure]) == pytest.approx(expected)
    assert mean_loss([certain]) == pytest.approx(math.log(1 + math.exp(-1.5)))
    assert mean_loss([ScoredPair(1e4, 0.0, 1, 1)]) == 0.0
