"""G6: attacks on who runs model-written programs and queries, as root and as nobody."""

from __future__ import annotations

import atexit
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reward.boxes import pool
from reward.sandbox import Call, run_calls, run_select
from reward.verifiers.code import Case as Asked
from reward.verifiers.code import passes_calls, passes_tests
from tests.claims import attack_rows
from tests.claims.claim import Case, Claim, Outcome, fails
from tests.unit.reward import hostile_programs
from tests.unit.reward.hostile_programs import PRELUDE, SECRET, X86_SYSCALLS
from tests.unit.reward.hostile_replies import REFUSED, TAKEN, forger
from tests.unit.reward.hostile_responses import HOSTILE, LIMIT_S, READERS
from tests.unit.reward.sandbox_world import Watched, watched_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from random import Random

User = Literal["root", "nobody"]

_NOBODY = 65534
_ROOM_BYTES = 1 << 30  # that an attack may make the one who runs it grow by
_PROCESSOR_S = 3.0  # that it may cost him
_SCHEMA = "create table people(name, age); insert into people values ('Ann', 30), ('Bob', 40);"
_GAINS = "\ndef gains(): return gained"


def _program(source: str, watched: Watched) -> str:
    calls = [Call("attack", keywords=watched.arguments), Call("gains")]
    program = f"{PRELUDE}{source}{_GAINS}"
    outcome = run_calls(program, calls, timeout_s=1, memory_bytes=256 << 20)
    if outcome.status == "infrastructure" or SECRET in repr(outcome):
        return f"it shows {outcome}"[:300]
    gained = outcome.answers[1].value if len(outcome.answers) == 2 else None
    return f"it gained {gained}"[:300] if gained else ""


def _endless(source: str, watched: Watched) -> str:
    call = Call("attack", keywords=watched.arguments)
    outcome = run_calls(f"{PRELUDE}{source}", [call], timeout_s=0.3)
    return "" if outcome.status == "timeout" else f"it is {outcome.status}: {outcome.reason}"


def _system_calls(numbers: list[int], _: Watched) -> str:
    program = f"{PRELUDE}\ndef call(numbers): return [[n, syscall(n)] for n in numbers]"
    outcome = run_calls(program, [Call("call", [numbers])])
    if outcome.status != "finished":
        return f"it is {outcome.status}: {outcome.reason}"
    done = [number for number, result in outcome.answers[0].value if result != -1]  # EPERM
    return f"system calls {done} are not refused" if done else ""


def _reply(reply: str, _: Watched) -> str:
    """Have a reply read by both of its readers: no exception, no pay, no box that is to blame."""
    program = forger(reply)
    by_calls = passes_calls(program, "attack", [Asked([1], 5)], timeout_s=1)
    by_tests = passes_tests(program, "assert attack(1) == 5", timeout_s=1)
    by_map = passes_tests(program, "assert all(map(lambda x: attack(x) == 5, [1]))", timeout_s=1)
    for verdict in (by_calls, by_tests, by_map):
        if verdict.score != 0.0:
            return f"it is scored {verdict.score}: {verdict.reason}"
        verdict.reason.encode()
    return ""


def _query(query: str, _: Watched) -> str:
    outcome = run_select(_SCHEMA, query, timeout_s=0.5)
    if outcome.status in ("infrastructure", "broken") or "root:" in repr(outcome):
        return f"it shows {outcome}"[:300]
    left = run_select(_SCHEMA, "select count(*) from people").answers
    return "" if left[0].value == [(2,)] else f"the table holds {left}"


def _attacks() -> dict[str, Callable[[Watched], str]]:
    programs = hostile_programs.ATTACKS | attack_rows.PROGRAMS
    endless = hostile_programs.ENDLESS | attack_rows.ENDLESS
    found: dict[str, Callable[[Watched], str]] = {}
    found |= {f"program, {name}": partial(_program, source) for name, source in programs.items()}
    found |= {f"endless, {name}": partial(_endless, source) for name, source in endless.items()}
    replies = REFUSED | TAKEN
    found |= {f"reply, {name}": partial(_reply, reply) for name, reply in replies.items()}
    queries = attack_rows.QUERIES
    found |= {f"query, {name}": partial(_query, query) for name, query in queries.items()}
    if platform.machine() == "x86_64":
        numbers = [int(number) for number in X86_SYSCALLS.split()]
        x32 = [number | 0x40000000 for number in numbers]
        found["system calls"] = partial(_system_calls, numbers + x32)
    return found


