"""How long commands take, started as a user starts them: with their byte code compiled before."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.benchmarks.clocks import Clocks

POSTTRAIN = str(Path(sys.executable).parent / "posttrain")
REPOSITORY = Path(__file__).parents[2]
QUICKSTART = str(REPOSITORY / "recipes" / "quickstart.yaml")
INTERPRETER = (sys.executable, "-c", "pass")


def run(
    *command: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
    output: Path | None = None,
    codes: Collection[int] = (0,),
) -> Clocks:
    """Run a command; RuntimeError with what it said when it fails.

    output: where its standard output goes as it is written. codes: that it may leave with.
    """
    with contextlib.ExitStack() as stack:
        stdout = subprocess.PIPE if output is None else stack.enter_context(output.open("wb"))
        began = Clocks.now()
        ended = subprocess.run(
            command,
            check=False,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        taken = Clocks.now().since(began)
    if ended.returncode not in codes:
        said = ended.stderr.strip() or (ended.stdout or "").strip()
        raise RuntimeError(f"`{' '.join(command)}` left with {ended.returncode}: {said}")
    return taken


def best(*commands: tuple[str, ...], repeats: int) -> list[Clocks]:
    """Return the shortest wall time and processor time of each command; they take turns."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for command in commands:
            run(*command, environment=environment)
        turns = [
            [run(*command, environment=environment) for command in commands] for _ in range(repeats)
        ]
    return [
        Clocks(min(taken.wall_s for taken in of_one), min(taken.cpu_s for taken in of_one))
        for of_one in zip(*turns, strict=True)
    ]
