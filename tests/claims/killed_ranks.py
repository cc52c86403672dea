"""Cases of G1 in which several processes are at one stage: two ranks, or two runs of one recipe."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.claims import killed
from tests.claims.claim import Case, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.claims.killed import Place
    from tests.forked import Ended

_STAGES = ("sft", "ppo")
_CASES = 6  # of three blows: every signal to every target twice
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_TARGETS = ("the runner", "rank 0", "rank 1")
_GONE_WITHIN_S = 5.0
_LIMIT_S = 900.0


@dataclass(frozen=True)
class _Blow:
    """Which signal goes to whom, and when."""

    number: signal.Signals
    target: str
    moment: str

    def __str__(self) -> str:
        return f"{self.number.name} to {self.target} {self.moment}"


def cases(drawn: Random, times: int) -> list[Case]:
    """Return three blows a case, every signal to every target in turn, at drawn moments."""
    blows = [(number, target) for number in _SIGNALS for target in _TARGETS]
    found: list[Case] = []
    for number in range(_CASES * times):
        chosen = [blows[(3 * number + more) % len(blows)] for more in range(3)]
        struck = [_Blow(*each, drawn.choice(tuple(_MOMENTS))) for each in chosen]
        name = _STAGES[number % len(_STAGES)]
        said = f"two ranks {number}, {killed.KINDS[name]}: {'; '.join(map(str, struck))}"
        found.append(Case(said, partial(_strike, name=name, blows=struck), _LIMIT_S))
    for number in range(3 * times):
        for name in ("base", "sft", "dpo", "ppo"):
            said = f"two runs at once {number}, {killed.KINDS[name]}"
            attempt = partial(_run_at_once, name=name, is_killed=number > 0)
            found.append(Case(said, attempt, _LIMIT_S))
    return found


def _strike(folder: Path, *, name: str, blows: Sequence[_Blow]) -> Outcome:
    """Strike two ranks or their runner, several times; run it to its end and compare."""
    expected = _together(name)
    place = killed.prepared(folder, name)
    tried, labels, failures = 0, dict[str, int](), list[str]()
    for blow in blows:
        sealed = place.sealed()
        struck = _Strike(place, blow)
        ended = place.do(
            name, sets=_sets(name), signal_when=struck.is_due_for_the_runner, number=blow.number
        )
        failures += [f"{blow}: {line}" for line in (*struck.failures, *struck.after(ended))]
        if sealed and "resumes from" not in ended.output and struck.was_struck:
            failures.append(f"{blow}: it began anew although checkpoint {sealed[-1]} counts")
        if not struck.was_struck:
            break
        tried += 1
        for label in ("of two ranks", *(["inside a save"] if struck.was_inside else [])):
            labels[label] = labels.get(label, 0) + 1
        if ended.code == 0:
            break
    ended = place.do(name, sets=_sets(name))
    if ended.code != 0:
        failures.append(f"run again it ended with {ended.code}: {ended.output[-300:]}")
    else:
        failures += sorted(set(place.hashes(name)) ^ set(expected))[:4]
    return Outcome(tried, tuple(failures), labels)


class _Strike:
    """Waits for the moment, strikes a rank, or says that the runner is due."""

    def __init__(self, place: Place, blow: _Blow) -> None:
        self._place = place
        self._blow = blow
        self._lines = _num_lines(place)
        self._pids: dict[int, int] = {}
        self.was_struck = False
        self.was_inside = False
        self.failures: list[str] = []

    def is_due_for_the_runner(self, _: float) -> bool:
        """Strike a rank if it is time; say whether the runner is to be signalled now."""
        if self.was_struck or not _MOMENTS[self._blow.moment](self._place, self._lines):
            return False
        self._pids = _ranks(self._place)
        if sorted(self._pids.values()) != [0, 1]:
            return False
        self.was_inside = self._place.is_inside_a_save()
        lock = str(_lock(self._place))
        for pid, rank in self._pids.items():
            if lock not in _open_files(pid):
                self.failures.append(f"rank {rank} does not hold the stage's lock")
        self.was_struck = True
        if self._blow.target == "the runner":
            return True
        number = int(self._blow.target[-1])
        pid = next(pid for pid, rank in self._pids.items() if rank == number)
        os.kill(pid, self._blow.number)
        return False

    def after(self, ended: Ended) -> list[str]:
        """Return what is wrong once the runner has ended: how, and whom it left."""
        found: list[str] = []
        until_s = time.monotonic() + _GONE_WITHIN_S
        while True:
            is_held = _is_held(_lock(self._place))
            if not _ranks(self._place):
                break
            if not is_held:
                found.append("the lock is free while ranks live")
            if time.monotonic() > until_s:
                found.append(f"ranks live {_GONE_WITHIN_S:.0f} s after their runner")
                for pid in _ranks(self._place):
                    os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        if not self.was_struck:
            return found
        is_kill = self._blow.number == signal.SIGKILL
        of_runner = self._blow.target == "the runner"
        wanted = (None if of_runner else 3) if is_kill else 130
        if ended.code not in (wanted, 0):  # 0: it was at its end already
            found.append(f"it ended with {ended.code} instead of {wanted}: {ended.output[-300:]}")
        if is_kill and not of_runner and ended.code == 3:
            said = f"process {int(self._blow.target[-1]) + 1} of 2 was killed by SIGKILL"
            if said not in ended.output or "memory ran out" in ended.output:
                found.append(f"it did not say who was killed: {ended.output[-300:]}")
        if "Traceback" in ended.output or "torn" in ended.output:
            found.append(ended.output[-600:])
        return found


def _run_at_once(folder: Path, *, name: str, is_killed: bool) -> Outcome:
    """Start a second run while the first trains; it waits, and takes over if need be."""
    expected = killed.done()[1][name].hashes
    place = killed.prepared(folder, name)
    said = folder / "second.log"
    is_struck = False

    def is_second_waiting(_: float) -> bool:
        return said.exists() and "waiting for process" in said.read_text()

    # The second is the one that this process waits for; the first is watched by a child.
    first = os.fork()
    if first == 0:
        ended = place.do(name, log="first.log")
        os._exit(0 if ended.code in (0, None) else 1)
    failures: list[str] = []
    until_s = time.monotonic() + _LIMIT_S / 2
    while not place.sealed() and time.monotonic() < until_s:
        time.sleep(0.003)
    held_up = _running(place, "first.log")  # else it might end before the second comes
    _signal(held_up, signal.SIGSTOP)

    def let_the_first_go_on(seconds: float) -> bool:
        nonlocal is_struck
        if not is_struck and is_second_waiting(seconds):
            is_struck = True
            _signal(held_up, signal.SIGKILL if is_killed else signal.SIGCONT)
        return False

    ended = place.do(name, log="second.log", signal_when=let_the_first_go_on)
    if not is_struck:
        _signal(held_up, signal.SIGCONT)
    status = os.waitpid(first, 0)[1]
    if os.waitstatus_to_exitcode(status) != 0:
        failures.append(f"the first ended badly: {(folder / 'first.log').read_text()[-300:]}")
    # The first was at its end when the second looked.
    came_late = re.search(r" cached(  |\n)", ended.output) is not None
    if "waiting for process" not in ended.output and not came_late:
        failures.append("the second did not wait for the first")
    if ended.code != 0:
        failures.append(f"the second ended with {ended.code}: {ended.output[-300:]}")
    else:
        failures += sorted(set(place.hashes(name)) ^ set(expected))[:4]
        has_finished = " done in " in (folder / "first.log").read_text()
        wanted = "another process has just finished it" if has_finished else "resumes from"
        if wanted not in ended.output and not came_late:
            failures.append(f"the second did not say that: {wanted}")
    return Outcome(int(not came_late), tuple(failures), {"two runs at once": int(not came_late)})


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@functools.cache
def _together(name: str) -> list[str]:
    """Return what two ranks end in when nobody disturbs them."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="posttrain-together-"))
    try:
        place = killed.prepared(folder, name)
        ended = place.do(name, sets=_sets(name))
        assert ended.code == 0, ended.output
        return place.hashes(name)
    finally:
        shutil.rmtree(folder)


