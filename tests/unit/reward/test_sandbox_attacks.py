"""What hostile programs try, judged from outside the box: nothing is gained, nothing changes."""

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reward.sandbox import Call, run_calls
from tests.unit.reward.hostile_programs import ATTACKS, ENDLESS, PRELUDE, SECRET, X86_SYSCALLS
from tests.unit.reward.sandbox_world import Watched, watched_world


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with watched_world() as watched:
        yield watched


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gains_nothing(name, watched):
    program = f"{PRELUDE}{ATTACKS[name]}\ndef gains(): return gained"
    calls = [Call("attack", keywords=watched.arguments), Call("gains")]
    outcome = run_calls(program, calls, timeout_s=2, memory_bytes=256 << 20)
    assert outcome.status != "infrastructure"
    assert SECRET not in repr(outcome)
    if len(outcome.answers) == 2:
        assert outcome.answers[1].value == []
    assert watched.changes() == []


@pytest.mark.parametrize("name", ENDLESS)
def test_a_program_without_end_is_ended(name, watched):
    calls = [Call("attack", keywords=watched.arguments)]
    start = time.monotonic()
    outcome = run_calls(f"{PRELUDE}{ENDLESS[name]}", calls, timeout_s=0.5)
    assert outcome.status == "timeout"
    assert time.monotonic() - start < 5
    assert watched.changes() == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_system_calls_beyond_computing_are_refused_to_native_code_too():
    program = f"{PRELUDE}\ndef call(numbers): return [[n, syscall(n)] for n in numbers]"
    numbers = [int(number) for number in X86_SYSCALLS.split()]
    x32 = [number | 0x40000000 for number in numbers]
    outcome = run_calls(program, [Call("call", [numbers + x32])])
    assert outcome.status == "finished"
    assert {result for _, result in outcome.answers[0].value} == {-1}  # EPERM


def test_no_box_is_left_when_a_program_has_been_ended(watched):
    run_calls(f"{PRELUDE}{ATTACKS['daemon']}", [Call("attack", keywords=watched.arguments)])
    run_calls(ENDLESS["loop_while_loading"], [], timeout_s=0.3)
    deadline = time.monotonic() + 5
    while (left := _descendants(os.getpid())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def _descendants(parent: int) -> list[str]:
    """Return the command lines of grandchildren: children of zygotes are boxes."""
    parent_by_process = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parent_by_process[int(stat.parent.name)] = int(fields[1])
    children = {process for process, above in parent_by_process.items() if above == parent}
    return [str(process) for process, above in parent_by_process.items() if above in children]


def test_what_a_program_prints_is_no_answer():
    program = "import os\nos.write(1, b'spam')\nprint('spam')\ndef one(): return 1"
    assert run_calls(program, [Call("one")]).answers[0].value == 1


def test_signals_that_look_like_cheating_are_named():
    outcome = run_calls("import sys\ndef leave(): sys.exit(0)", [Call("leave")])
    assert set(outcome.signals) == {"sys.exit", "raised SystemExit"}
    assert outcome.answers[0].error == "SystemExit: 0"
    assert run_calls("import os; os._exit(0)", []).signals == ("_exit", "ended its process")
