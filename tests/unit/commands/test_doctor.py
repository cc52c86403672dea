"""`posttrain doctor`: what is here, what is missing, and what to do about it."""

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline.commands.doctor import examine, requirements
from tests.command import command

call = pytest.fixture(command)


def test_it_names_every_package_that_is_needed_with_its_version(tmp_path: Path) -> None:
    found = {each.name: each for each in examine(tmp_path) if each.section == "versions"}
    needed = [requirement for requirement, extra in requirements() if not extra]
    assert len(needed) > 15
    for requirement in needed:
        assert found[requirement.name].says == metadata.version(requirement.name)
        assert found[requirement.name].state == "ok"


def test_a_package_that_is_too_old_or_absent_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy>=999", "no-such-package>=2", "no-such-extra>=3; extra == 'some'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    found = {each.name: each for each in examine(tmp_path)}
    assert (found["numpy"].state, found["numpy"].hint) == ("broken", "pip install 'numpy>=999'")
    assert found["numpy"].says.endswith("and >=999 is needed")
    assert found["no-such-package"].state == "broken"
    assert (found["some"].state, found["some"].hint) == ("absent", "pip install 'posttrain[some]'")
    assert str(Requirement("no-such-package>=2")) in found["no-such-package"].hint


def test_all_is_said_within_80_columns_and_what_is_broken_decides_the_exit_code(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = call("doctor", "--runs", str(tmp_path / "runs"))
    assert said.code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= 80
    for word in ("torch", "cpu", "memory", "programs", "harness", "pip install 'posttrain["):
        assert word in said.out
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").write_text("")
    said = call("doctor", "--runs", str(tmp_path / "file"))
    assert said.code == 3
    assert "cannot be written" in " ".join(said.out.split())  # lines are wrapped
    assert said.err == "doctor: 1 of these is broken; see the hint below each\n"
