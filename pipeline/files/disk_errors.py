"""What a disk refuses (full, read-only, over a limit, broken), told as one line to act on.

Libraries disguise it. torch's zip writer says `unexpected pos 576 vs 534`, NumPy `300000 requested
and 0 written`, what is written in Rust `(os error 28)`, the last in an exception without a class of
its own. No torch here.
"""

import errno
import os
import re
import resource
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from pipeline.errors import InfrastructureError

_AGAIN = "then the same command again"
_MAKE_ROOM = f"make room (`posttrain clean` shows what no run refers to), {_AGAIN}"
_NOT_ALLOWED = f"change who may write there, or name another folder, {_AGAIN}"
_OTHER_PLACE = f"mount it for writing, or name another folder, {_AGAIN}"
_IN_THE_WAY = f"move it away, {_AGAIN}"
# What is said and what to do, by error number. A file that is not there is not among them: that is
# a slip of the user's, told where the file is named, or a bug of ours.
_WORDS = {
    0: (
        "a file could not be written whole",
        f"look for room, quotas and limits (`df`, `quota`, `ulimit -f`), {_AGAIN}",
    ),
    errno.ENOSPC: ("the disk is full", _MAKE_ROOM),
    errno.EDQUOT: ("the disk quota is used up", _MAKE_ROOM),
    errno.EFBIG: (
        "a file would be larger than this process or file system allows",
        f"raise the limit (`ulimit -f`), {_AGAIN}",
    ),
    errno.EROFS: ("the file system is read-only", _OTHER_PLACE),
    errno.EACCES: ("permission denied", _NOT_ALLOWED),
    errno.EPERM: ("not permitted", _NOT_ALLOWED),
    errno.EIO: ("the disk failed (input/output error)", f"look at the system's log, {_AGAIN}"),
    errno.EINTR: ("a system call was interrupted", "the same command again goes on"),
    errno.ESTALE: ("the file system has lost this file", f"mount it again, {_AGAIN}"),
    errno.EMFILE: ("too many files are open", f"raise the limit (`ulimit -n`), {_AGAIN}"),
    errno.ENFILE: ("too many files are open on this machine", f"end other programs, {_AGAIN}"),
    errno.ENAMETOOLONG: ("the name is too long", "use shorter names"),
    errno.ELOOP: ("links lead in a circle", _IN_THE_WAY),
    errno.EEXIST: ("something else is there already", _IN_THE_WAY),
    errno.ENOTDIR: ("a file is where a folder should be", _IN_THE_WAY),
    errno.EISDIR: ("a folder is where a file should be", _IN_THE_WAY),
    errno.ENOTEMPTY: ("a folder with something in it is in the way", _IN_THE_WAY),
    errno.EXDEV: ("it cannot be moved to another file system", "name a folder on the same one"),
    errno.EBUSY: ("it is in use", f"end what uses it, {_AGAIN}"),
    errno.EOPNOTSUPP: ("the file system cannot do this", "name a folder on another one"),
}
_NUMBER = re.compile(r"\((?:os error |errno )(\d+)\)|\[errno (\d+)\]", re.IGNORECASE)
# Classes whose text holds the number: safetensors', torch's, and Arrow's OSError without `errno`.
_QUOTING = frozenset({"SafetensorError", "RuntimeError", "OSError"})
_PATH = re.compile(r' at path "([^"]+)"')
# Of torch's zip writer and of NumPy, which do not say why a file could not be written.
_WITHOUT_REASON = re.compile(
    r"PytorchStreamWriter failed|unexpected pos \d+ vs \d+|iostream error"
    r"|open file failed with strerror|\d+ requested and \d+ written"
)
_FULL_BELOW_BYTES = 1 << 20


def disk_failure(
    error: BaseException, where: str, *, folder: str = ""
) -> InfrastructureError | None:
    """Return what to tell the user where a disk's refusal is behind an error; else None.

    where: what is named where the error names no file. folder: where was written, to find out why
    if the library did not say.
    """
    for cause in _causes(error):
        if isinstance(cause, ConnectionError | TimeoutError | ChildProcessError):
            continue
        number = _number_of(cause)
        if number is None and _WITHOUT_REASON.search(str(cause)):
            number = _likely_reason(folder)
        if number in _WORDS:
            message, hint = _WORDS[number]
            return InfrastructureError(_path_of(cause) or where, message, hint)
    return None


@contextmanager
def one_line(where: str) -> Generator[None]:
    """Raise InfrastructureError for what a disk refuses inside; as a decorator as well.

    where: what is named where the error names no file.
    """
    try:
        yield
    except OSError as error:
        failure = disk_failure(error, where)
        if failure is None:
            raise
        raise failure from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _number_of(error: BaseException) -> int | None:
    """Return the error number; of an exception of another library's the one in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if type(error) is not Exception and type(error).__name__ not in _QUOTING:
        return None  # it may quote whatever it likes
    quoted = _NUMBER.search(str(error))
    if quoted is not None:
        return int(quoted[1] or quoted[2])
    if "strerror: " not in str(error):
        return None
    reason = str(error).partition("strerror: ")[2]
    return next((number for number in _WORDS if reason.startswith(os.strerror(number))), None)


def _path_of(error: BaseException) -> str:
    if isinstance(error, OSError):
        named = error.filename2 or error.filename
        return os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else ""
    quoted = _PATH.search(str(error))
    return quoted[1] if quoted else ""


def _likely_reason(folder: str) -> int:
    """Return the number of why nothing more can be written there, 0 if it cannot be found out."""
    if folder:
        usage = os.statvfs(folder)
        if usage.f_bavail * usage.f_frsize < _FULL_BELOW_BYTES or usage.f_favail == 0:
            return errno.ENOSPC
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return errno.EFBIG if limited else 0
