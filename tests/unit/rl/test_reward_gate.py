"""A reward model that scores all samples alike is found out before a policy is trained on it."""

import pytest
import torch

from pipeline.errors import PosttrainError
from pipeline.rl.ranking_check import check_scores


def test_equal_scores_of_all_responses_stop_the_chain() -> None:
    scores = torch.full((9, 1), 0.25)
    with pytest.raises(PosttrainError, match=r"gives all 9 responses .* the same score, 0.25"):
        check_scores("recipe.yaml: ppo", ["preference"], scores)
    check_scores("recipe.yaml: ppo", [""], scores)  # a function may well say so
    scores[3] = 0.5
    check_scores("recipe.yaml: ppo", ["preference"], scores)
