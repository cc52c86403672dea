"""What a disk refuses is told in a line, however a library says it; all else stays what it is."""

import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from pipeline.errors import InfrastructureError
from pipeline.files.disk_errors import disk_failure, one_line

_TOKENS = {str(number): number for number in range(5000)}
_WRITERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda path: save_file({"x": torch.zeros(9000)}, path),
    "torch": lambda path: torch.save({"x": torch.zeros(9000)}, path),
    "numpy": lambda path: np.zeros(9000).tofile(path),
    "tokenizers": lambda path: Tokenizer(models.WordLevel(_TOKENS, unk_token="0")).save(str(path)),
    "text": lambda path: path.write_text("x" * 9000),
}


@pytest.mark.parametrize("writer", _WRITERS)
def test_a_file_that_may_not_grow_is_told_whoever_writes_it(writer: str, tmp_path: Path) -> None:
    said = _in_a_child(lambda: _limited(lambda: _WRITERS[writer](tmp_path / "file"), tmp_path))
    assert said == (
        "here: a file would be larger than this process or file system allows; "
        "raise the limit (`ulimit -f`), then the same command again"
    )


@pytest.mark.parametrize("writer", _WRITERS)
def test_a_device_that_is_full_is_told(writer: str, tmp_path: Path) -> None:
    if writer == "safetensors":
        pytest.skip("it writes a file of another name beside the device and renames it")
    with pytest.raises(Exception) as raised:  # noqa: PT011  each library has its own
        _WRITERS[writer](Path("/dev/full"))
    told = disk_failure(raised.value, "here", folder=str(tmp_path))
    assert told is not None
    words = "could not be written whole" if writer in ("torch", "numpy") else "the disk is full"
    assert words in str(told)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no space left on device (os error 28)"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (28x4 and 5x2)"),
        KeyError("x"),
    ],
)
def test_what_is_not_the_disks_stays_what_it_is(error: Exception) -> None:
    assert disk_failure(error, "here") is None
    with pytest.raises(type(error)), one_line("here"):
        raise error


def test_the_file_is_named_and_the_cause_is_found_behind_another_error() -> None:
    failed = ValueError("cannot save")
    failed.__cause__ = OSError(errno.EROFS, os.strerror(errno.EROFS), "/some/file")
    told = disk_failure(failed, "here")
    assert told is not None
    assert str(told).startswith("/some/file: the file system is read-only; ")


def _limited(write: Callable[[], object], folder: Path) -> str:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        write()
    except Exception as error:  # noqa: BLE001  each library has its own
        return str(disk_failure(error, "here", folder=str(folder)))
    return "it was written"


def _in_a_child(attempt: Callable[[], str]) -> str:
    """Return what an attempt says in a forked process: a limit cannot always be lifted again."""
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(its, attempt().encode())
        finally:
            sys.stdout = sys.stderr = None
            os._exit(0)
    os.close(its)
    said = b""
    while block := os.read(ours, 4096):
        said += block
    os.close(ours)
    os.waitpid(child, 0)
    return said.decode()


def test_infrastructure_errors_leave_with_3() -> None:
    with pytest.raises(InfrastructureError) as raised, one_line("here"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert raised.value.exit_code == 3
    assert str(raised.value).startswith("here: the disk quota is used up; make room")
