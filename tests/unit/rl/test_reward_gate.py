"""A reward model that tells nothing apart is found out before a policy is trained on it."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.errors import PosttrainError
from pipeline.rl.ranking_check import check_ranking, check_scores


def _measured(folder: Path, low: float | None) -> Path:
    found = {"low": low, "high": 0.62, "accuracy": 0.55, "n": 40}
    (folder / "held_out.json").write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize("low", [0.4, 0.5])
def test_a_ranking_that_may_be_chance_stops_the_chain(tmp_path: Path, low: float) -> None:
    with pytest.raises(PosttrainError, match=r"0.55 .* of 40 held-out pairs right, which may be"):
        check_ranking("recipe.yaml: ppo", "preference", _measured(tmp_path, low))


@pytest.mark.parametrize("low", [0.51, None])
def test_a_ranking_better_than_chance_or_unknown_passes(tmp_path: Path, low: float | None) -> None:
    check_ranking("recipe.yaml: ppo", "preference", _measured(tmp_path, low))


def test_a_model_that_was_trained_elsewhere_has_no_record_and_passes(tmp_path: Path) -> None:
    check_ranking("recipe.yaml: ppo", "preference", tmp_path)


def test_equal_scores_of_all_responses_stop_the_chain() -> None:
    scores = torch.full((9, 1), 0.25)
    with pytest.raises(PosttrainError, match=r"gives all 9 responses .* the same score, 0.25"):
        check_scores("recipe.yaml: ppo", ["preference"], scores)
    check_scores("recipe.yaml: ppo", [""], scores)  # a function may well say so
    scores[3] = 0.5
    check_scores("recipe.yaml: ppo", ["preference"], scores)