def _sets(name: str) -> tuple[str, ...]:
    given = f"stages.{name}."
    return (
        f"{given}launch={{with: accelerate, processes: 2}}",
        f"{given}training_args.per_device_train_batch_size=2",
    )


def _is_started(place: Place, lines: int) -> bool:
    return any(place.runs.glob("store/.working/*/rank-1.txt"))


def _is_loading(place: Place, lines: int) -> bool:
    return any(place.runs.glob("store/.working/*/out/log.txt"))


def _is_training(place: Place, lines: int) -> bool:
    return _num_lines(place) > lines


def _is_saving(place: Place, lines: int) -> bool:
    found = place.runs.glob("store/.working/*/checkpoints/checkpoint-*")
    return any(not (each / "MANIFEST.json").exists() for each in found)


_MOMENTS: dict[str, Callable[[Place, int], bool]] = {
    "when they start": _is_started,
    "while they load": _is_loading,
    "while they train": _is_training,
    "while they save": _is_saving,
}


def _num_lines(place: Place) -> int:
    found = place.runs.glob("store/.working/*/out/metrics.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in found)


def _ranks(place: Place) -> dict[int, int]:
    """Return the rank of every process that works in this store, by its id."""
    found: dict[int, int] = {}
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"pipeline.run.worker" not in command or os.fsencode(place.runs) not in command:
                continue
            given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        rank = next((each for each in given if each.startswith(b"RANK=")), None)
        if rank is not None:
            found[pid] = int(rank.partition(b"=")[2])
    return found


def _running(place: Place, log: str) -> list[int]:
    """Return the processes whose output goes to a log of this place."""
    path = str((place.runs.parent / log).resolve())
    return [pid for pid in _pids() if path in _open_files(pid)]


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _open_files(pid: int) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):  # it has ended
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it has been closed since
                found.add(str(each.readlink()))
    return found


def _lock(place: Place) -> Path:
    """Return the lock of the stage at work, the only one in use."""
    (working,) = place.working()[:1] or [Path("none")]
    return (place.runs / "store" / ".locks" / f"{working.name}.lock").resolve()


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
