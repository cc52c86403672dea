"""Programs that attack: what `attack` is passed, see `World` in sandbox_world.py.

`gained` in a program holds whatever an attempt gave it.
"""

SECRET = "tangerine-7151"
PRELUDE = """
import ctypes, os, signal, sys, time
gained = []
def attempt(function, *arguments):
    try:
        gained.append(repr(function(*arguments))[:300])
    except BaseException:
        pass
def syscall(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(0 if a is None else a) for a in (*arguments, *[0] * 6)[:6]]
    result = libc.syscall(ctypes.c_long(number), *given)
    return -ctypes.get_errno() if result == -1 else result
"""

ATTACKS = {
    "tcp": """
import socket
def attack(tcp, **_):
    attempt(lambda: socket.create_connection(("127.0.0.1", tcp)).send(b"x"))
""",
    "udp": """
import socket
def attack(udp, **_):
    sender = lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    attempt(lambda: sender().sendto(b"x", ("127.0.0.1", udp)))
""",
    "abstract_unix_socket": """
import socket
def attack(unix, **_):
    attempt(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + unix))
""",
    "fork": """
def attack(folder, **_):
    for _ in range(100):
        attempt(os.fork)
""",
    "fork_through_posix": """
import posix
def attack(folder, **_):
    attempt(posix.fork)
    attempt(posix.forkpty)
    attempt(posix.posix_spawn, "/bin/touch", ["touch", f"{folder}/spawned"], {})
""",
    "threads": """
import threading, _thread
def attack(**_):
    for _ in range(100):
        attempt(_thread.start_new_thread, time.sleep, (100,))
        attempt(threading.Thread(target=time.sleep, args=(100,)).start)
""",
    "one_large_allocation": """
def attack(**_):
    attempt(lambda: len(bytearray(4 << 30)))
""",
    "growing_memory": """
def attack(**_):
    held = []
    while True:
        held.append(bytearray(10_000_000))
""",
    "raised_limits": """
import resource
def attack(**_):
    most = resource.RLIM_INFINITY
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC):
        attempt(resource.setrlimit, limit, (most, most))
        attempt(resource.prlimit, 0, limit, (most, most))
    attempt(lambda: len(bytearray(4 << 30)))
""",
    "memory_in_files": """
def attack(**_):
    attempt(os.memfd_create, "held")
    attempt(os.pipe)
    attempt(os.eventfd, 0)
""",
    "temporary_files": """
def attack(**_):
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "."):
        for number in range(20):
            attempt(open, f"{place}/posttrain-attack-{number}", "w")
""",
    "directories": """
def attack(folder, **_):
    attempt(os.mkdir, f"{folder}/made")
    attempt(os.mknod, f"{folder}/node")
    attempt(os.mkfifo, f"{folder}/fifo")
""",
    "secret_file": """
def attack(secret, **_):
    attempt(lambda: open(secret).read())
    attempt(lambda: os.read(os.open(secret, os.O_RDONLY), 100))
    attempt(os.stat, secret)
    attempt(os.listdir, os.path.dirname(secret))
""",
    "system_files": """
def attack(project, **_):
    for path in ("/etc/passwd", "/etc/hostname", f"{project}/pyproject.toml", os.__file__):
        attempt(lambda: open(path).read())
        attempt(os.stat, path)
    attempt(os.listdir, "/")
    attempt(os.getcwd)
    attempt(os.uname)
""",
    "environments": """
def attack(parent, **_):
    for process in ("self", os.getppid(), parent, 1):
        for file in ("environ", "cmdline", "maps", "status"):
            attempt(lambda: open(f"/proc/{process}/{file}").read())
    gained.extend(value for value in os.environ.values() if "tangerine" in value)
""",
    "command_line": """
def attack(**_):
    gained.extend(word for word in sys.argv + sys.orig_argv if "tangerine" in word)
""",
    "imports_from_files": """
def attack(project, **_):
    sys.path.append(project)
    attempt(__import__, "pipeline")
    attempt(__import__, "torch")
    attempt(__import__, "tomllib")
""",
    "artifact": """
import shutil
def attack(artifact, **_):
    attempt(lambda: open(artifact, "w").write("x"))
    attempt(os.unlink, artifact)
    attempt(os.rename, artifact, artifact + "2")
    attempt(os.truncate, artifact, 0)
    attempt(os.chmod, artifact, 0)
    attempt(os.utime, artifact)
    attempt(shutil.rmtree, os.path.dirname(artifact))
""",
    "links": """
def attack(secret, artifact, folder, **_):
    attempt(os.symlink, secret, f"{folder}/soft")
    attempt(os.link, artifact, f"{folder}/hard")
""",
    "become_root": """
def attack(**_):
    attempt(os.setuid, 0)
    attempt(os.setresuid, 0, 0, 0)
    attempt(os.setgroups, [0])
""",
    "kill_parent": """
def attack(parent, **_):
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, 0):
        attempt(os.kill, parent, number)
""",
    "kill_zygote_and_all": """
def attack(**_):
    for process in (os.getppid(), 0, -1):
        attempt(os.kill, process, signal.SIGKILL)
    attempt(os.killpg, 0, signal.SIGKILL)
""",
    "kill_sibling": """
def attack(sibling, **_):
    attempt(os.kill, sibling, signal.SIGKILL)
    attempt(os.pidfd_open, sibling)
    attempt(os.setpriority, os.PRIO_PROCESS, sibling, 19)
    attempt(os.sched_setaffinity, sibling, {0})
""",
    "signal_by_file_owner": """
import fcntl
def attack(parent, **_):
    for descriptor in range(4):
        attempt(fcntl.fcntl, descriptor, fcntl.F_SETOWN, parent)
        attempt(fcntl.fcntl, descriptor, 10, signal.SIGKILL)  # F_SETSIG
        attempt(fcntl.fcntl, descriptor, fcntl.F_SETFL, os.O_ASYNC)
""",
    "daemon": """
def attack(folder, **_):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1)
            open(f"{folder}/daemon", "w")
""",
    "shell": """
def attack(folder, **_):
    gained.extend(code for code in [os.system(f"touch {folder}/shell")] if code == 0)
    attempt(os.popen, f"touch {folder}/shell")
""",
    "execve": """
def attack(folder, **_):
    attempt(os.execve, "/bin/touch", ["touch", f"{folder}/executed"], {})
    attempt(os.execv, "/bin/true", ["true"])
""",
    "native_system": """
def attack(folder, **_):
    code = ctypes.CDLL(None).system(f"touch {folder}/native".encode())
    gained.extend([code] if code == 0 else [])
""",
    "subprocess": """
def attack(folder, **_):
    attempt(lambda: __import__("subprocess").run(["touch", f"{folder}/sub"], check=True))
    attempt(lambda: __import__("multiprocessing").Process(target=print).start())
""",
    "machine_code": """
import mmap
def attack(**_):
    attempt(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
    attempt(ctypes.CFUNCTYPE(ctypes.c_int), lambda: 0)
    page = ctypes.CDLL(None).valloc
    page.restype = ctypes.c_void_p
    code = ctypes.CDLL(None).mprotect(ctypes.c_void_p(page(4096)), 4096, 7)
    gained.extend([code] if code == 0 else [])
""",
    "large_output": """
def attack(**_):
    for _ in range(20):
        os.write(1, b"x" * 10_000_000)
        os.write(2, b"x" * 10_000_000)
        print("y" * 10_000_000, file=sys.stderr)
""",
    "output_that_is_no_text": """
def attack(**_):
    os.write(1, bytes(range(256)) * 100)
    os.write(2, bytes(range(256)) * 100)
""",
    "large_result": """
def attack(**_):
    return ["x" * 50_000_000]
""",
    "deep_result": """
def attack(**_):
    result = []
    for _ in range(200_000):
        result = [result]
    return result
""",
    "endless_result": """
def attack(**_):
    result = []
    result.append(result)
    return result
""",
    "result_of_lone_surrogates": """
def attack(**_):
    return chr(0xD800) * 10
""",
    "bytes_for_the_parent": """
def attack(**_):
    os.write(3, b"\\xff" * 1_000_000)
""",
    "silence_then_bytes": """
def attack(**_):
    os.write(3, b"\\x00\\x00\\x00\\x30" + b"[" * 48)
    os._exit(0)
""",
    "closed_connection": """
def attack(**_):
    attempt(os.close, 3)
    attempt(os.dup2, 0, 3)
""",
    "segmentation_fault": """
def attack(**_):
    ctypes.string_at(0)
""",
    "abort": """
def attack(**_):
    os.abort()
""",
    "python_recursion": """
def attack(**_):
    sys.setrecursionlimit(10**9)
    def deeper():
        return deeper()
    return deeper()
""",
    "c_recursion": """
def attack(**_):
    sys.setrecursionlimit(10**9)
    nested = ()
    for _ in range(1_000_000):
        nested = (nested,)
    return hash(nested)
""",
    "folder_without_rights": """
def attack(folder, **_):
    attempt(os.chmod, ".", 0)
    attempt(os.chmod, folder, 0)
    attempt(os.chdir, "/")
    attempt(os.chroot, "/")
""",
    "source_that_is_no_program": "\x00 \ud800 (((",
    "source_that_is_too_deep": "x = " + "(" * 100_000,
}
ENDLESS = {
    "loop": "def attack(**_):\n    while True: pass",
    "loop_with_signals_ignored": """
def attack(**_):
    for number in range(1, 65):
        attempt(signal.signal, number, signal.SIG_IGN)
    while True: pass
""",
    "sleep": "def attack(**_):\n    time.sleep(1000)",
    "loop_in_c": "def attack(**_):\n    return sum(range(10**13))",
    "regular_expression": """
import re
def attack(**_):
    return re.match("(a+)+$", "a" * 50 + "b")
""",
    "loop_while_loading": "while True: pass",
}
# Whatever their arguments, these never succeed: kill, clone, execve, socket, ptrace and so on.
X86_SYSCALLS = """
    2 3 4 5 6 7 16 20 21 22 23 29 30 31 32 33 37 38 40 41 42 43 44 45 46 47 49 50 53 54 55 56 57 58
    59 60 61 62 63 64 65 66 68 69 70 71 72 73 74 76 77 78 79 80 82 83 84 85 86 87 88 89 90 91 92 93
    94 95 97 99 101 103 105 106 109 110 112 113 117 119 122 123 126 132 133 135 137 141 142 144 149
    154 155 157 158 160 161 162 163 164 165 166 167 168 169 170 171 172 173 175 176 179 187 188 199
    200 203 206 209 213 221 222 226 232 233 234 237 238 240 246 247 248 249 250 251 253 256 257 258
    259 260 262 263 264 265 266 267 268 269 270 271 272 273 275 276 278 279 280 281 282 283 284 285
    288 289 290 291 292 293 294 295 296 297 298 299 300 301 302 303 304 305 306 307 308 309 310 311
    312 313 314 315 316 317 319 320 321 322 323 324 325 326 327 328 329 330 331 332 424 425 426 427
    428 429 430 431 432 433 434 435 436 437 438 439 440 441 442 443 444 445 446 447 448 449 450
"""
