"""Where the sandbox cannot work it refuses; what the machine does wrong is no program's fault."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from reward.boxes import confine, pool
from reward.sandbox import Call, SandboxUnavailable, require_sandbox, run_calls

ROOT = Path(__file__).parents[3]
HEADERS = Path("/usr/include")
DOUBLE = "def double(x): return 2 * x"


def value_of(program: str, function: str, *arguments: object) -> object:
    (answer,) = run_calls(program, [Call(function, arguments)]).answers
    assert not answer.error
    return answer.value


def zygotes() -> list[int]:
    """Return the processes that fork boxes for this one."""
    mine = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "reward.boxes.zygote"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(line) for line in mine.stdout.split()]


def test_zygotes_that_are_killed_are_replaced():
    require_sandbox()
    for process in zygotes():
        os.kill(process, signal.SIGKILL)
    assert value_of(DOUBLE, "double", 4) == 8


def test_a_program_whose_zygote_is_killed_runs_again():
    require_sandbox()
    killer = threading.Timer(0.5, lambda: [os.kill(z, signal.SIGKILL) for z in zygotes()])
    killer.start()
    program = "import time\ndef wait():\n    time.sleep(1)\n    return 1"
    assert value_of(program, "wait") == 1
    killer.join()


def test_a_machine_that_fails_twice_says_nothing_about_the_program(monkeypatch):
    monkeypatch.setattr(pool, "_POOL_BY_SETUP", {})
    for interpreter in ("/bin/false", "/nonexistent"):
        monkeypatch.setattr(sys, "executable", interpreter)
        assert run_calls(DOUBLE, []).status == "infrastructure"
    with pytest.raises(SandboxUnavailable, match="cannot be run"):
        require_sandbox()


def test_other_systems_are_refused_with_a_sentence(monkeypatch):
    monkeypatch.setattr(pool, "_POOL_BY_SETUP", {})
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="which darwin does not have"):
        run_calls(DOUBLE, [])


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in which it may break what it likes."""
    return subprocess.run(
        [options.pop("interpreter", sys.executable), "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(444, "offers no Landlock"), (446, "refuses to enforce Landlock")],
)
def test_a_kernel_without_landlock_is_refused(number, sentence):
    done = python(
        f"""
        import ctypes, errno
        from reward.boxes import confine
        confine._ALLOWED = {{str(n): (n, n) for n in range(460) if n != {number}}}
        confine._ALLOWED_UNLESS_EXECUTABLE = {{}}
        confine._FILTER = confine._filter(confine._MACHINES.index(__import__("os").uname().machine))
        confine._prctl(confine._PR_SET_NO_NEW_PRIVS, 1)
        confine._filter_system_calls()
        from reward.sandbox import SandboxUnavailable, run_calls
        try:
            print(run_calls("", []))
        except SandboxUnavailable as error:
            print("unavailable:", error)
        """
    )
    assert done.stdout.startswith("unavailable:"), done.stderr
    assert sentence in done.stdout


def test_landlock_alone_keeps_a_process_from_files_and_network(tmp_path):
    (tmp_path / "file").write_text("x")
    done = python(
        f"""
        import os, socket
        from reward.boxes import confine
        confine._prctl(confine._PR_SET_NO_NEW_PRIVS, 1)
        confine._deny_files_and_network()
        for action in (
            lambda: open("{tmp_path}/file"),
            lambda: open("{tmp_path}/new", "w"),
            lambda: os.mkdir("{tmp_path}/folder"),
            lambda: os.unlink("{tmp_path}/file"),
            lambda: os.listdir("/"),
            lambda: os.execv("/bin/true", ["true"]),
        ):
            try:
                print("gained", action())
            except PermissionError:
                print("denied")
        """
    )
    assert done.stdout.split() == ["denied"] * 6, done.stderr


def test_a_user_without_rights_is_confined_as_well():
    interpreter = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.getuid() != 0 or interpreter is None:
        pytest.skip("needs root, to become somebody else, and a Python that anybody can read")
    done = python(
        """
        import os
        from reward.sandbox import Call, run_calls
        program = '''
        import os, ctypes
        def tries(parent):
            done = []
            for name, action in {
                "kill": lambda: os.kill(parent, 9),
                "zygote": lambda: os.kill(os.getppid(), 9),
                "fork": os.fork,
                "read": lambda: open("/proc/self/environ").read(),
                "parent": lambda: open(f"/proc/{parent}/environ").read(),
                "list": lambda: os.listdir("/"),
            }.items():
                try:
                    action()
                    done.append(name)
                except OSError:
                    pass
            return done
        '''
        import textwrap
        calls = [Call("tries", [os.getpid()])]
        print(os.getuid(), run_calls(textwrap.dedent(program), calls).answers)
        """,
        interpreter=interpreter,
        user=65534,
        group=65534,
        env={},
    )
    if "SyntaxError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the system's Python is too old, or cannot read this repository")
    assert done.stdout.strip() == "65534 (Answer(value=[], error=''),)", done.stderr


def test_boxes_and_zygotes_end_with_a_parent_that_is_killed():
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from reward.sandbox import *; run_calls('while 1: pass', [], timeout_s=60)",
        ],
        cwd=ROOT,
    )
    try:
        deadline = time.monotonic() + 20
        while len(family := descendants(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert len(family) == 2
    deadline = time.monotonic() + 10
    while (
        left := [p for p in family if Path(f"/proc/{p}").exists()]
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def descendants(process: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(process)], capture_output=True, text=True, check=False
    )
    children = [int(line) for line in found.stdout.split()]
    return [*children, *(below for child in children for below in descendants(child))]


@pytest.mark.skipif(not (HEADERS / "asm-generic").is_dir(), reason="no kernel headers")
def test_the_numbers_of_system_calls_are_those_of_the_kernels_headers():
    listed = {**confine._ALLOWED, **confine._ALLOWED_UNLESS_EXECUTABLE}
    generic = (HEADERS / "asm-generic" / "unistd.h").read_text()
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", generic))
    assert {name: int(numbers[name]) for name in listed} == {
        n: pair[1] for n, pair in listed.items()
    }
    if platform.machine() == "x86_64":
        (path,) = HEADERS.glob("x86_64-linux-gnu/asm/unistd_64.h")
        numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", path.read_text()))
        assert {n: int(numbers[n]) for n in listed} == {n: pair[0] for n, pair in listed.items()}
