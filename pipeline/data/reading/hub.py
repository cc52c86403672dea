"""Rows of a data set on the hub, at one commit. Imports `datasets` when rows are read."""

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pipeline.data.reading.files import Row
from pipeline.errors import InfrastructureError, PosttrainError

_COMMIT = re.compile("[0-9a-f]{40}")
_HINT = "check the network, or load it once where there is one: the local copy is used then"
_STREAM_HINT = (
    "check the network; a stream leaves no local copy, as reading without `streaming` does"
)


def hub_rows(name: str, subset: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """Yield the rows of a split; without a network, those of the local copy.

    revision: a branch, tag or commit. Raises InfrastructureError where the hub cannot be reached
    and the local copy is of a different commit.
    """
    from datasets import Dataset, load_dataset

    _refuse_folder(name)
    with hub_errors(name):
        loaded = load_dataset(name, subset, split=split, revision=revision)
    assert isinstance(loaded, Dataset)
    _check_revision(name, revision, [cached["filename"] for cached in loaded.cache_files])
    for number, fields in enumerate(loaded, 1):
        yield Row(f"{name}#{number}", cast("dict[str, Any]", fields))


def streamed_rows(name: str, subset: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """Yield the rows of a split as they come, in its order, without a local copy."""
    _refuse_folder(name)
    return stream(name, subset, split, revision)


def stream(name: str, subset: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """Yield the rows of a split of a hub data set, or of a folder of files, as they come."""
    from datasets import IterableDataset, load_dataset

    with hub_errors(
        name, _STREAM_HINT
    ):  # a file that breaks off on its way is met between two rows
        loaded = load_dataset(name, subset, split=split, revision=revision, streaming=True)
        assert isinstance(loaded, IterableDataset)
        for number, fields in enumerate(loaded, 1):
            yield Row(f"{name}#{number}", cast("dict[str, Any]", fields))


def _refuse_folder(name: str) -> None:
    """Raise PosttrainError for a name that load_dataset would read as a folder of this machine."""
    if Path(name).exists():
        raise PosttrainError(name, "there is a folder of this name here", "write `file:` for it")


@contextmanager
def hub_errors(name: str, hint: str = _HINT) -> Generator[None]:
    """Turn whatever loading a data set raises into one line for a user.

    name: of the data set. hint: where the hub cannot be reached.
    """
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    try:
        yield
    except (ConnectionError, TimeoutError, httpx.HTTPError, HfHubHTTPError) as error:
        raise InfrastructureError(name, f"the hub cannot be reached ({error})", hint) from error
    except (DatasetsError, FileNotFoundError, ValueError, RuntimeError) as error:
        raise PosttrainError(name, str(error).partition("\n")[0]) from error


def _check_revision(name: str, revision: str | None, files: Sequence[str]) -> None:
    """Refuse a local copy of a different commit: offline, datasets takes the newest that it has."""
    if revision is None or not _COMMIT.fullmatch(revision):
        return
    for file in files:
        commit = Path(file).parent.name
        if _COMMIT.fullmatch(commit) and commit != revision:
            message = f"the hub cannot be reached, and the local copy is of revision {commit[:12]}"
            raise InfrastructureError(name, f"{message}, not {revision[:12]}", "check the network")
