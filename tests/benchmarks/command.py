"""The wall time of commands as a user starts them: with their byte code compiled before."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POSTTRAIN = str(Path(sys.executable).parent / "posttrain")
REPOSITORY = Path(__file__).parents[2]
QUICKSTART = str(REPOSITORY / "recipes" / "quickstart.yaml")
INTERPRETER = (sys.executable, "-c", "pass")


def run(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run a command in the checkout, its output thrown away; CalledProcessError if it fails."""
    subprocess.run(
        command,
        check=True,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def best_seconds(*commands: tuple[str, ...], repeats: int) -> list[float]:
    """Return each command's shortest wall time; they take turns."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for command in commands:
            run(*command, environment=environment)
        turns = [[_seconds(command, environment) for command in commands] for _ in range(repeats)]
    return [min(times) for times in zip(*turns, strict=True)]


def _seconds(command: tuple[str, ...], environment: dict[str, str]) -> float:
    started_s = time.perf_counter()
    run(*command, environment=environment)
    return time.perf_counter() - started_s
