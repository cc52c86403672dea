"""Weights that two processes split: the training is that of one, and what is published is whole."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.forked import run_forked, warm
from tests.forked_ranks import fork_ranks, split_over
from tests.together import difference, metrics
from tests.trained import Trained


@pytest.mark.enable_socket
def test_two_processes_that_split_the_weights_end_where_one_does(
    trained: Trained, tmp_path: Path
) -> None:
    warm()
    runs = trained.without("sft", tmp_path)
    asked = split_over("sft")
    ended = run_forked(trained.recipe, runs, overrides=asked, only="sft", first=fork_ranks)
    assert ended.code == 0, ended.output
    assert difference(trained.runs, runs, "sft") <= 1e-6
    losses = [[line["loss"] for line in metrics(each, "sft")] for each in (trained.runs, runs)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    _, said = AutoModelForCausalLM.from_pretrained(runs / "tiny" / "sft", output_loading_info=True)
    assert not any(said[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
