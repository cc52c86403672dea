"""What hostile programs try, judged from outside the box: nothing is gained, nothing changes."""

import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from reward.sandbox import Call, run_calls
from tests.unit.reward.hostile_programs import ATTACKS, ENDLESS, PRELUDE, SECRET, X86_SYSCALLS


@dataclass(frozen=True)
class World:
    """What a program must neither see nor change; passed to it by keyword."""

    folder: str
    secret: str
    artifact: str
    project: str
    parent: int
    sibling: int
    tcp: int
    udp: int
    unix: str


@pytest.fixture(scope="module")
def listeners() -> Iterator[dict[str, socket.socket]]:
    # pytest-socket replaces socket.socket, not the class it derives from.
    kind = socket.socket.__mro__[1] if socket.socket.__name__ == "GuardedSocket" else socket.socket
    tcp = kind(socket.AF_INET, socket.SOCK_STREAM)
    udp = kind(socket.AF_INET, socket.SOCK_DGRAM)
    unix = kind(socket.AF_UNIX, socket.SOCK_STREAM)
    with tcp, udp, unix:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unix.bind(f"\0posttrain-{os.getpid()}")
        tcp.listen()
        unix.listen()
        for listener in (tcp, udp, unix):
            listener.setblocking(False)
        yield {"tcp": tcp, "udp": udp, "unix": unix}


@pytest.fixture(scope="module")
def sibling() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def world(tmp_path_factory, listeners, sibling) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    for level in (folder, *folder.parents[:3]):
        level.chmod(0o777)  # the worst case: only the box keeps a program out
    for name in ("secret", "artifact"):
        (folder / name).write_text(SECRET)
        (folder / name).chmod(0o666)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_JUDGE_KEY", SECRET)
        yield World(
            folder=str(folder),
            secret=str(folder / "secret"),
            artifact=str(folder / "artifact"),
            project=str(Path(__file__).parents[3]),
            parent=os.getpid(),
            sibling=sibling.pid,
            tcp=listeners["tcp"].getsockname()[1],
            udp=listeners["udp"].getsockname()[1],
            unix=f"posttrain-{os.getpid()}",
        )


def assert_untouched(world, listeners, sibling) -> None:
    folder = Path(world.folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "secret": SECRET,
        "artifact": SECRET,
    }
    assert (folder / "artifact").stat().st_mode & 0o777 == 0o666
    assert not list(Path("/tmp").glob("posttrain-attack-*"))
    assert not list(Path("/dev/shm").glob("posttrain-attack-*"))
    assert sibling.poll() is None
    for name in ("tcp", "unix"):
        with pytest.raises(BlockingIOError):
            listeners[name].accept()
    with pytest.raises(BlockingIOError):
        listeners["udp"].recv(1)
    honest = run_calls("def double(x): return 2 * x", [Call("double", [21])])
    assert honest.answers[0].value == 42


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gains_nothing(name, world, listeners, sibling):
    program = f"{PRELUDE}{ATTACKS[name]}\ndef gains(): return gained"
    calls = [Call("attack", keywords=asdict(world)), Call("gains")]
    outcome = run_calls(program, calls, timeout_s=2, memory_bytes=256 << 20)
    assert outcome.status != "infrastructure"
    assert SECRET not in repr(outcome)
    if len(outcome.answers) == 2:
        assert outcome.answers[1].value == []
    assert_untouched(world, listeners, sibling)


@pytest.mark.parametrize("name", ENDLESS)
def test_a_program_without_end_is_ended(name, world, listeners, sibling):
    calls = [Call("attack", keywords=asdict(world))]
    start = time.monotonic()
    outcome = run_calls(f"{PRELUDE}{ENDLESS[name]}", calls, timeout_s=0.5)
    assert outcome.status == "timeout"
    assert time.monotonic() - start < 5
    assert_untouched(world, listeners, sibling)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_system_calls_beyond_computing_are_refused_to_native_code_too():
    program = f"{PRELUDE}\ndef call(numbers): return [[n, syscall(n)] for n in numbers]"
    numbers = [int(number) for number in X86_SYSCALLS.split()]
    x32 = [number | 0x40000000 for number in numbers]
    outcome = run_calls(program, [Call("call", [numbers + x32])])
    assert outcome.status == "finished"
    assert {result for _, result in outcome.answers[0].value} == {-1}  # EPERM


def test_no_box_is_left_when_a_program_has_been_ended(world):
    run_calls(f"{PRELUDE}{ATTACKS['daemon']}", [Call("attack", keywords=asdict(world))])
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
