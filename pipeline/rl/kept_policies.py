"""Policies that are kept on the way, for a training that a sign of reward hacking may stop.

At rollouts that the length of the training decides, never by the clock as checkpoints are: a run
that was killed on the way then ends with the same policy as one that was not.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pipeline.files.whole_files import flush, put_in_place
from pipeline.rl import checkpoint
from pipeline.rl.signs import WINDOW

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.rl.actor import Actor

_PARTS = 8  # of a training, at the beginning of each of which the policy is kept
_FOLDER, _NAME = "kept-policies", "rollout-"


class KeptPolicies:
    """Policies (and critics) by the rollouts that they were trained on, in a folder of `output`.

    all_of_them: keep every one; else the two newest, one of which is from before the rollouts that
    any sign but over-optimisation is told by.
    """

    def __init__(self, output: Path, *, all_of_them: bool) -> None:
        self._folder = output / _FOLDER
        self._at_most = None if all_of_them else 2

    def is_due(self, number: int, *, num_rollouts: int) -> bool:
        """Whether the policy is kept that was trained on the rollouts before this one."""
        return number % max(WINDOW, -(-num_rollouts // _PARTS)) == 0

    def keep(self, number: int, actor: Actor) -> None:
        """Write the policy, whole or not at all; drop those that nobody goes back to."""
        new, aside = self._folder / ".new", self._folder / ".old"
        for left in (new, aside):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        checkpoint.save_weights(new, actor)
        for path in (file for file in new.rglob("*") if file.is_file()):
            flush(path)
        put_in_place(new, self._folder / f"{_NAME}{number}", aside)
        flush(self._folder)
        shutil.rmtree(aside, ignore_errors=True)
        if self._at_most is not None:
            earlier = [kept for kept in self.numbers() if kept <= number]
            for old in earlier[: -self._at_most]:
                shutil.rmtree(self._at(old))

    def numbers(self) -> list[int]:
        """Return on how many rollouts the kept policies were trained, in order."""
        if not self._folder.is_dir():
            return []
        found = self._folder.glob(f"{_NAME}*")
        return sorted(int(path.name.removeprefix(_NAME)) for path in found)

    def take(self, before: int, actor: Actor) -> int | None:
        """Fill an actor with the newest policy from before a rollout; return its number, or None.

        The policy that sampled a rollout is the one that was trained on those before it.
        """
        earlier = [number for number in self.numbers() if number < before]
        if not earlier:
            return None
        checkpoint.load_weights(self._at(earlier[-1]), actor)
        return earlier[-1]

    def _at(self, number: int) -> Path:
        return self._folder / f"{_NAME}{number}"
