"""`make prove`: try every claim, print one page of counts, leave with 1 if one did not hold.

`python -m tests.claims [--seed N] [--times N] [--share X] [--processes N] [--case NAME] [--first]
[G3 ...]`.
The cases are drawn from the seed and dealt to as many processes as there are cores, each of which
imports the heavy libraries once. A failure is printed with the command that replays it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.claims.claim import Case, Claim, Outcome
from tests.claims.page import Line, write_page

if TYPE_CHECKING:
    from collections.abc import Generator


_DONE = b""


class _TooLongError(Exception):
    """A case did not end within its limit."""


def main(given: list[str]) -> int:
    asked = _arguments(given)
    started_s = time.monotonic()
    lines = [Line(claim) for claim in load_claims(asked.claims)]
    by_number = {line.claim.number: line for line in lines}
    attempts = _attempts(asked, [line.claim for line in lines])
    for number, case, outcome, seconds in attempts:
        line = by_number[number]
        line.add(case, outcome, seconds)
        for failure in outcome.failures:
            _show(f"{number} does not hold: {case}: {failure}\n  {_replay(asked, number, case)}")
        if outcome.failures and asked.first:
            attempts.close()
            break
        if sys.stderr.isatty():
            print(f"\r{number} {line.tried:,} tried\033[K", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    minutes, seconds = divmod(round(time.monotonic() - started_s), 60)
    print(f"\n{write_page(lines)}\n\nseed {asked.seed}, {asked.processes} processes, ", end="")
    print(f"{minutes} min {seconds} s")
    is_whole = asked.share == 1.0 and asked.case is None
    shortfalls = [f"{line.claim.number}: {few}" for line in lines for few in line.shortfalls()]
    if is_whole and shortfalls:
        print("tried too seldom:", *shortfalls, sep="\n  ")
    return int(any(line.failures for line in lines) or (is_whole and bool(shortfalls)))


def load_claims(numbers: list[str]) -> list[Claim]:
    """Return the claims of these numbers, all if there are none, in the order of the page."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    modules = [import_module(f"tests.claims.{name}") for name in names]
    claims = [module.CLAIM for module in modules if hasattr(module, "CLAIM")]
    chosen = [claim for claim in claims if not numbers or claim.number in numbers]
    return sorted(chosen, key=lambda claim: (int(re.sub(r"\D", "", claim.number)), claim.number))


def draw_cases(claim: Claim, seed: int, times: int) -> list[Case]:
    """Return the claim's cases of this seed; their names are unique."""
    cases = list(claim.cases(random.Random(f"{seed} {claim.number}"), times))
    names = [case.name for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{claim.number} has several cases of one name: {sorted(twice)[:3]}")
    return cases


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.claims", description=__doc__)
    parser.add_argument("claims", nargs="*", help="G1 to G10; all if none is named")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--times", type=int, default=1, help="how many times the usual number")
    parser.add_argument("--share", type=float, default=1.0, help="try only this share of the cases")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", help="try the case of this name, or those whose names begin so")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    return parser.parse_args(given)


def _replay(asked: argparse.Namespace, number: str, case: str) -> str:
    return (
        f"python -m tests.claims --seed {asked.seed} --times {asked.times} {number} --case '{case}'"
    )


def _attempts(
    asked: argparse.Namespace, claims: list[Claim]
) -> Generator[tuple[str, str, Outcome, float]]:
    """Yield (claim's number, case's name, outcome, processor seconds) as they come."""
    context = multiprocessing.get_context("fork")
    taken = context.Value("i", 0)
    ends: list[Connection] = []
    workers = []
    with tempfile.TemporaryDirectory(prefix="posttrain-claims-") as folder:
        try:
            for _ in range(asked.processes):
                here, there = context.Pipe(duplex=False)
                worker = context.Process(target=_work, args=(asked, claims, folder, taken, there))
                worker.start()
                there.close()
                ends.append(here)
                workers.append(worker)
            while ends:
                for end in wait(ends):
                    assert isinstance(end, Connection)
                    try:
                        message = end.recv_bytes()
                    except EOFError:  # it was killed; its exit code says so
                        message = _DONE
                    if message == _DONE:
                        ends.remove(end)
                        continue
                    number, case, outcome, seconds = json.loads(message)
                    failures = tuple(outcome.pop("failures"))
                    yield number, case, Outcome(failures=failures, **outcome), seconds
            for worker in workers:
                worker.join()
                if worker.exitcode:
                    raise SystemExit(f"a process of the page ended with {worker.exitcode}")
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()


def _work(
    asked: argparse.Namespace, claims: list[Claim], folder: str, taken: Any, out: Connection
) -> None:
    """Try cases in this process, always the next one that no process has taken."""
    from tests.forked import warm

    tempfile.tempdir = folder
    warm()
    signal.signal(signal.SIGALRM, _raise_too_long)
    cases = [(claim.number, case) for claim in claims for case in _choose(asked, claim)]
    while True:
        with taken.get_lock():
            place = taken.value
            taken.value += 1
        if place >= len(cases):
            break
        number, case = cases[place]
        started_s = _processor_s()
        outcome = attempt(case)
        message = json.dumps([number, case.name, asdict(outcome), _processor_s() - started_s])
        out.send_bytes(message.encode())
    out.send_bytes(_DONE)  # processes that a case has left may hold the pipe open


def _choose(asked: argparse.Namespace, claim: Claim) -> list[Case]:
    """Return the cases of a claim that the command line asks for."""
    cases = draw_cases(claim, asked.seed, asked.times)
    if asked.case is not None:
        return [case for case in cases if case.name == asked.case] or [
            case for case in cases if case.name.startswith(asked.case)
        ]
    return cases[:: max(round(1 / asked.share), 1)]


def attempt(case: Case) -> Outcome:
    """Try one case in a folder of its own; whatever it raises is a failure."""
    with tempfile.TemporaryDirectory(prefix="posttrain-claim-") as folder:
        signal.setitimer(signal.ITIMER_REAL, case.limit_s)
        try:
            return case.attempt(Path(folder))
        except _TooLongError:
            return Outcome(failures=(f"took longer than {case.limit_s:.0f} s",))
        except Exception:  # noqa: BLE001  what a case raises is its outcome
            return Outcome(failures=(traceback.format_exc(limit=-3),))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _raise_too_long(*_: object) -> None:
    raise _TooLongError


def _processor_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
