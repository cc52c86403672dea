"""Slurm's commands as small scripts on PATH: they write down what they are asked, and run nothing.

A folder holds what they answer: `states` (a line `number|STATE|reason` for each job), `refusal`
(what sbatch says instead of taking a job), `job` (a script that is run with a job's folder as soon
as it is submitted, in the place of the job).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

_SCRIPTS = {
    "sbatch": """\
printf '%s\\n' "$@" -- >> "$HERE/asked"
[ -f "$HERE/refusal" ] && { cat "$HERE/refusal" >&2; exit 1; }
[ "$1" = --test-only ] && exit 0
number=$(( $(cat "$HERE/count" 2>/dev/null || echo 10) + 1 )); echo $number > "$HERE/count"
echo "$number|PENDING|Priority" >> "$HERE/states"
for last; do :; done
[ -f "$HERE/job" ] && sh "$HERE/job" "${last##* }" >&2
echo $number
""",
    "squeue": """\
case "$2" in
  --me) cat "$HERE/states" 2>/dev/null || true;;
  --jobs=*) grep "^${2#--jobs=}|" "$HERE/states" | cut -d '|' -f 2;;
esac
""",
    "scontrol": 'echo "$@" >> "$HERE/controlled"\n',
    "sacct": "exit 1\n",
}


@dataclass(frozen=True)
class Slurm:
    """The folder of the scripts."""

    folder: Path

    def answer(self, name: str, text: str) -> None:
        """Set what the scripts answer from now on."""
        (self.folder / name).write_text(text)

    def jobs(self) -> list[list[str]]:
        """Return the words with which each job was submitted."""
        asked = self.folder / "asked"
        calls = asked.read_text().split("\n--\n") if asked.exists() else []
        words = [call.splitlines() for call in calls if call.strip()]
        return [call for call in words if "--parsable" in call]

    def controlled(self) -> str:
        """Return what scontrol was asked."""
        path = self.folder / "controlled"
        return path.read_text() if path.exists() else ""


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Put the scripts first on PATH."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in _SCRIPTS.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\nHERE={folder}\n{text}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return Slurm(folder)
