from pathlib import Path

import pytest

from tests.command import Command, command, refuse_heavy_imports


@pytest.fixture
def posttrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command, run in an empty folder; to import torch or the like is an error."""
    monkeypatch.chdir(tmp_path)
    refuse_heavy_imports(monkeypatch)
    return command(monkeypatch, capsys)
