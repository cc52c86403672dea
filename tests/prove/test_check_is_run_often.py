"""What `check` passes, runs, of two hundred recipes drawn at random."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.checked_recipes import Drawn, checked_and_run, differ, drawn_recipes, save_models
from tests.forked import warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warm()
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(drawn=drawn_recipes())
def test_a_run_comes_to_what_check_says(drawn: Drawn, models: Path, tmp_path: Path) -> None:
    assert differ(*checked_and_run(drawn, models, tmp_path)) == ""
