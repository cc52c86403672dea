"""A kill changes neither what was evaluated nor the best checkpoint, in every stage that trains."""

from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.kills import kill_and_compare
from tests.stages.test_watching import SHORTER, WATCHED
from tests.trained import train

pytestmark = pytest.mark.slow
EVALUATED = "[{task: arithmetic, split: validation, rows: 12}]"


@pytest.mark.parametrize(
    ("stage", "metric"), [("base", "loss"), ("rm", "loss"), ("ppo", "objective/kl")]
)
def test_a_kill_changes_nothing_that_was_watched(stage: str, metric: str, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY + WATCHED)
    (tmp_path / "shorter.py").write_text(SHORTER)
    arguments = {
        **{"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": "true"},
        **{"metric_for_best_model": metric, "greater_is_better": str(stage != "ppo").lower()},
    }
    overrides = [f"stages.{stage}.training_args.{key}={val}" for key, val in arguments.items()]
    overrides.append(f"stages.{stage}.eval_data={EVALUATED}")
    trained = train(recipe, tmp_path / "trained", until=stage, overrides=overrides)
    tally = kill_and_compare(trained, tmp_path, stage, kills=2, seed=1, overrides=overrides)
    assert tally.differ == 0, tally.said
