"""The command, and a folder in which a recipe of rows has run, for the tests of several files."""

from pathlib import Path

import pytest

from tests.command import Command, Said, command
from tests.made_rows import run_whole
from tests.small_generating import write_recipe


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="session")
def made_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A folder in which the whole recipe of small_generating.py has run, and what that said."""
    folder = tmp_path_factory.mktemp("made")
    return folder, run_whole(folder, write_recipe)


@pytest.fixture
def made_folder(made_rows: tuple[Path, Said], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the present one."""
    assert made_rows[1].code == 0, made_rows[1].out
    monkeypatch.chdir(made_rows[0])
    monkeypatch.setenv("COLUMNS", "160")
    return made_rows[0]
