"""Extras that hints, pages and recipes name are those of pyproject.toml."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from pipeline.commands.doctor import PURPOSES
from pipeline.commands.track import Tracker

REPOSITORY = Path(__file__).parents[2]
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
NAMED = re.compile(r"posttrain\[([a-z0-9, ]+)\]")
NAMES = ("pipeline", "eval", "reward", "docs", "recipes", "README.md", "CONTRIBUTING.md")


def named_extras() -> list[tuple[str, str]]:
    """Return each extra that a file names, with the file."""
    roots = [REPOSITORY / name for name in NAMES]
    paths = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])]
    return [
        (str(path.relative_to(REPOSITORY)), extra.strip())
        for path in sorted(paths)
        if path.suffix in (".py", ".md", ".yaml", ".j2", ".html")
        for names in NAMED.findall(path.read_text(encoding="utf-8"))
        for extra in names.split(",")
    ]


def test_every_extra_that_a_file_names_exists() -> None:
    named = named_extras()
    assert len(named) >= 5
    assert [(path, extra) for path, extra in named if extra not in EXTRAS] == []


@pytest.mark.parametrize("tracker", get_args(Tracker))
def test_every_tracker_is_an_extra(tracker: str) -> None:
    assert tracker in EXTRAS


def test_doctor_says_what_every_extra_is_for() -> None:
    assert set(PURPOSES) == set(EXTRAS) - {"dev"}
