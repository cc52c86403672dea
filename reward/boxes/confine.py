"""Locks the calling process in: no file, no network, no process, bounded memory and time.

Landlock denies every file and network operation (landlock(7)), seccomp every system call that is
not on a short list (seccomp(2)), resource limits bound the rest; as root the process becomes user
65534 as well. All by ctypes, none of it can be undone. It runs inside a box, between fork and the
untrusted program, and raises OSError where one of the locks is missing: there is no weaker mode.
Not a defence against bugs of the kernel, nor against measuring time.
"""

import ctypes
import errno
import os
import resource
import signal
import struct

# System calls that computing needs, by machine: x86-64, aarch64. Nothing here opens, names or
# signals anything: files that are not open already do not exist for the process.
_ALLOWED: dict[str, tuple[int, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
}
# Memory may be mapped, but never made executable: no machine code beyond what is loaded. `close` is
# not there either: a connection that ends means that the process has ended.
_ALLOWED_UNLESS_EXECUTABLE: dict[str, tuple[int, int]] = {"mmap": (9, 222), "mprotect": (10, 226)}
_AUDIT_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_MACHINES = ("x86_64", "aarch64")

_NOBODY = 65534

# linux/landlock.h: the rights that exist from each version (ABI) of Landlock on.
_LANDLOCK_FILE_BITS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1

# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h, linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_PRCTL_NAMES = {
    _PR_SET_PDEATHSIG: "to end a process with its parent",
    _PR_SET_DUMPABLE: "to close the memory of a process",
    _PR_SET_SECCOMP: "a seccomp filter",
    _PR_SET_NO_NEW_PRIVS: "no_new_privs",
}
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _THIRD_ARGUMENT_AT = 0, 4, 32
_PROT_EXEC = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(*, parent_pid: int, cpu_s: int, memory_bytes: int) -> None:
    """Lock this process in for good; it keeps its open files. It must have one thread only.

    parent_pid: the process it dies with. cpu_s: processor time after which it is killed.
    memory_bytes: its largest address space. Raises OSError, with a sentence, where the kernel does
    not offer one of the locks.
    """
    _limit_resources(cpu_s, memory_bytes)
    _drop_privileges()
    # After the change of user, which clears it. A parent that died before it is noticed by its id.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _deny_files_and_network()
    _filter_system_calls()


def landlock_version() -> int:
    """Return which version (ABI) of Landlock the kernel offers; below 1 for none."""
    return _syscall(_LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_CREATE_RULESET_VERSION)


def _limit_resources(cpu_s: int, memory_bytes: int) -> None:
    for limited, wanted in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(limited)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limited, (most, most))


def _drop_privileges() -> None:
    """Become nobody, if root, and give up every capability.

    In a container without other users root cannot become nobody; it is then the user who started
    the container, and like any user without capabilities.
    """
    if os.getuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    if _LIBC.capset(header, bytes(24)) != 0:
        raise _refused("capabilities cannot be given up")


def _deny_files_and_network() -> None:
    """Enter a Landlock domain that handles every right its version knows and grants none."""
    version = landlock_version()
    if version < 1:
        raise _refused("the kernel offers no Landlock (Linux 5.13 or later, enabled)")
    bits = _LANDLOCK_FILE_BITS_BY_ABI[min(version, max(_LANDLOCK_FILE_BITS_BY_ABI))]
    rights = [(1 << bits) - 1]
    if version >= 4:
        rights.append(0b11)  # to bind and to connect TCP
    if version >= 6:
        rights.append(0b11)  # abstract sockets and signals beyond this domain
    handled = (ctypes.c_uint64 * len(rights))(*rights)
    size = ctypes.sizeof(handled)
    ruleset = _syscall(_LANDLOCK_CREATE_RULESET, ctypes.addressof(handled), size, 0)
    if ruleset < 0:
        raise _refused("the kernel refuses a Landlock rule set")
    if _syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0) != 0:
        raise _refused("the kernel refuses to enforce Landlock")
    os.close(ruleset)


def _filter_system_calls() -> None:
    if _FILTER is None:
        raise OSError(errno.ENOSYS, f"no list of system calls for {os.uname().machine} processors")
    program = _Program(len(_FILTER) // 8, _FILTER)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _filter(machine: int) -> bytes:
    """Return the filter in classic BPF: system calls of the list pass, others fail with EPERM.

    Calls of another architecture (32-bit code on a 64-bit kernel) have other numbers: they kill.
    """
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for numbers in _ALLOWED.values():
        code += [(_JUMP_EQUAL, 0, 1, numbers[machine]), (_RETURN, 0, 0, _ALLOW)]
    for numbers in _ALLOWED_UNLESS_EXECUTABLE.values():
        code += [
            (_JUMP_EQUAL, 0, 4, numbers[machine]),
            (_LOAD, 0, 0, _THIRD_ARGUMENT_AT),
            (_JUMP_ANY_BIT, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    arguments = (ctypes.c_ulong(argument) for argument in (value, pointer, 0, 0))
    if _LIBC.prctl(option, *arguments) != 0:
        raise _refused(f"the kernel refuses {_PRCTL_NAMES[option]}")


def _syscall(number: int, *arguments: int) -> int:
    return _LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(given) for given in arguments))


def _refused(sentence: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{sentence}: {os.strerror(code)}")


# Made once, where boxes are forked from.
_LIBC = ctypes.CDLL(None, use_errno=True)
_FILTER = _filter(_MACHINES.index(os.uname().machine)) if os.uname().machine in _MACHINES else None
