"""What costs seconds is not imported by commands that only look."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import HEAVY

QUICKSTART = str(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
CODE = """
import json, sys
from pipeline.cli import main
sys.argv = ["posttrain", *sys.argv[1:]]
try:
    main()
finally:
    print("\\n" + json.dumps([sys.exc_info()[1] and sys.exc_info()[1].code, *sys.modules]))
"""


def imported_by(folder: Path, *arguments: str) -> set[str]:
    """Run a command that must succeed and return the top-level names of what it imported."""
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    code, *modules = json.loads(done.stdout.splitlines()[-1])
    assert not code
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", QUICKSTART),
        ("check", QUICKSTART),
        ("why", QUICKSTART, "sft"),
        ("status", QUICKSTART),
        ("list", "tasks"),
        ("list", "stages"),
        ("schema",),
        ("clean",),
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_imports_nothing_heavy(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert imported_by(tmp_path, *arguments).isdisjoint(HEAVY)


def test_help_imports_neither_pydantic_nor_yaml(tmp_path: Path) -> None:
    imported = imported_by(tmp_path, "--help")
    assert imported.isdisjoint({*HEAVY, "pydantic", "yaml", "rich", "numpy"})