ATTACKS = _attacks()


def _attacked(user: User, name: str, _: Path) -> Outcome:
    """Have the process of that user attacked; it must live, and answer the next one, too."""
    if user == "nobody" and _interpreter_for_nobody() is None:
        return Outcome(0, labels={"not tried as nobody, who can run no Python here": 1})
    asked = _process_of(user)
    asked.send_bytes(name.encode())
    try:
        failure = json.loads(asked.recv_bytes())
    except EOFError:
        _process_of.cache_clear()
        return fails("the process that ran it has ended")
    return fails(failure) if failure else Outcome(labels={f"as {user}": 1})


@cache
def _process_of(user: User) -> Connection:
    """Fork a process that is attacked as that user, until nobody asks it any more."""
    here, there = get_context("fork").Pipe()
    if os.fork() == 0:
        here.close()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            atexit._clear()
            _be_attacked(user, there)
        except EOFError:
            pass
        finally:
            os._exit(0)
    there.close()
    return here


def _be_attacked(user: User, asking: Connection) -> None:
    with _being(user), watched_world() as watched:
        while True:
            name = asking.recv_bytes().decode()
            asking.send_bytes(json.dumps(_tried(name, watched)).encode())


@contextmanager
def _being(user: User) -> Iterator[None]:
    """Be that user for good; nobody has a Python and a copy of the boxes' code that he can read."""
    if user == "root":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="posttrain-reward-", dir="/tmp") as folder:
        source = Path(pool._SOURCE_ROOT) / "reward"
        shutil.copytree(source, f"{folder}/reward", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.chown(folder, _NOBODY, _NOBODY)
        interpreter = _interpreter_for_nobody()
        assert interpreter is not None
        pool._SOURCE_ROOT, sys.executable, tempfile.tempdir = folder, interpreter, "/tmp"
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        yield


@cache
def _interpreter_for_nobody() -> str | None:
    """Return a Python that everybody may run: a user's own often lies in his home."""
    asks = "import sys; sys.exit(sys.version_info < (3, 11))"
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with suppress(OSError):
            done = subprocess.run(
                [path, "-I", "-S", "-c", asks],
                user=_NOBODY,
                group=_NOBODY,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return path
    return None


def _tried(name: str, watched: Watched) -> str:
    """Try an attack; return what it did to this process or to the world, "" for nothing."""
    before_s = time.process_time()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ROOM_BYTES
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        failure = ATTACKS[name](watched)
    except BaseException:  # noqa: BLE001  what reaches the one who runs a program is the failure
        failure = traceback.format_exc(limit=-2)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, most))
    spent_s = time.process_time() - before_s
    if not failure and spent_s > _PROCESSOR_S:
        failure = f"it cost the one who ran it {spent_s:.1f} processor seconds"
    return failure or "; ".join(watched.changes())


def _read(name: str, _: Path) -> Outcome:
    """Have a hostile response read by whatever reads responses."""
    response = HOSTILE[name].response()
    for number, (reader, read) in enumerate(READERS.items()):
        before_s = time.process_time()
        read(response)
        if time.process_time() - before_s > LIMIT_S:
            return Outcome(number + 1, (f"{reader} takes more than {LIMIT_S} s",))
    return Outcome(len(READERS), labels={"hostile responses read": len(READERS)})


def _cases(_: Random, times: int) -> list[Case]:
    users: tuple[User, ...] = ("root", "nobody") if os.getuid() == 0 else ("root",)
    cases = [
        Case(f"{name}, as {user}" + (f", {time}" if time else ""), partial(_attacked, user, name))
        for time in range(times)
        for user in users
        for name in ATTACKS
    ]
    return cases + [Case(f"response, {name}", partial(_read, name)) for name in HOSTILE]


CLAIM = Claim(
    "G6",
    "an attack by a program, a reply, a query or a response gains nothing and harms nobody",
    _cases,
    least=400,
)
